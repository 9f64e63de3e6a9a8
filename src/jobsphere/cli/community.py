"""``jobsphere community``: communities of a data directory, whether its server runs or not."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.grants import grant_role, renamed, revoke_role, show_members
from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.access import Scope
from jobsphere.domain.resource import Community

app = App(name="community", help="Communities: teams that own projects. Create, list, change, delete; who may do what.")


@app.command
def create(
    name: str,
    *,
    description: str = "",
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Create a community and print its id.

    Parameters
    ----------
    name
        1 to 63 characters.
    description
        What it is for.
    data_dir
        The data directory of the server.
    json_
        Print the whole community as JSON.
    """
    from jobsphere.wiring import desk

    community, _ = asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere community create",
            [("name", name)],
            lambda d, who: d.communities.create(who, name, description),
        )
    )
    print(json.dumps(_fields(community), indent=2) if json_ else community.id)  # noqa: T201


@app.command(name="list")
def list_(*, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False) -> None:
    """List all communities.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import desk

    found = asyncio.run(desk.read(data_dir_of(data_dir), lambda d, who: d.communities.all(who)))
    show_all(found, _fields, ("ID", "Name", "Created at", "Description"), _row, as_json=json_)


@app.command
def update(
    community_id: str, *, name: str | None = None, description: str | None = None, data_dir: DataDir = None
) -> None:
    """Change a community's name or description.

    Parameters
    ----------
    community_id
        Its id.
    name
        Its new name.
    description
        Its new description.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import desk

    asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere community update",
            [("community_id", community_id)],
            lambda d, who: d.communities.update(who, community_id, renamed(name, description)),
        )
    )


@app.command
def delete(community_id: str, *, data_dir: DataDir = None) -> None:
    """Delete a community that has no projects.

    Parameters
    ----------
    community_id
        Its id.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import desk

    asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere community delete",
            [("community_id", community_id)],
            lambda d, who: d.communities.delete(who, community_id),
        )
    )


@app.command
def grant(community_id: str, user: str, role: str, *, data_dir: DataDir = None) -> None:
    """Give a user or service account a role in a community, and by that in its projects.

    A viewer sees the projects, a developer also creates new ones, an editor and an admin are that in each project.

    Parameters
    ----------
    community_id
        The community's id.
    user
        The name or id of a user or service account.
    role
        viewer, developer, editor or admin; or a published name, also one about projects
        (datasphere.community-projects.developer), which then counts in each project.
    data_dir
        The data directory of the server.
    """
    grant_role(data_dir_of(data_dir), Scope.COMMUNITY, community_id, user, role)


@app.command
def revoke(community_id: str, user: str, role: str | None = None, *, data_dir: DataDir = None) -> None:
    """Take a role in a community away; a running server knows it within a second.

    Parameters
    ----------
    community_id
        The community's id.
    user
        The name or id of a user or service account.
    role
        As for grant; all of theirs if none is named.
    data_dir
        The data directory of the server.
    """
    revoke_role(data_dir_of(data_dir), Scope.COMMUNITY, community_id, user, role)


@app.command
def members(
    community_id: str, *, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """Show who has which role in a community.

    Parameters
    ----------
    community_id
        The community's id.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    show_members(data_dir_of(data_dir), Scope.COMMUNITY, community_id, json_)


def _row(community: Community) -> tuple[str, ...]:
    return community.id, community.name, f"{community.created_at:%Y-%m-%d %H:%M}", community.description


def _fields(community: Community) -> dict[str, object]:
    return {
        "id": community.id,
        "name": community.name,
        "description": community.description,
        "labels": dict(community.labels),
        "created_at": community.created_at.isoformat(),
        "created_by_id": community.created_by_id,
    }
