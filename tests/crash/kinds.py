"""The kinds of jobs that are killed at every step: what each does, and how it may end."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import grpc
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.datasphere.v2.project_pb2 import Project
from yandex.cloud.datasphere.v2.project_service_pb2 import CreateProjectRequest, GetProjectRequest
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub
from yandex.cloud.operation.operation_pb2 import Operation

from tests.crash.place import Place
from tests.grpc_client import TERMINAL, Api
from tests.integration.bench import Index
from tests.integration.containers import PASSWORD, TINY, USER, Podman, Registry
from tests.integration.containers import PYTHON as PYTHON_IMAGE
from tests.live import wait_for

STARTS = "starts.txt"
LINES = 300
OUT = [pb.FileDesc(path="out.txt"), pb.FileDesc(path=STARTS)]
OUTPUTS = [*OUT, pb.FileDesc(path="folder/")]
COUNT = f"i=0; while [ $i -lt {LINES} ]; do echo line $i of $TOKEN; i=$((i+1)); done\n"
RESULT = "echo result $TOKEN > out.txt\n"
START = "echo started >> starts.txt; echo started\n"
SCRIPT = START + COUNT + RESULT + "mkdir -p folder; echo in $TOKEN > folder/a\n"
TRAP = "trap 'echo saved $TOKEN > out.txt; mkdir -p folder; exit 0' TERM\necho started >> starts.txt\necho started\n"
TRAP = TRAP + COUNT + "echo up\nwhile :; do sleep 0.02; done\n"
PYTHON = "import alpha, os\nopen('starts.txt', 'a').write('started\\n'); print('started')\n"
PYTHON += f"for i in range({LINES}): print(f'line {{i}} of', os.environ['TOKEN'])\n"
PYTHON += "open('out.txt', 'w').write(f'result {os.environ[\"TOKEN\"]}\\n'); os.mkdir('folder')\n"


def counted(token: str) -> str:
    return "started\n" + "".join(f"line {i} of {token}\n" for i in range(LINES))


class Follower(Thread):
    """Reads a job's log as a client does: on and on from where it was, through every death of the server."""

    def __init__(self, api: Api, job_id: str) -> None:
        super().__init__()
        self._api, self._job_id, self._offset = api, job_id, 0
        self.seen = b""
        self.start()

    def run(self) -> None:
        while True:
            request = service_pb.ReadProjectJobLogsRequest(job_id=self._job_id, offset=self._offset)
            try:
                for answer in self._api.jobs.ReadLogs(request, timeout=60):
                    out = service_pb.StandardStream.OUT
                    for log in answer.logs:
                        if log.HasField("standard_stream") and log.standard_stream == out:
                            self.seen += log.content
                    self._offset = answer.offset
            except grpc.RpcError as e:
                if e.code() is grpc.StatusCode.NOT_FOUND:  # pyright: ignore[reportAttributeAccessIssue]
                    return
                time.sleep(0.05)
                continue
            return


@dataclass
class Kind:
    """A kind of job.

    Args:
        name: Its name.
        cmd: Of the job.
        files: Its inputs, by path; ``@@`` in them becomes the token that makes each job another one.
        more: Parameters besides.
        cancel: Whether it is cancelled, gracefully, once it runs.
        outputs: What it is to leave.
    """

    name: str
    cmd: str = "bash job.sh"
    files: dict[str, str] = field(default_factory=lambda: {"job.sh": SCRIPT + "# @@\n"})
    more: dict[str, Any] = field(default_factory=dict)
    cancel: bool = False
    outputs: list[pb.FileDesc] = field(default_factory=lambda: OUTPUTS)

    def parameters(self, place: Place, token: str) -> dict[str, Any]:
        """What the job is created with."""
        return {"output_files": self.outputs, "env": pb.Environment(vars={"TOKEN": token}), **self.more}

    def create(self, place: Place, api: Api, project: str, token: str) -> str:
        """Create it, with its uploads: its id."""
        files = {path: text.replace("@@", token).encode() for path, text in self.files.items()}
        return api.create(project, self.cmd, files, **self.parameters(place, token))

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        """What is done before anything is killed; what :meth:`drive` is given."""
        return ""

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        """Bring the job to its end: its id, and the log that a client saw."""
        job_id = self.create(place, api, project, token)
        return job_id, self._run(api, job_id)

    def _run(self, api: Api, job_id: str) -> bytes:
        api.execute(job_id)
        follower = Follower(api, job_id)
        if self.cancel:
            wait_for(lambda: b"up\n" in follower.seen or api.get(job_id).status in TERMINAL, "it runs")
            with suppress(grpc.RpcError):  # it was lost before
                api.cancel(job_id, graceful=True, reason="test")
        api.wait(job_id)
        follower.join(60)
        assert not follower.is_alive(), "the stream of a job's log comes to its end"
        return follower.seen

    def check(self, place: Place, api: Api, job_id: str, seen: bytes, token: str, role: str, fault: str = "") -> str:
        """See that it ended as it may; how: ``as undisturbed`` or ``lost, and told so``.

        ``role``: whose step was its last, or failed with ``fault``, the words of the system.
        """
        job, operation = api.get(job_id), done_operation(api, job_id)
        again = Follower(api, job_id)  # the server may die at tidying, just now
        again.join(60)
        stdout = again.seen
        assert seen == stdout, "what a client has read is what the log holds"
        expected = (counted(token) + ("up\n" if self.cancel else "")).encode()
        assert expected.startswith(stdout), stdout[-300:]
        files = api.download(job_id, [*job.output_files, *job.log_files])
        errors = [e.description for e in job.file_errors]
        assert files["stdout.txt"] == stdout or any("stdout.txt" in e for e in errors)
        assert files.get(STARTS, b"started\n") == b"started\n"
        assert stdout.count(b"started\n") <= 1
        assert job.HasField("finished_at")
        if self.cancel and job.status == pb.CANCELLED:
            assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]
            return self._whole(role, whole=files.get("out.txt") == f"saved {token}\n".encode() and not errors)
        if errors and role == "supervisor" and fault:
            assert all(fault in e for e in errors), errors
            return "lost, and told so"
        if job.status == pb.SUCCESS:
            assert not self.cancel
            assert stdout == expected
            assert files["out.txt"] == f"result {token}\n".encode()
            assert files[STARTS] == b"started\n"
            done = service_pb.ExecuteProjectJobResponse()
            assert operation.response.Unpack(done)
            assert [f.file.desc.path for f in done.output_files] == [f.path for f in self.outputs]
            assert done.result.return_code == 0
            self.check_products(place, job, token)
            return "as undisturbed"
        assert (job.status, role) == (pb.ERROR, "supervisor"), job
        assert "by a disk that failed it" in job.status_details or (fault and fault in job.status_details), job
        assert operation.error.message.endswith(job.status_details)
        self.check_products(place, job, token)
        return "lost, and told so"

    def _whole(self, role: str, *, whole: bool) -> str:
        assert whole or role == "supervisor"
        return "as undisturbed" if whole else "lost, and told so"

    def check_products(self, place: Place, job: pb.Job, token: str) -> None:
        """See what the job has left in its project."""


class DatasetKind(Kind):
    """It makes a dataset."""

    def check_products(self, place: Place, job: pb.Job, token: str) -> None:
        folders = [p for p in place.data_dir.glob("datasets/*/*/of.txt") if p.read_text() == f"{token}\n"]
        assert len(folders) == len(job.output_datasets) == (job.status == pb.SUCCESS)
        assert [p.parent.name for p in folders] == [d.id for d in job.output_datasets]


class UvKind(Kind):
    """It needs an environment of its own."""

    def __init__(self, index: Index) -> None:
        super().__init__("uv environment", "python main.py", {"main.py": PYTHON + "# @@\n"})
        self._index = index

    def parameters(self, place: Place, token: str) -> dict[str, Any]:
        version = f"1.0.{int(token[1:])}"
        self._index.add("alpha", version)
        python = pb.PythonEnv(
            python_version=f"{sys.version_info[0]}.{sys.version_info[1]}",
            requirements=[f"alpha=={version}"],
            pip_options=pb.PipOptions(index_url=self._index.url()),
        )
        env = pb.Environment(vars={"TOKEN": token}, python_env=python)
        return {"output_files": self.outputs, "env": env}


class BuiltInsideKind(UvKind):
    """Its environment is built in its image, by a copy of the installer that is made for it."""

    def __init__(self, index: Index, podman: Podman) -> None:
        super().__init__(index)
        self.name = "environment in an image"
        self._podman = podman

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        if not self._podman("images", "--quiet", PYTHON_IMAGE):
            self._podman.make_glibc(PYTHON_IMAGE, python="usr/local")
        shutil.rmtree(place.data_dir / "cache" / "portable", ignore_errors=True)
        return ""

    def parameters(self, place: Place, token: str) -> dict[str, Any]:
        found = super().parameters(place, token)
        found["env"].docker_image_spec.image_url = PYTHON_IMAGE
        return found

    def check_products(self, place: Place, job: pb.Job, token: str) -> None:
        assert self._podman.containers() == []
        if job.status == pb.SUCCESS:  # what a killed supervisor has left is written over by the next
            assert "draft" not in os.listdir(place.data_dir / "cache" / "portable")


class DamagedKind(Kind):
    """One of its inputs has been damaged on the disk."""

    def drive(self, place: Place, api: Api, project: str, token: str, prepared: str) -> tuple[str, bytes]:
        job_id = self.create(place, api, project, token)
        (file,) = api.get(job_id).job_parameters.input_files
        (blob,) = place.data_dir.glob(f"blobs/{project}/??/{file.sha256}")
        blob.chmod(0o644)
        blob.write_bytes(b"?" + blob.read_bytes()[1:])
        self._aside = place.data_dir / "blobs" / ".corrupted" / f"{project}-{file.sha256}"
        return job_id, self._run(api, job_id)

    def check(self, place: Place, api: Api, job_id: str, seen: bytes, token: str, role: str, fault: str = "") -> str:
        job, operation = api.get(job_id), done_operation(api, job_id)
        assert (job.status, seen) == (pb.ERROR, b"")
        assert operation.error.message.endswith(job.status_details)
        left = [*place.data_dir.glob(f"blobs/*/??/{self._aside.name[21:]}"), self._aside]
        assert self._aside.exists() or role == "supervisor"  # killed before: the next job that needs it finds it
        for path in left:  # the damage is the test's own
            path.unlink(missing_ok=True)
        told = "'job.sh' is corrupted; create the job again to upload it" in job.status_details
        assert told or role == "supervisor", job.status_details
        return "as undisturbed" if told else "lost, and told so"


class ImageKind(Kind):
    """It runs in a container."""

    def __init__(self, containers: Callable[[], list[str]]) -> None:
        super().__init__("image", "sh job.sh", {"job.sh": START + COUNT + RESULT + "# @@\n"}, outputs=OUT)
        self._containers = containers

    def parameters(self, place: Place, token: str) -> dict[str, Any]:
        env = pb.Environment(vars={"TOKEN": token}, docker_image_spec=pb.DockerImageSpec(image_url=TINY))
        return {"output_files": self.outputs, "env": env}

    def check_products(self, place: Place, job: pb.Job, token: str) -> None:
        assert self._containers() == []


class PulledKind(ImageKind):
    """Its image is of a registry that asks for a login, and comes during the job."""

    def __init__(self, podman: Podman, registry: Registry) -> None:
        super().__init__(podman.containers)
        self.name = "image pulled"
        self._podman, self._registry = podman, registry

    def prepare(self, place: Place, api: Api, project: str, token: str) -> str:
        self._registry.push_own(self._podman, f"own:{token}")
        return ""

    def parameters(self, place: Place, token: str) -> dict[str, Any]:
        image = pb.DockerImageSpec(
            image_url=f"{self._registry.host}/own:{token}", username=USER, password_plain_text=PASSWORD
        )
        env = pb.Environment(vars={"TOKEN": token}, docker_image_spec=image)
        return {"output_files": self.outputs, "env": env}


def new_project(api: Api, beside: str, name: str) -> str:
    """Make one in the community of another. Nothing of it is on the disk: the first job in it makes all folders."""
    projects = ProjectServiceStub(api.channel)
    community = api.call(projects.Get, GetProjectRequest(project_id=beside)).community_id
    made, wanted = Project(), CreateProjectRequest(community_id=community, name=name)
    assert api.call(projects.Create, wanted).response.Unpack(made)
    return made.id


def done_operation(api: Api, job_id: str) -> Operation:
    """The job's operation; it is done a moment after the job, when the readers of its log have it all."""
    return wait_for(lambda: o if (o := api.execute(job_id)).done else None, "the operation is done")
