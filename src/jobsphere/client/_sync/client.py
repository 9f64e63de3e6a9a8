"""A server, as a program sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.community_service_pb2 import ListCommunitiesRequest
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.datasphere.v2.project_service_pb2 import ListProjectsRequest

from jobsphere.client._sync.calls import Calls
from jobsphere.client._sync.files import Progress
from jobsphere.client._sync.job import DATA_TTL, Job, started
from jobsphere.client.connection import find_connection
from jobsphere.client.package import packed
from jobsphere.domain.errors import FailedPreconditionError, listed
from jobsphere.domain.job import JobStatus

_PAGE = 100


class Client:
    """Speaks to one server about one project.

    Without arguments it finds the server by the environment that ``jobsphere client-env`` prints, or the one that runs
    on this machine.

    Args:
        endpoint: ``HOST:PORT`` of the server's API.
        project: The id of the project; by default the first one of the server on this machine, else the only one that
            the caller may see.
        token: What to authenticate with, where the server asks for it.
        ca_file: The server's certificate authority, PEM.
        data_dir: The data directory of a server on this machine.

    Raises:
        FailedPreconditionError: no server is named, and none runs on this machine.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        project: str | None = None,
        token: str | None = None,
        ca_file: Path | str | None = None,
        data_dir: Path | str | None = None,
    ) -> None:
        self._calls = Calls(find_connection(endpoint, project=project, token=token, ca_file=ca_file, data_dir=data_dir))
        self._project = self._calls.connection.project

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections; jobs go on."""
        self._calls.close()

    def project(self) -> str:
        """The id of the project that this client speaks about.

        Raises:
            FailedPreconditionError: none was named, and there is not exactly one.
        """
        if not self._project:
            found = [project for project in self._projects()]
            if len(found) != 1:
                names = listed([f"{one.id} ({one.name})" for one in found]) or "none"
                raise FailedPreconditionError(f"say which project, by its id; there are: {names}")
            self._project = found[0].id
        return self._project

    def run(
        self,
        config: Path | str = "config.yaml",
        *,
        name: str = "",
        data_ttl: timedelta | None = DATA_TTL,
        progress: Progress | None = None,
    ) -> Job:
        """Send the job of a config file and start it.

        Args:
            config: The file; paths in it are relative to the working directory, as the vendor's client has it.
            name: Of the job, instead of the config's.
            data_ttl: How long its data is kept after its end; None: for ever.
            progress: Is told of each piece of a file that goes up.

        Raises:
            InvalidArgumentError: the config is not as it must be; what, and where.
        """
        with packed(Path(config)) as package:
            request = pb.CreateProjectJobRequest(
                project_id=self.project(),
                job_parameters=package.parameters,
                config=package.config,
                name=name or package.name,
                desc=package.description,
                data_ttl=None if data_ttl is None else Duration(seconds=int(data_ttl.total_seconds())),
            )
            operation = self._calls.call(self._calls.jobs.Create, request)
            return started(self._calls, operation, pb.CreateProjectJobResponse(), package, progress)

    def job(self, job_id: str) -> Job:
        """The job of this id.

        Raises:
            NotFoundError: there is none that this client may see.
        """
        return Job(self._calls, self._calls.call(self._calls.jobs.Get, pb.GetProjectJobRequest(job_id=job_id)))

    def jobs(self, statuses: Iterable[JobStatus] = ()) -> Iterator[Job]:
        """The project's jobs, the newest first; by default of every status."""
        wanted = ", ".join(statuses)
        request = pb.ListProjectJobRequest(project_id=self.project(), page_size=_PAGE)
        if wanted:
            request.filter = f"status IN ({wanted})"
        while True:
            page = self._calls.call(self._calls.jobs.List, request)
            for message in page.jobs:
                yield Job(self._calls, message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _projects(self) -> Iterator[Any]:
        communities = self._calls.call(self._calls.communities.List, ListCommunitiesRequest(page_size=_PAGE))
        for community in communities.communities:
            request = ListProjectsRequest(community_id=community.id, page_size=_PAGE)
            for project in (self._calls.call(self._calls.projects.List, request)).projects:
                yield project
