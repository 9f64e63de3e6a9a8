"""``jobsphere image``: images that jobs name by an id, and those that jobs pulled, whether the server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of, hidden_value
from jobsphere.domain.limits import human_size
from jobsphere.domain.resources import DockerImage, Resource
from jobsphere.runner.image_eviction import PulledImage

app = App(
    name="image",
    help="Name Docker images, with their logins, for jobs; list and remove those that jobs pulled.",
)


@app.command
def add(
    name: str,
    image: str,
    *,
    username: str = "",
    password_secret: str = "",
    password_file: Path | None = None,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Name an image and print its id: jobs write `docker: ID` or `docker: NAME`.

    With a user name and no password_secret the password comes from a hidden prompt, from stdin, or from a file.

    Parameters
    ----------
    name
        1 to 63 of 0-9, A-Z, a-z, ., _ and -.
    image
        Its reference, as registry/name:tag.
    username
        Who logs in at the registry.
    password_secret
        The secret of the project that holds the password. Jobs get it as a variable, as all secrets.
    password_file
        The file that holds the password.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    asked = password_file is not None or (username and not password_secret)
    password = hidden_value(f"Password of {username}", password_file) if asked else ""
    added = asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere image add",
            project,
            name,
            lambda op, who, p: op.images.add(who, p, name, image, username, password_secret, password),
        )
    )
    print(added.id)  # noqa: T201


@app.command(name="list")
def list_(
    *, project: ProjectId = "", data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """List the images of a project; those of the settings file, which all projects have, are not among them.

    Parameters
    ----------
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import resources

    images = asyncio.run(resources.read(data_dir_of(data_dir), project, lambda op, who, p: op.images.all(who, p)))
    show_all(images, _fields, ("ID", "Name", "Image", "User", "Created at (UTC)"), _row, as_json=json_)


@app.command
def delete(image: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Forget an image; refused while jobs that are under way name it.

    Parameters
    ----------
    image
        Its id or its name.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere image delete",
            project,
            image,
            lambda op, who, p: op.images.delete(who, p, image),
        )
    )


@app.command
def pulled(*, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False) -> None:
    """List the images that jobs of all projects pulled, the one least lately used first.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import environments as built

    _show_pulled(built.list_images(data_dir_of(data_dir)), json_)


@app.command
def prune(
    *, max_gb: float | None = None, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """Remove pulled images that no job uses, the one least lately used first, until the rest fits; print what went.

    Only what jobs of this server pulled goes: images that came otherwise to podman or docker are not touched.

    Parameters
    ----------
    max_gb
        How much may stay, in GiB; by default the server's setting image_cache_gb. 0 removes all that are unused.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import environments as built

    _show_pulled(built.prune_images(data_dir_of(data_dir), max_gb), json_)


def _show_pulled(images: Sequence[PulledImage], as_json: bool) -> None:
    columns = ("Image", "Image ID", "Size", "Last used (UTC)", "In use")
    show_all(images, _pulled_fields, columns, _pulled_row, as_json=as_json)


def _pulled_fields(image: PulledImage) -> dict[str, object]:
    return {
        "image": image.reference,
        "image_id": image.image_id,
        "size_bytes": image.size_bytes,
        "last_used": image.last_used.isoformat(),
        "in_use": image.in_use,
        "complete": image.complete,
    }


def _pulled_row(image: PulledImage) -> tuple[str, ...]:
    state = ("yes" if image.in_use else "no") if image.complete else "being pulled" if image.in_use else "broken off"
    used = f"{image.last_used:%Y-%m-%d %H:%M}"
    return image.reference, image.image_id[:12], human_size(image.size_bytes), used, state


def _fields(image: Resource[DockerImage]) -> dict[str, str]:
    return {
        "id": image.id,
        "name": image.name,
        "project_id": image.project_id,
        "image": image.body.reference,
        "username": image.body.username,
        "password_secret": image.body.password_secret,
        "created_at": image.created_at.isoformat(),
        "created_by_id": image.created_by_id,
    }


def _row(image: Resource[DockerImage]) -> tuple[str, ...]:
    body, made = image.body, f"{image.created_at:%Y-%m-%d %H:%M}"
    return image.id, image.name, body.reference, body.username, made
