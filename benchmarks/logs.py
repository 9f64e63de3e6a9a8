"""What a program's output costs it, how fast it is read back, and how soon a line is seen."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from benchmarks.figures import Figure, percentile

SIZE = 1 << 30
LINES = 200
_WRITE = f"b=$(date +%s%N); head -c {SIZE} /dev/zero | tr '\\0' x | fold -w 99; echo $(( $(date +%s%N) - b )) >&2"
_SAY = f"for i in $(seq {LINES}); do date +%s%N; sleep 0.02; done"
READ = "/yandex.cloud.datasphere.v2.jobs.ProjectJobService/ReadLogs"


def run() -> list[Figure]:
    """The same program with its output in a pipe to ``cat`` into a file, and as a job."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder, live_server(Path(folder) / "data") as server:
        api, project = Api.of(server), server.client().project
        plain = subprocess.run(
            ["bash", "-c", f"( {_WRITE} ) | cat > {folder}/out"], capture_output=True, text=True, check=True
        )
        Path(folder, "out").unlink()
        job_id = api.create(project, _WRITE)
        api.execute(job_id)
        api.wait(job_id)
        took = int(b"".join(_contents(api, job_id, pb.StandardStream.ERR))) / 1e9
        read = _read_back(api, job_id)
        delays = _delays(api, project)
        api.close()
    return [
        Figure(
            "a program that writes 1 GiB", took, "s", int(plain.stderr) / 1e9, "into cat into a file", 1.1, at_most=True
        ),
        Figure("its log read back", read, "MB/s", target=300),
        Figure("a line until it is read, p50", percentile(delays, 50), "ms", target=10, at_most=True),
        Figure("a line until it is read, p99", percentile(delays, 99), "ms"),
    ]


def _contents(api: Api, job_id: str, stream: int) -> list[bytes]:
    answers = api.jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id=job_id), metadata=api.metadata)
    return [
        m.content
        for answer in answers
        for m in answer.logs
        if m.HasField("standard_stream") and m.standard_stream == stream
    ]


def _read_back(api: Api, job_id: str) -> float:
    """By a client that leaves the answers as they come: what counts is the server."""
    read = api.channel.unary_stream(READ)
    begin, size = time.perf_counter(), 0
    for answer in read(pb.ReadProjectJobLogsRequest(job_id=job_id).SerializeToString()):
        size += len(answer)
    assert size > SIZE
    return size / 1e6 / (time.perf_counter() - begin)


def _delays(api: Api, project: str) -> list[float]:
    """Milliseconds from the moment that a line names to the one at which its reader has it."""
    job_id = api.create(project, _SAY)
    api.execute(job_id)
    delays: list[float] = []
    for answer in api.jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id=job_id), metadata=api.metadata):
        now = time.time_ns()
        for message in answer.logs:
            if message.HasField("standard_stream"):
                delays += [(now - int(line)) / 1e6 for line in message.content.split()]
    assert len(delays) == LINES
    return delays
