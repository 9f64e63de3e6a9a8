"""HyperQueue's LocalCluster: its rate of `true` jobs and the time to a first line. Needs `hyperqueue` from PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

JOBS = 300


@cache
def measured() -> dict[str, float] | None:
    """``rate`` (separate jobs/s) and ``first_line`` (median ms); None where it is not installed. Once in a run."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        command = [sys.executable, "-P", __file__, str(JOBS)]  # this file has its name
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if "No module named" in done.stderr:
        return None
    if done.returncode != 0:
        raise RuntimeError(f"HyperQueue failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(jobs: int) -> None:
    import statistics

    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()

        def submit(*args: str, **more: object) -> object:
            job = Job()
            job.program([*args], **more)
            return client.submit(job)

        client.wait_for_jobs([submit("true")])
        begin = time.perf_counter()
        client.wait_for_jobs([submit("true") for _ in range(jobs)])
        rate = jobs / (time.perf_counter() - begin)
        times = []
        for number in range(30):
            out = Path(f"out-{number}")
            begin = time.perf_counter()
            job = submit("echo", "first", stdout=str(out.absolute()))
            while not (out.exists() and out.stat().st_size):
                time.sleep(0.0005)
            times.append((time.perf_counter() - begin) * 1000)
            client.wait_for_jobs([job])
    print(json.dumps({"rate": rate, "first_line": statistics.median(times)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
