"""How commands about jobs reach their server."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobsphere.cli.options import data_dir_of
from jobsphere.domain.errors import NotFoundError
from jobsphere.serverfile import running_server

if TYPE_CHECKING:
    from jobsphere.client import Client, Job

JobId = Annotated[str, Parameter(help="The id of the job. Default: the newest one.")]
ThisProject = Annotated[
    str | None,
    Parameter(name=("--project", "-p"), help="The id of the project. Default: JOBSPHERE_PROJECT, else the first one."),
]
_TOKEN_LIFE = timedelta(hours=12)


@contextmanager
def connected(data_dir: Path | None, project: str | None) -> Generator[Client]:
    """A client of the server that the environment names, else of the one on this machine.

    The owner of a data directory needs no token of his own.
    """
    from jobsphere.client import Client
    from jobsphere.client.connection import ENDPOINT

    if data_dir is None and os.environ.get(ENDPOINT):
        client = Client(project=project)
    else:
        folder, token = data_dir_of(data_dir), None
        if running_server(folder).tokens_required:
            from jobsphere.wiring.keys import issue_token

            token = issue_token(folder, _TOKEN_LIFE)
        client = Client(project=project, token=token, data_dir=folder)
    with client:
        yield client


def the_job(client: Client, job_id: str) -> Job:
    """The job of the id, or the newest.

    Raises:
        NotFoundError: there is none.
    """
    if job_id:
        return client.job(job_id)
    newest = next(client.jobs(), None)
    if newest is None:
        raise NotFoundError("this project has no jobs yet; start one with `jobsphere run config.yaml`")
    return newest
