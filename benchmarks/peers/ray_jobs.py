"""Ray Jobs on one host: its rate of `true` jobs and the time to a first line. Run by uv, in a Python of its own."""

from __future__ import annotations

import json
import tempfile
import time
from functools import cache

JOBS = 4
"""Each takes seconds."""


@cache
def measured() -> dict[str, float] | None:
    """``rate`` (jobs/s) and ``first_line`` (ms); None where Ray cannot be had. Once in a run."""
    from benchmarks.peers.own_python import measured_with  # not there for the program

    return measured_with("ray[default]>=2.40", __file__)


def main() -> None:
    import ray
    from ray.job_submission import JobStatus, JobSubmissionClient

    with tempfile.TemporaryDirectory(prefix="jb-") as folder:
        context = ray.init(include_dashboard=True, dashboard_port=0, num_cpus=2, log_to_driver=False, _temp_dir=folder)
        client = JobSubmissionClient(f"http://{context.dashboard_url}")
        ended = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}

        def settle(names: list[str]) -> None:
            while not all(client.get_job_status(name) in ended for name in names):
                time.sleep(0.02)

        settle([client.submit_job(entrypoint="true")])
        begin = time.perf_counter()
        name = client.submit_job(entrypoint="echo first")
        while "first" not in client.get_job_logs(name):
            time.sleep(0.01)
        first = (time.perf_counter() - begin) * 1000
        settle([name])
        begin = time.perf_counter()
        settle([client.submit_job(entrypoint="true") for _ in range(JOBS)])
        rate = JOBS / (time.perf_counter() - begin)
        ray.shutdown()
    print(json.dumps({"rate": rate, "first_line": first}))


if __name__ == "__main__":
    main()
