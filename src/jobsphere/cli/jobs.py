"""``jobsphere jobs|logs|cancel|files``: look at jobs and have a hand in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from jobsphere.cli.connecting import JobId, ThisProject, connected, the_job
from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json
from jobsphere.domain.job import JobStatus
from jobsphere.domain.limits import human_size

if TYPE_CHECKING:
    from jobsphere.client import FileFacts, JobFacts

app = App(name="jobs", help="List the jobs of a project, look at one, delete one.")


@app.default
def list_(
    *,
    status: Annotated[Sequence[JobStatus], Parameter(negative="")] = (),
    limit: int = 20,
    project: ThisProject = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
    data_dir: DataDir = None,
) -> None:
    """List jobs, the newest first.

    Parameters
    ----------
    status
        Only those in this status; may be repeated.
    limit
        How many at most.
    """
    from rich.table import Column

    with connected(data_dir, project) as client:
        facts = [job.facts for job in islice(client.jobs(status), limit)]
    show_all(
        facts,
        _fields,
        (Column("id", no_wrap=True, min_width=20), "name", "status", "created", "took", "instance type"),
        lambda one: (one.id, one.name, str(one.status), _when(one), one.took, one.instance_type),
        as_json=json_,
    )


@app.command
def show(
    job_id: JobId = "",
    /,
    *,
    project: ThisProject = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show all that is known of a job."""
    from rich.console import Console
    from rich.table import Table

    with connected(data_dir, project) as client:
        facts = the_job(client, job_id).facts
    if json_:
        print(json.dumps(_fields(facts), indent=2))  # noqa: T201
        return
    table = Table(show_header=False, box=None)
    for name, value in _fields(facts).items():
        if name != "files" and value not in ("", None):
            table.add_row(name.replace("_", " "), str(value))
    console = Console(highlight=False)
    console.print(table)
    console.print(_table(facts.files))


@app.command
def delete(job_id: str, /, *, project: ThisProject = None, data_dir: DataDir = None) -> None:
    """Delete a job that has ended, with all its data."""
    with connected(data_dir, project) as client:
        client.job(job_id).delete()


def logs(
    job_id: JobId = "",
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative="")] = False,
    system: Annotated[bool, Parameter(negative="")] = False,
    project: ThisProject = None,
    data_dir: DataDir = None,
) -> None:
    """Print what a job has written: its stdout on stdout, its stderr on stderr.

    Parameters
    ----------
    follow
        Go on until the job ends. Ctrl-C leaves; the job goes on.
    system
        Also print what the server did for it, on stderr.
    """
    from jobsphere.cli.following import print_message

    with connected(data_dir, project) as client:
        for message in the_job(client, job_id).logs(follow=follow):
            print_message(message, with_system=system)


def cancel(
    job_id: str,
    /,
    *,
    graceful: Annotated[bool, Parameter(negative="")] = False,
    reason: str = "",
    project: ThisProject = None,
    data_dir: DataDir = None,
) -> None:
    """Stop a job.

    Parameters
    ----------
    graceful
        By the signal and with the patience that its config names; otherwise it is killed.
    reason
        Why; kept with the job.
    """
    with connected(data_dir, project) as client:
        client.job(job_id).cancel(graceful=graceful, reason=reason)


def files(
    job_id: JobId = "",
    /,
    *paths: str,
    download: Annotated[bool, Parameter(name=("--download", "-d"), negative="")] = False,
    logs: Annotated[bool, Parameter(negative="")] = False,
    to: Path = Path(),
    project: ThisProject = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
    data_dir: DataDir = None,
) -> None:
    """List the files of a job, or bring them here.

    Parameters
    ----------
    paths
        The files to bring, by path or variable. Default: all outputs.
    download
        Bring them instead of listing.
    logs
        Bring logs and diagnostics too.
    to
        The folder that they go to.
    """
    from jobsphere.cli.following import download as bring

    with connected(data_dir, project) as client:
        job = the_job(client, job_id)
        if download or paths:
            bring(job, to, paths, logs=logs)
            return
        found = job.facts.files
    if json_:
        print(json.dumps([asdict(one) for one in found], indent=2))  # noqa: T201
        return
    from rich.console import Console

    Console(highlight=False).print(_table(found))


def _table(found: Sequence[FileFacts]) -> Any:
    from rich.table import Table

    table = Table("kind", "path", "variable", "size")
    for one in found:
        table.add_row(one.kind, one.path + ("/" if one.is_folder else ""), one.var, human_size(one.size))
    return table


def _fields(facts: JobFacts) -> dict[str, object]:
    plain = asdict(facts)
    for name in ("created_at", "started_at", "finished_at"):
        plain[name] = plain[name] and plain[name].isoformat()
    return plain


def _when(facts: JobFacts) -> str:
    return f"{facts.created_at.astimezone():%Y-%m-%d %H:%M:%S}" if facts.created_at else ""
