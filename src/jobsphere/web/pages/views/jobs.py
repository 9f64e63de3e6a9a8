"""A project's jobs."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from aiohttp import web

from jobsphere.domain.job import JobStatus
from jobsphere.web.pages.visit import Visit

_LINK = re.compile(r"https?://\S+/job/([0-9a-z]{1,64})/?")
GROUPS = {
    "live": (JobStatus.PREPARING, JobStatus.EXECUTING, JobStatus.UPLOADING_OUTPUT, JobStatus.CANCELLING),
    "failed": (JobStatus.ERROR,),
    "done": (JobStatus.SUCCESS,),
    "cancelled": (JobStatus.CANCELLED,),
    "new": (JobStatus.CREATING,),
}


async def index(visit: Visit) -> web.Response:
    """A page of jobs; with ``part``, only the table, for a page that is open."""
    text, group, token = visit.asked("q"), visit.asked("status"), visit.asked("page")
    if match := _LINK.fullmatch(text.strip()):
        return visit.go(f"/jobs/{match[1]}")
    project = await visit.behind.board.project(visit.who, visit.at["project"])
    found = await visit.behind.board.find(visit.who, project.id, GROUPS.get(group), text, token)
    names = {job.created_by_id: await visit.behind.board.name_of(job.created_by_id) for job in found.jobs}
    asked = {name: value for name, value in (("q", text), ("status", group)) if value}
    older = f"?{urlencode(asked | {'page': found.next_token})}" if found.next_token else ""
    return visit.page(
        "_jobs.html" if visit.asked("part") else "jobs.html",
        project=project,
        jobs=found.jobs,
        names=names,
        text=text,
        group=group,
        groups=GROUPS,
        older=older,
        first=f"?{urlencode(asked)}" if token else "",
        searched_on=bool(text and found.next_token),
        part=f"?{urlencode(asked | {'part': '1'} | ({'page': token} if token else {}))}",
        wide=True,
    )


async def from_the_link(visit: Visit) -> web.Response:
    """A project, under the path that the vendor's pages have for it."""
    return visit.go(f"/projects/{visit.at['project']}")
