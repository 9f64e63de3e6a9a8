"""What a project gives to its jobs. A secret's value goes in and is never shown."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from jobsphere.web.pages.visit import Visit


async def index(visit: Visit) -> web.Response:
    """All resources of a project."""
    behind, project_id = visit.behind, visit.at["project"]
    project = await behind.board.project(visit.who, project_id)
    secrets = await behind.secrets.all(visit.who, project_id)
    return visit.page(
        "resources.html",
        project=project,
        secrets=secrets,
        names={s.created_by_id: await behind.board.name_of(s.created_by_id) for s in secrets},
        datasets=await behind.datasets.all(visit.who, project_id),
        images=await behind.images.all(visit.who, project_id),
        connectors=await behind.connectors.all(visit.who, project_id),
        sparks=await behind.sparks.all(visit.who, project_id),
        wide=True,
    )


async def set_secret(visit: Visit) -> web.Response:
    """Make a secret, or give it another value."""
    form = await visit.form()
    project_id, name = visit.at["project"], form.get("name", "").strip()
    async with _audited(visit, "set", name):
        # A browser sends the lines of a text area ended by CR LF; keys and certificates have LF.
        value = form.get("value", "").replace("\r\n", "\n")
        await visit.behind.secrets.set(visit.who, project_id, name, value)
    return visit.go(f"/projects/{project_id}/resources")


async def delete_secret(visit: Visit) -> web.Response:
    """Remove a secret."""
    await visit.form()
    async with _audited(visit, "delete", visit.at["name"]):
        await visit.behind.secrets.delete(visit.who, visit.at["project"], visit.at["name"])
    return visit.go(f"/projects/{visit.at['project']}/resources")


def _audited(visit: Visit, verb: str, name: str) -> AbstractAsyncContextManager[None]:
    ids = [("project_id", visit.at["project"]), ("name", name)]
    return visit.behind.audited(visit.who, f"secret {verb}", ids, visit.origin)
