"""``jobsphere run`` and ``jobsphere fork``: a job from its files to its outputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobsphere.cli.connecting import JobId, ThisProject, connected, the_job
from jobsphere.cli.options import DataDir
from jobsphere.domain.errors import InvalidArgumentError

if TYPE_CHECKING:
    from jobsphere.client import Job

Detach = Annotated[bool, Parameter(name=("--detach", "-d"), negative="", help="Start it, print its id and leave.")]
To = Annotated[Path, Parameter(help="The folder that its outputs go to.")]


def run(
    config: Path = Path("config.yaml"),
    /,
    *,
    name: str = "",
    detach: Detach = False,
    to: To = Path(),
    project: ThisProject = None,
    data_dir: DataDir = None,
) -> None:
    """Run the job of a config file: send its files, show its log, bring its outputs.

    Ctrl-C cancels the job, gracefully if its config says how; again, it is killed. The exit code is the program's own,
    or 1 if the job failed otherwise.

    Parameters
    ----------
    config
        The job, as DataSphere has it; paths in it are relative to the working directory.
    name
        Its name, instead of the config's.
    """
    from jobsphere.cli.following import Bars

    with connected(data_dir, project) as client:
        with Bars("up") as bars:
            job = client.run(config, name=name, progress=bars)
        _carry_on(job, detach, to)


def fork(
    job_id: JobId = "",
    /,
    *,
    arg: Annotated[Sequence[str], Parameter(negative="")] = (),
    file: Annotated[Sequence[str], Parameter(negative="")] = (),
    env: Annotated[Sequence[str], Parameter(negative="")] = (),
    image: str = "",
    instance_type: Annotated[Sequence[str], Parameter(negative="")] = (),
    name: str = "",
    detach: Detach = False,
    to: To = Path(),
    project: ThisProject = None,
    data_dir: DataDir = None,
) -> None:
    """Run a job again with something changed: nothing that the server holds is sent again.

    Parameters
    ----------
    arg
        The value of an argument, as NAME=VALUE; may be repeated.
    file
        The path of an input or output, as VAR=PATH; may be repeated.
    env
        An environment variable, as NAME=VALUE; may be repeated. If there is one, all of the source are replaced.
    image
        The id of an image resource, or an image's URL.
    instance_type
        An instance type; may be repeated, in the order of preference.
    name
        The name of the new job.
    """
    from jobsphere.cli.following import Bars
    from jobsphere.client import Changes

    changes = Changes(_pairs(arg), _pairs(file), _pairs(env), image, instance_type, name)
    with connected(data_dir, project) as client:
        source = the_job(client, job_id)
        with Bars("up") as bars:
            job = source.fork(changes, progress=bars)
        _carry_on(job, detach, to)


def _carry_on(job: Job, detach: bool, to: Path) -> None:
    from jobsphere.cli.following import download, follow, tell

    if detach:
        print(job.id)  # noqa: T201
        return
    tell(f"job {job.id} {job.facts.name}".rstrip())
    result = follow(job, graceful=job.graceful)
    if result.return_code is not None:
        download(job, to)
    for missing in result.missing_outputs:
        tell(f"missing output: {missing}")
    if not result.ok:
        tell(f"job {job.id}: {result.status}: {result.details}")
        sys.exit(result.return_code or 1)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise InvalidArgumentError(f"{pair!r} must be NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given)
