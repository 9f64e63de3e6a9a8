"""``jobsphere project``: projects of a data directory, whether its server runs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.cli.project_disk import app as disk
from jobsphere.domain.resource import Project

if TYPE_CHECKING:
    from rich.table import Table

app = App(name="project", help="Create and list projects, and manage their disks.")
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
        The community to put it in; the first project's if none is named.
    data_dir
        The data directory of the server.
    json_
        Print the whole project as JSON.
    """
    from jobsphere import wiring

    project = asyncio.run(wiring.create_project(data_dir_of(data_dir), name, description, community_id))
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
    from rich.console import Console

    from jobsphere import wiring

    projects = asyncio.run(wiring.list_projects(data_dir_of(data_dir)))
    if json_:
        print(json.dumps([_fields(p) for p in projects], indent=2))  # noqa: T201
    else:
        Console().print(_table(projects))


def _fields(project: Project) -> dict[str, str]:
    return {
        "id": project.id,
        "name": project.name,
        "community_id": project.community_id,
        "description": project.description,
        "created_at": project.created_at.isoformat(),
        "created_by_id": project.created_by_id,
    }


def _table(projects: Sequence[Project]) -> Table:
    from rich.table import Table

    table = Table("ID", "Name", "Community ID", "Created at", "Description")
    for p in projects:
        table.add_row(p.id, p.name, p.community_id, f"{p.created_at:%Y-%m-%d %H:%M}", p.description)
    return table
