"""``jobsphere secret``: the secrets of a project, whether the server runs or not. No value is ever in an argument."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of, hidden_value
from jobsphere.domain.resources import Resource, Secret

app = App(name="secret", help="Set, list and delete the secrets that jobs get as environment variables.")


@app.command(name="set")
def set_(name: str, *, project: ProjectId = "", from_file: Path | None = None, data_dir: DataDir = None) -> None:
    """Set a secret: its value comes from a hidden prompt, from stdin, or from a file.

    One line end at the end of the value does not belong to it. Jobs that start from now on get it as a variable.

    Parameters
    ----------
    name
        1 to 63 of 0-9, A-Z, a-z, _ and -.
    project
        The id of the project; by default the first one.
    from_file
        The file that holds the value.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    value = hidden_value(f"Value of {name}", from_file)
    asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere secret set",
            project,
            name,
            lambda op, who, p: op.secrets.set(who, p, name, value),
        )
    )
    print(f"Secret {name} is set; jobs that start from now on get it.", file=sys.stderr)  # noqa: T201


@app.command(name="list")
def list_(
    *, project: ProjectId = "", data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """List the secrets of a project, without their values.

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

    secrets = asyncio.run(resources.read(data_dir_of(data_dir), project, lambda op, who, p: op.secrets.all(who, p)))
    show_all(secrets, _fields, ("Name", "Set at (UTC)", "Created by"), _row, as_json=json_)


@app.command
def delete(name: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Delete a secret; refused while jobs that are under way name it.

    Parameters
    ----------
    name
        Which one.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere secret delete",
            project,
            name,
            lambda op, who, p: op.secrets.delete(who, p, name),
        )
    )


@app.command
def rotate_keys(
    *,
    new_key: Annotated[bool, Parameter(negative="")] = False,
    drop_old: Annotated[bool, Parameter(negative="")] = False,
    data_dir: DataDir = None,
) -> None:
    """Seal all secrets anew with the first of the keys. It may be broken off and repeated; the server may run.

    Parameters
    ----------
    new_key
        Make a new key first, in the key file.
    drop_old
        Take the other keys out of the key file afterwards.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    done = asyncio.run(resources.rotate_keys(data_dir_of(data_dir), fresh=new_key, drop_old=drop_old))
    print(f"Sealed anew: {done.changed} of {done.found}; the others were sealed with that key.")  # noqa: T201


def _fields(secret: Resource[Secret]) -> dict[str, str]:
    return {
        "id": secret.id,
        "name": secret.name,
        "project_id": secret.project_id,
        "created_at": secret.created_at.isoformat(),
        "created_by_id": secret.created_by_id,
        "updated_at": secret.body.updated_at.isoformat(),
    }


def _row(secret: Resource[Secret]) -> tuple[str, ...]:
    return secret.name, f"{secret.body.updated_at:%Y-%m-%d %H:%M}", secret.created_by_id
