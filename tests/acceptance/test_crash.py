"""The server is killed at each durable step of each of several jobs: every job ends as it does without the kill.

The default run takes a fixed sample of the points; ``make soak`` takes all of them.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.acceptance.jobfiles import log_text
from tests.grpc_client import Api
from tests.live import HANG_S, LiveServer, processes_of, wait_for

SAMPLE_PER_KIND = 4
SEED = 20261124
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Kind:
    """A kind of job: what it is created with, and how it is cancelled while it runs (None: it is not)."""

    name: str
    script: str
    more: dict[str, Any] = field(default_factory=dict)
    cancel: bool = False
    graceful: bool = False


STARTS = "starts.txt"
OUTPUT = {"output_files": [pb.FileDesc(path="out.txt"), pb.FileDesc(path=STARTS)]}
GRACE = {"graceful_shutdown_parameters": pb.GracefulShutdownParameters(signal=15, timeout=Duration(seconds=600))}
TRAP = "trap 'echo saved > out.txt; exit 0' TERM\necho started >> starts.txt\necho up\nwhile :; do sleep 0.05; done\n"
KINDS = (
    Kind("plain", "echo started >> starts.txt\necho hello\necho result > out.txt\n", OUTPUT),
    Kind("failing", "echo started >> starts.txt\necho bad >&2\nexit 3\n", OUTPUT),
    Kind("cancelled", "echo started >> starts.txt\necho up\nsleep 1000\n", OUTPUT, cancel=True),
    Kind("graceful", TRAP, OUTPUT | GRACE, cancel=True, graceful=True),
)


@dataclass(frozen=True)
class End:
    """How a job ended, as far as a kill may not change it."""

    status: int
    stdout: bytes
    files: dict[str, bytes]
    errors: tuple[str, ...]


class CrashingServer(LiveServer):
    """A server that kills itself at a step, and is then started again without that."""

    def __init__(self, data_dir: Path, kill_at: int, when: str) -> None:
        super().__init__(data_dir)
        self.trace = data_dir.parent / "trace"
        self._deciding, self._ending = Lock(), False
        self._armed = [sys.executable, "-m", "tests.crash.server", str(self.trace), str(kill_at), when]

    def launch(self, ports: dict[str, int], *, armed: bool) -> None:
        """Start it and wait for its ready line; an armed one may die before."""
        command = self._armed if armed else [sys.executable, "-m", "jobsphere.cli.main"]
        command = [*command, "up", "--data-dir", str(self.data_dir)]
        for name in ("grpc", "proxy", "http"):
            command += [f"--{name}-port", str(ports.get(name, 0))]
        with (self.data_dir.parent / "data.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        assert self.process.stdout
        self.ready_line = self.process.stdout.readline()
        assert "ready" in self.ready_line, self.log

    def restart_at_death(self) -> Thread:
        """Start again, on the same ports, once it has killed itself."""
        ports, process = self.ports, self.process
        assert process

        def restart() -> None:
            process.wait()
            with self._deciding:
                if process.returncode == -9 and not self._ending:
                    self.launch(ports, armed=False)

        thread = Thread(target=restart)
        thread.start()
        return thread

    def restart_no_more(self) -> None:
        """From now on a death is the end: one of its last steps may be the one that it dies at."""
        with self._deciding:
            self._ending = True


@contextmanager
def _crashing(folder: Path, kill_at: int, when: str):
    folder.mkdir()
    server = CrashingServer(folder / "data", kill_at, when)
    server.launch({}, armed=True)
    thread = server.restart_at_death()
    try:
        yield server
    finally:
        server.restart_no_more()
        server.end_all()
        thread.join(HANG_S)


def run_job(folder: Path, kind: Kind, kill_at: int = -1, when: str = "before") -> tuple[End, list[str]]:
    """Run one job with a kill at a step: how it ended, and the steps of the armed server."""
    with _crashing(folder, kill_at, when) as server:
        api = Api.of(server)
        end = _drive(api, server, kind)
        api.close()
        return end, server.trace.read_text().splitlines()


def _drive(api: Api, server: LiveServer, kind: Kind) -> End:
    project = server.client().project
    job_id = api.create(project, "bash job.sh", {"job.sh": kind.script.encode()}, **kind.more)
    operation = api.execute(job_id)
    if kind.cancel:
        wait_for(lambda: "up\n" in log_text(server.data_dir, job_id), "the program runs")
        api.cancel(job_id, kind.graceful, "test")
    job = api.wait(job_id)
    stdout = api.stdout(job_id)
    done = wait_for(lambda: o if (o := api.operation(operation.id)).done else None, "the operation is done")
    assert done.HasField("error") is (job.status == pb.CANCELLED)
    wait_for(lambda: not processes_of(f"JOBSPHERE_JOB_ID={job_id}"), "no process of the job is left")
    files = [*job.output_files, *[f for f in job.log_files if f.desc.path in {"stdout.txt", "stderr.txt"}]]
    return End(
        status=job.status,
        stdout=stdout,
        files=api.download(job_id, files) if files else {},
        errors=tuple(sorted(e.output_file_desc.path for e in job.file_errors)),
    )


def _points(steps: int, kind: Kind) -> list[tuple[int, str]]:
    every = [(k, when) for k in range(steps) for when in ("before", "after")]
    if os.environ.get("JOBSPHERE_SOAK"):
        return every
    return sorted(random.Random(f"{SEED} {kind.name}").sample(every, SAMPLE_PER_KIND))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_a_kill_at_any_durable_step_changes_nothing(
    kind: Kind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, steps = run_job(tmp_path / "undisturbed", kind)
    assert undisturbed.files[STARTS] == b"started\n"

    points = _points(len(steps), kind)
    for k, when in points:
        end, _ = run_job(tmp_path / f"{k}-{when}", kind, k, when)
        assert end == undisturbed, f"killed {when} step {k}: {steps[k]}"
    with capsys.disabled():
        print(f"\n{kind.name}: {len(points)} of {2 * len(steps)} kill points tried, all jobs ended as undisturbed")
