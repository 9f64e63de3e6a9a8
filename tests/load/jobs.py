"""The jobs of the load: small programs whose every line is known beforehand, and how they may end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.operation.operation_pb2 import Operation

from tests.grpc_client import TERMINAL

PRINT = 'i=0; while [ $i -lt $LINES ]; do echo "line $i of $TOKEN"; i=$((i+1)); '
QUICK = PRINT + "done; cat in.txt > out.txt; exit $CODE\n"
SLOW = PRINT + "[ $((i % 20)) -ne 0 ] || sleep 0.25; done; cat in.txt > out.txt; exit $CODE\n"
ENDLESS = "trap 'echo saved; exit 0' TERM\n" + PRINT + "done; while :; do sleep 0.1; done\n"
SCRIPTS = {"quick": QUICK, "slow": SLOW, "endless": ENDLESS}
GRACE = pb.GracefulShutdownParameters(signal=15, timeout=Duration(seconds=20))
SAVED = b"saved\n"
LOST = "The job was lost: the supervisor of the job was killed"
CODE = 3
"""What the programs exit with that are to fail."""


@dataclass
class Task:
    """A job that a client means to run.

    ``kind``: a name of :data:`SCRIPTS`; ``content``: its input, which becomes its output; ``code``: what it exits with.
    """

    kind: str
    token: str
    content: bytes
    lines: int
    code: int = 0

    @property
    def stdout(self) -> bytes:
        """All that its program prints, but for :data:`SAVED` when it is asked to end."""
        return "".join(f"line {i} of {self.token}\n" for i in range(self.lines)).encode()

    @property
    def files(self) -> Mapping[str, bytes]:
        return {"job.sh": SCRIPTS[self.kind].encode(), "in.txt": self.content}

    @property
    def environment(self) -> pb.Environment:
        return pb.Environment(vars={"TOKEN": self.token, "LINES": str(self.lines), "CODE": str(self.code)})

    @property
    def parameters(self) -> dict[str, Any]:
        """What it is created with."""
        grace = {"graceful_shutdown_parameters": GRACE} if self.kind == "endless" else {}
        return {"env": self.environment, "output_files": [pb.FileDesc(path="out.txt")], **grace}


@dataclass
class Known:
    """What a client knows of a job of its own.

    ``status``: the one that it was seen to end with. ``cancelled``: a cancel was answered, so that it must end so.
    ``seen``: what was read of its stdout, up to ``offset``.
    """

    task: Task
    job_id: str
    operation_id: str = ""
    status: int = 0
    cancelled: bool = False
    deleted: bool = False
    seen: bytes = b""
    offset: int = 0

    def note(self, job: pb.Job) -> pb.Job:
        """Take in a look at it: what has ended stays as it ended."""
        assert job.id == self.job_id
        assert self.status in (0, job.status), f"{self.job_id} was {self.status} and is {job.status}"
        if job.status in TERMINAL:
            self.status = job.status
        return job

    def end(self, job: pb.Job, operation: Operation | None, stdout: bytes) -> str:
        """See that it has ended as it may: how, in a word."""
        assert job.status in TERMINAL, f"{job.id} has not ended: {job.status_details}"
        assert job.status == pb.CANCELLED or not self.cancelled, f"{job.id} was cancelled and is {job.status}"
        if operation is None:
            assert (job.status, stdout) == (pb.CANCELLED, b"")
            return "cancelled"
        assert operation.done
        assert (operation.id, operation.WhichOneof("result")) == (self.operation_id, _result_of(job))
        whole = self.task.stdout
        if job.status == pb.CANCELLED:
            assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]
            assert whole.startswith(stdout.removesuffix(SAVED)), stdout[-200:]
            return "cancelled"
        if operation.HasField("error"):
            assert (job.status, operation.error.code) == (pb.ERROR, grpc.StatusCode.ABORTED.value[0]), job
            assert LOST in job.status_details, job.status_details
            assert operation.error.message.endswith(job.status_details)
            assert whole.startswith(stdout), stdout[-200:]
            return "lost"
        answer = service_pb.ExecuteProjectJobResponse()
        assert operation.response.Unpack(answer)
        code = self.task.code
        assert (job.status, answer.result.return_code) == (pb.ERROR if code else pb.SUCCESS, code), job
        assert stdout == whole, stdout[-200:]
        assert [f.sha256 for f in job.output_files] == [hashlib.sha256(self.task.content).hexdigest()]
        return "failed" if code else "success"


def _result_of(job: pb.Job) -> str:
    return "error" if job.status == pb.CANCELLED or LOST in job.status_details else "response"
