"""dask on one host: calls that run a program. No jobs: nothing is kept. Run by uv, in a Python of its own."""

from __future__ import annotations

import json
import subprocess
import time
from functools import cache

CALLS, LINES = 300, 30


@cache
def measured() -> dict[str, float] | None:
    """``rate`` (calls/s) and ``first_line`` (median ms); None where dask cannot be had. Once in a run."""
    from benchmarks.peers.own_python import measured_with  # not there for the program

    return measured_with("distributed>=2024.1", __file__)


def main() -> None:
    import statistics

    from distributed import Client, LocalCluster

    def run(command: tuple[str, ...]) -> bytes:
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout

    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster, Client(cluster) as client:
        client.submit(run, ("true",), pure=False).result()
        begin = time.perf_counter()
        client.gather([client.submit(run, ("true",), pure=False) for _ in range(CALLS)])
        rate = CALLS / (time.perf_counter() - begin)
        times = []
        for _ in range(LINES):
            begin = time.perf_counter()
            client.submit(run, ("echo", "first"), pure=False).result()
            times.append((time.perf_counter() - begin) * 1000)
    print(json.dumps({"rate": rate, "first_line": statistics.median(times)}))


if __name__ == "__main__":
    main()
