"""One job: what it is, how it goes, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from jobsphere.domain.job import DEFAULT_SIGNAL, Job, JobStatus
from jobsphere.domain.text import readable
from jobsphere.web.pages.views.files import files_of
from jobsphere.web.pages.visit import Visit


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a job's way. ``state`` is ``done``, ``now``, ``next`` or ``failed``."""

    name: str
    at: datetime | None
    state: str


async def show(visit: Visit) -> web.Response:
    """The page of a job."""
    behind = visit.behind
    family = await behind.board.family(visit.who, visit.at["job"])
    project = await behind.board.project(visit.who, family.job.project_id)
    datasets = {d.id: d for d in await behind.datasets.all(visit.who, project.id)}
    return visit.page(
        "job.html",
        family=family,
        project=project,
        datasets=datasets,
        wide=True,
        **await _live_values(visit, family.job),
    )


async def live(visit: Visit) -> web.Response:
    """The part of the page that changes while the job goes on."""
    job = await visit.behind.board.job(visit.who, visit.at["job"])
    return visit.page("_job.html", **await _live_values(visit, job))


async def from_the_link(visit: Visit) -> web.Response:
    """The job of the link that the vendor's CLI prints."""
    return visit.go(f"/jobs/{visit.at['job']}")


async def execute(visit: Visit) -> web.Response:
    """Start it."""
    await visit.form()
    await visit.call("ProjectJobService/Execute", {"jobId": visit.at["job"]})
    return visit.go(f"/jobs/{visit.at['job']}")


async def cancel(visit: Visit) -> web.Response:
    """End it, at once or its own way."""
    form = await visit.form()
    request = {"jobId": visit.at["job"], "graceful": form.get("how") == "graceful", "reason": form.get("reason", "")}
    await visit.call("ProjectJobService/Cancel", request)
    return visit.go(f"/jobs/{visit.at['job']}")


async def delete(visit: Visit) -> web.Response:
    """Delete it with its files."""
    await visit.form()
    job = await visit.behind.board.job(visit.who, visit.at["job"])
    await visit.call("ProjectJobService/Delete", {"jobId": job.id})
    return visit.go(f"/projects/{job.project_id}")


async def ask_fork(visit: Visit) -> web.Response:
    """The form for a fork."""
    job = await visit.behind.board.job(visit.who, visit.at["job"])
    types = visit.behind.board.types()
    return visit.page("fork.html", job=job, types=types)


async def fork(visit: Visit) -> web.Response:
    """Make a fork of what was changed in the form, and start it."""
    form = await visit.form()
    job = await visit.behind.board.job(visit.who, visit.at["job"])
    made = await visit.call("ProjectJobService/Clone", clone_request(job, form))
    new_id = made["response"]["jobId"]
    await visit.call("ProjectJobService/Execute", {"jobId": new_id})
    return visit.go(f"/jobs/{new_id}")


def clone_request(job: Job, form: dict[str, str]) -> dict[str, Any]:
    """What the form changes, as the API wants to hear it."""
    overrides: dict[str, Any] = {}
    command = _meant(job.spec.cmd, form.get("cmd"))
    if command != job.spec.cmd:
        overrides["cmd"] = command
    meant = {a.name: _meant(a.value, form.get(f"argument {a.name}")) for a in job.spec.arguments}
    changed = [{"name": a.name, "value": meant[a.name]} for a in job.spec.arguments if meant[a.name] != a.value]
    if changed:
        overrides["arguments"] = changed
    if form.get("type") and (form["type"],) != job.spec.instance_types:
        overrides["cloudInstanceTypes"] = [{"name": form["type"]}]
    request = {
        "sourceJobId": job.id,
        "name": _meant(job.name, form.get("name")),
        "jobParametersOverrides": overrides,
    }
    return request | ({"dataTtl": f"{int(job.data_ttl.total_seconds())}s"} if job.data_ttl else {})


def _meant(was: str, sent: str | None) -> str:
    """What somebody left in a field that showed ``was``: the same, if it is as it was shown.

    A browser ends lines by CR LF.
    """
    if sent is None:
        return was
    sent = sent.replace("\r\n", "\n")
    return was if sent == readable(was) else sent


async def _live_values(visit: Visit, job: Job) -> dict[str, Any]:
    return {
        "job": job,
        "steps": steps_of(job),
        "who": await visit.behind.board.name_of(job.created_by_id),
        "files": files_of(job),
        "graceful": job.spec.graceful_shutdown is not None,
        "default_signal": DEFAULT_SIGNAL,
    }


def steps_of(job: Job) -> list[Step]:
    """The way of the job so far, and what is to come."""
    placed = job.attempt.created_at if job.attempt else None
    known = (
        ("Created", job.created_at),
        ("Placed on " + job.attempt.node if job.attempt else "Placed", placed),
        ("Program started", job.started_at),
        ("Program ended", job.finished_at if job.started_at else None),
    )
    steps = [Step(name, at, "done") for name, at in known if at]
    if job.cancel is not None:
        steps.append(Step("Cancel asked for", job.cancel.requested_at, "done"))
    if job.status.terminal:
        state = "done" if job.status is JobStatus.SUCCESS else "failed"
        return [*steps, Step(job.status.value.capitalize(), None if job.started_at else job.finished_at, state)]
    return [*_with_current(steps, job), Step("Result", None, "next")]


def _with_current(steps: list[Step], job: Job) -> list[Step]:
    names = {
        JobStatus.CREATING: "Waits for Execute",
        JobStatus.PREPARING: "Preparing" if job.attempt else "Waiting",
        JobStatus.EXECUTING: "Running",
        JobStatus.UPLOADING_OUTPUT: "Collecting outputs",
        JobStatus.CANCELLING: "Cancelling",
    }
    return [*steps, Step(names[job.status], None, "now")]
