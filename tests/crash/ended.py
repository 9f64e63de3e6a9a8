"""The kinds of jobs that have ended when something of them goes; and all kinds there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.datasphere.v2.project_service_pb2 import DeleteProjectRequest
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub

from jobsphere.blob.project_disk import ProjectDisk
from tests.crash.kinds import (
    SCRIPT,
    TRAP,
    BuiltInsideKind,
    DamagedKind,
    DatasetKind,
    ImageKind,
    Kind,
    PulledKind,
    UvKind,
    done_operation,
)
from tests.crash.place import Place
from tests.grpc_client import Api
from tests.integration.bench import Index
from tests.integration.containers import Podman, Registry
from tests.live import wait_for


class ForkKind(Kind):
    """It is a clone of one that has ended."""

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        source = self.create(place, api, project, f"{token}s")
        self._run(api, source)
        return source

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        overrides = pb.JobParameters(env=pb.Environment(vars={"TOKEN": token}))
        request = service_pb.CloneProjectJobRequest(source_job_id=prepared, job_parameters_overrides=overrides)
        answer = service_pb.CloneProjectJobResponse()
        assert api.call(api.jobs.Clone, request).response.Unpack(answer)
        assert not answer.upload_files
        assert api.get(answer.job_id).parent_job_id == prepared
        return answer.job_id, self._run(api, answer.job_id)


class EndedKind(Kind):
    """It has ended when its data goes; a neighbour that shares its script keeps its own."""

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        job_id = self.create(place, api, project, token)
        self._run(api, job_id)
        return job_id


class TtlKind(EndedKind):
    """Its time to live passes."""

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        request = service_pb.SetProjectJobDataTtlRequest(job_id=prepared, ttl=Duration(nanos=1000))
        with suppress(grpc.RpcError):  # a repeat may find it cleared
            api.call(api.jobs.SetDataTtl, request)
        wait_for(lambda: api.get(prepared).data_cleared, "its data is cleared")
        return prepared, b""

    def check(self, place: Place, api: Api, job_id: str, seen: bytes, token: str, role: str, fault: str = "") -> str:
        job, operation = api.get(job_id), done_operation(api, job_id)
        assert (job.status, job.data_cleared) == (pb.SUCCESS, True)
        assert operation.HasField("response")
        wait_for(lambda: not left_of(place, job_id, job), "its bytes are gone")
        return "as undisturbed"


class DeleteKind(EndedKind):
    """It is deleted."""

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        self._job = api.get(prepared)
        with suppress(grpc.RpcError):  # a repeat finds it gone
            api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=prepared))
        return prepared, b""

    def check(self, place: Place, api: Api, job_id: str, seen: bytes, token: str, role: str, fault: str = "") -> str:
        with pytest.raises(grpc.RpcError) as raised:
            api.get(job_id)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND  # pyright: ignore[reportAttributeAccessIssue]
        wait_for(lambda: not left_of(place, job_id, self._job), "its bytes are gone")
        return "as undisturbed"


class ProjectKind(EndedKind):
    """Its project is deleted while its time to live passes: with its dataset, and the project's disk."""

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        self._project = project
        ProjectDisk(place.data_dir, project).put(place.folder / "data.log", "log")
        return super().prepare(place, api, project, token)

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        request = service_pb.SetProjectJobDataTtlRequest(job_id=prepared, ttl=Duration(nanos=1000))
        with suppress(grpc.RpcError):  # a repeat may find it cleared
            api.call(api.jobs.SetDataTtl, request)
        with suppress(grpc.RpcError):  # a repeat finds it gone
            projects = ProjectServiceStub(api.channel)
            api.call(projects.Delete, DeleteProjectRequest(project_id=self._project))
        return prepared, b""

    def check(self, place: Place, api: Api, job_id: str, seen: bytes, token: str, role: str, fault: str = "") -> str:
        with pytest.raises(grpc.RpcError) as raised:
            api.get(job_id)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND  # pyright: ignore[reportAttributeAccessIssue]
        wait_for(lambda: not self._left(place, job_id), "its bytes are gone")
        return "as undisturbed"

    def _left(self, place: Place, job_id: str) -> list[str]:
        found = [*place.data_dir.glob(f"*/{job_id}-1"), *place.data_dir.glob(f"*/{self._project}/**/*")]
        return [str(path) for path in found if not path.is_dir() or path.name.startswith(job_id)]


class EvictedKind(Kind):
    """It has ended, and nobody uses any more what it has needed or made.

    Args:
        inner: The kind of the job.
        what: What goes; see :meth:`tests.crash.place.Place.evicting`.
        left: What is there of that kind of thing.
    """

    def __init__(self, inner: Kind, what: str, left: Callable[[Place], list[str]]) -> None:
        super().__init__(f"unused {what}")
        self._inner, self._what, self._left = inner, what, left

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        with place.evicting(self._what):  # what others have left is none of this one's steps
            wait_for(lambda: not self._left(place), f"nothing is left of {self._what}")
        self._inner.prepare(place, api, project, token)
        job_id = self._inner.create(place, api, project, token)
        self._log = self._run(api, job_id)
        assert self._left(place)
        return job_id

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        with place.evicting(self._what):
            wait_for(lambda: not self._left(place), f"nothing is left of {self._what}")
        return prepared, self._log

    def check(self, place: Place, api: Api, job_id: str, seen: bytes, token: str, role: str, fault: str = "") -> str:
        assert not self._left(place)
        job = api.get(job_id)
        assert job.status == pb.SUCCESS
        assert done_operation(api, job_id).HasField("response")
        assert api.stdout(job_id) == seen
        assert api.download(job_id, job.output_files)["out.txt"] == f"result {token}\n".encode()
        return "as undisturbed"


def left_of(place: Place, job_id: str, job: pb.Job) -> list[str]:
    """What the data directory still has of a job: its run directory, and blobs that are its alone."""
    own = {f.sha256 for f in job.output_files if f.desc.path == "out.txt"} | {
        f.sha256 for f in job.job_parameters.input_files
    }
    blobs = [str(p) for sha in own for p in place.data_dir.glob(f"blobs/*/*/{sha}")]
    return blobs + [str(p) for p in place.data_dir.glob(f"*/{job_id}-1")]


def built(place: Place) -> list[str]:
    """The environments, and what the installers have kept."""
    found = [p for p in place.data_dir.glob("environments/*") if p.is_dir() or p.suffix == ".ready"]
    return [str(p) for p in [*found, *place.data_dir.glob("cache*")]]


def pulled(place: Place, podman: Podman, registry: Registry) -> list[str]:
    """The images that jobs have brought. The engine, which stumbles over what is just being removed, is asked last."""
    if records := [str(path) for path in place.data_dir.glob("images/*.json")]:
        return records
    names = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return [name for name in names if name.startswith(registry.host)]


GRACE = pb.GracefulShutdownParameters(signal=15, timeout=Duration(seconds=600))
DATASET = [pb.OutputDatasetDesc(name="made", var="MADE", size_gb=1)]


def kinds(index: Index, podman: Podman | None, registry: Registry | None) -> Iterator[Kind]:
    """All of them; those in images only where there is a container engine."""
    yield Kind("plain")
    yield UvKind(index)
    yield DamagedKind("damaged input")
    if podman is not None and registry is not None:
        yield BuiltInsideKind(index, podman)
        yield ImageKind(podman.containers)
        yield PulledKind(podman, registry)
        yield EvictedKind(PulledKind(podman, registry), "images", lambda place: pulled(place, podman, registry))
    trap = {"job.sh": TRAP + "# @@\n"}
    yield Kind("graceful cancel", files=trap, more={"graceful_shutdown_parameters": GRACE}, cancel=True)
    yield ForkKind("fork")
    making = {"job.sh": SCRIPT + "echo $TOKEN > $1/of.txt\n# @@\n"}
    dataset = DatasetKind("output dataset", "bash job.sh ${MADE}", making, {"output_datasets": DATASET})
    yield dataset
    yield TtlKind("TTL sweep")
    yield DeleteKind("delete")
    yield ProjectKind("project", dataset.cmd, making, dataset.more)
    yield EvictedKind(UvKind(index), "environments", built)
    yield EvictedKind(dataset, "datasets", lambda place: [str(p) for p in place.data_dir.glob("datasets/*/*")])
