"""A job that is run a second time with the same large inputs: what is sent, and how long they take to be staged."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from pathlib import Path

from tests.acceptance.jobfiles import log_text
from tests.grpc_client import Api
from tests.live import live_server
from tests.shared_blocks import shared_blocks, why_not
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from benchmarks.figures import Figure

FILES, SIZE = 4, 512 << 20


def run() -> list[Figure]:
    """The files are on one node's disk after the first run; also on one whose files can share blocks."""
    size, figures = f"{FILES * SIZE / (1 << 30):g} GiB", list[Figure]()
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        sent, created, staging = _again(Path(folder) / "data")
        figures += [
            Figure(f"sent again of {size}", sent, "bytes", target=0, at_most=True),
            Figure("Create with known inputs", created, "ms"),
            Figure(f"staging of {size} again", staging, "ms", target=50, at_most=True),
        ]
        if not why_not():
            with shared_blocks(Path(folder), 4 * FILES * SIZE) as top:
                figures.append(
                    Figure(f"staging of {size} again, on XFS", _again(top / "data")[2], "ms", target=50, at_most=True)
                )
    return figures


def _again(data: Path) -> tuple[int, float, float]:
    """The bytes that a second job with the same inputs sends, and the milliseconds of its Create and its staging."""
    with live_server(data) as server:
        api, project = Api.of(server), server.client().project
        block = os.urandom(1 << 20)
        files = {f"part-{number}.bin": bytes([number]) + block * (SIZE >> 20) for number in range(FILES)}
        inputs = [
            pb.File(
                desc=pb.FileDesc(path=path),
                sha256=hashlib.sha256(content).hexdigest(),
                size_bytes=len(content),
                compression_type=pb.NONE,
            )
            for path, content in files.items()
        ]
        first, to_send = _create(api, project, inputs)
        for stored in to_send:
            api.put(stored.url, files[stored.file.desc.path])
        _staging_s(api, server.data_dir, first)
        begin = time.perf_counter()
        again, to_send = _create(api, project, inputs)
        created = (time.perf_counter() - begin) * 1000
        staging = _staging_s(api, server.data_dir, again) * 1000
        api.close()
    return sum(s.file.size_bytes for s in to_send), created, staging


def _create(api: Api, project: str, inputs: list[pb.File]) -> tuple[str, list[pb.StorageFile]]:
    parameters = pb.JobParameters(
        cmd="echo up; sleep 600", input_files=inputs, cloud_instance_types=[pb.CloudInstanceType(name="c1.4")]
    )
    request = service_pb.CreateProjectJobRequest(project_id=project, job_parameters=parameters, name="again")
    response = service_pb.CreateProjectJobResponse()
    api.call(api.jobs.Create, request).response.Unpack(response)
    return response.job_id, list(response.upload_files)


def _staging_s(api: Api, data: Path, job_id: str) -> float:
    """Run it as far as its program, and read from its system log how long the inputs took."""
    api.execute(job_id)
    for answer in api.jobs.ReadLogs(service_pb.ReadProjectJobLogsRequest(job_id=job_id), metadata=api.metadata):
        if any(m.HasField("standard_stream") for m in answer.logs):
            break
    found = re.search(r"Staged .* in ([\d.]+) s", log_text(data, job_id))
    assert found
    api.cancel(job_id)
    api.wait(job_id)
    return float(found[1])
