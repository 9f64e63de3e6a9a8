"""The server itself: the queue and the nodes, the cache of environments, the audit log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from aiohttp import web

from jobsphere.domain.audit import AuditQuery
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.service.access import only_operator
from jobsphere.web.pages.visit import Visit

_ROWS = 200


async def queue(visit: Visit) -> web.Response:
    """Who runs with what, who waits for what, and what is free."""
    template = "_queue.html" if visit.asked("part") else "queue.html"
    board = visit.behind.board
    leader = await visit.behind.leader() if visit.who.operator else None
    return visit.page(template, queue=await board.queue(visit.who), types=board.types(), leader=leader, wide=True)


async def environments(visit: Visit) -> web.Response:
    """The built environments, the images that jobs pulled, and what they take."""
    only_operator(visit.who, "see the environments of all projects")
    found = await asyncio.to_thread(visit.behind.environments)
    used = sum(environment.size_bytes for environment in found)
    images = await asyncio.to_thread(visit.behind.pulled_images)
    return visit.page(
        "environments.html",
        environments=found[::-1],
        used=used,
        budget=visit.behind.environment_budget_bytes,
        images=images[::-1],
        images_used=sum(image.size_bytes for image in images),
        images_budget=visit.behind.image_budget_bytes,
        wide=True,
    )


async def audit(visit: Visit) -> web.Response:
    """The newest rows of the audit log that fit."""
    query = AuditQuery(
        visit.asked("project"), visit.asked("subject"), _since(visit.asked("since")), visit.asked("action"), _ROWS
    )
    rows = await visit.behind.audit.find(visit.who, query)
    return visit.page("audit.html", rows=rows, query=query, since=visit.asked("since"), limit=_ROWS, wide=True)


def _since(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidArgumentError("since: must be a day, as 2026-01-31") from None
