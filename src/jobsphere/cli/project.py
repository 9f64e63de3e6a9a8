"""``jobsphere project``: projects of a data directory, whether its server runs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.grants import grant_role, renamed, revoke_role, show_members
from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of
from jobsphere.cli.project_disk import app as disk
from jobsphere.domain.access import Scope
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.limits import human_size
from jobsphere.domain.quota import NAMES
from jobsphere.domain.resource import Project, with_quota

app = App(name="project", help="Projects: create, list, change, delete; who may do what; their disks.")
app.command(disk)


@app.command
def create(
    name: str,
    *,
    description: str = "",
    community_id: str = "",
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Create a project and print its id.

    Parameters
    ----------
    name
        1 to 63 of a-z, 0-9 and -, beginning with a letter.
    description
        What it is for.
    community_id
        The community to put it in; the oldest one if none is named.
    data_dir
        The data directory of the server.
    json_
        Print the whole project as JSON.
    """
    from jobsphere.wiring import desk

    project, _ = asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere project create",
            [("name", name), ("community_id", community_id)],
            lambda d, who: d.projects.create(who, name, description, community_id),
        )
    )
    print(json.dumps(_fields(project), indent=2) if json_ else project.id)  # noqa: T201


@app.command(name="list")
def list_(*, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False) -> None:
    """List all projects.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import desk

    projects = asyncio.run(desk.read(data_dir_of(data_dir), lambda d, _: d.projects.all()))
    show_all(projects, _fields, ("ID", "Name", "Community ID", "Created at", "Description"), _row, as_json=json_)


@app.command
def update(
    project_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    quota: Annotated[list[str] | None, Parameter(negative="")] = None,
    data_dir: DataDir = None,
) -> None:
    """Change a project's name, its description, or what it may have.

    Parameters
    ----------
    project_id
        Its id.
    name
        Its new name.
    description
        Its new description.
    quota
        What it may have: jobs=N stored, bytes=20GiB in files of jobs, datasets and its disk, running=N at a time,
        queued=N waiting for their turn; may be repeated. An empty one (jobs=) is as the server's settings say.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import desk

    edit, quotas = renamed(name, description), _quotas(quota or ())
    asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere project update",
            [("project_id", project_id), ("quota", ",".join(quota or ()))],
            lambda d, who: d.projects.update(who, project_id, lambda was: with_quota(edit(was), quotas)),
        )
    )


@app.command
def delete(project_id: str, *, data_dir: DataDir = None) -> None:
    """Delete a project with its jobs and their files; refused while jobs of it are under way.

    Parameters
    ----------
    project_id
        Its id.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import desk

    asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere project delete",
            [("project_id", project_id)],
            lambda d, who: d.projects.delete(who, project_id),
        )
    )


@app.command
def usage(
    project: ProjectId = "", *, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """Show what a project has, and what it may have.

    Environments and pulled images are shared by all projects, and counted to none.

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

    quota, used = asyncio.run(resources.project_usage(data_dir_of(data_dir), project))
    sizes, limits = used.sizes, quota.as_dict()
    rows: list[tuple[str, int, int | None]] = [
        ("jobs", used.jobs, limits.get("jobs")),
        ("running", used.running, limits.get("running")),
        ("queued", used.queued, limits.get("queued")),
        ("bytes", sizes.total, limits.get("bytes")),
        ("bytes in files of jobs", sizes.files, None),
        ("bytes in datasets", sizes.datasets, None),
        ("bytes on the disk", sizes.disk, None),
    ]
    show_all(
        rows,
        lambda row: {"what": row[0], "used": row[1], "quota": row[2]},
        ("What", "Used", "Quota"),
        _usage_row,
        as_json=json_,
    )


def _usage_row(row: tuple[str, int, int | None]) -> tuple[str, ...]:
    what, used, limit = row
    show = human_size if what.startswith("bytes") else str
    return what, show(used), "" if limit is None else show(limit)


@app.command
def grant(project_id: str, user: str, role: str, *, data_dir: DataDir = None) -> None:
    """Give a user or service account a role in a project.

    A viewer sees jobs and their files, a developer also runs them, an editor changes or deletes the project, an admin
    gives roles.

    Parameters
    ----------
    project_id
        The project's id.
    user
        The name or id of a user or service account.
    role
        viewer, developer, editor or admin; or a published name (datasphere.community-projects.developer).
    data_dir
        The data directory of the server.
    """
    grant_role(data_dir_of(data_dir), Scope.PROJECT, project_id, user, role)


@app.command
def revoke(project_id: str, user: str, role: str | None = None, *, data_dir: DataDir = None) -> None:
    """Take a role in a project away; a running server knows it within a second.

    Parameters
    ----------
    project_id
        The project's id.
    user
        The name or id of a user or service account.
    role
        As for grant; all of theirs if none is named.
    data_dir
        The data directory of the server.
    """
    revoke_role(data_dir_of(data_dir), Scope.PROJECT, project_id, user, role)


@app.command
def members(
    project_id: str, *, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """Show who has which role in a project; those of its community count too.

    Parameters
    ----------
    project_id
        The project's id.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    show_members(data_dir_of(data_dir), Scope.PROJECT, project_id, json_)


def _quotas(texts: Sequence[str]) -> dict[str, str]:
    found = [text.partition("=") for text in texts]
    for name, between, _ in found:
        if not between:
            raise InvalidArgumentError(f"quota {name!r}: is to be NAME=VALUE; the names are: {', '.join(NAMES)}")
    return {name: value for name, _, value in found}


def _fields(project: Project) -> dict[str, object]:
    return {
        "id": project.id,
        "name": project.name,
        "community_id": project.community_id,
        "description": project.description,
        "created_at": project.created_at.isoformat(),
        "created_by_id": project.created_by_id,
        "quota": project.quota.as_dict(),
    }


def _row(project: Project) -> tuple[str, ...]:
    made = f"{project.created_at:%Y-%m-%d %H:%M}"
    return project.id, project.name, project.community_id, made, project.description
