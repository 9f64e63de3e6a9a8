"""Slurm on one host: its rate of `true` jobs and the time to a first line. Needs Slurm's programs from Debian."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from tests.slurm import Slurm, lacking, slurm_cluster

JOBS, LINES = 60, 10
_HANG_S = 120


@cache
def measured() -> dict[str, float] | None:
    """``rate`` (separate jobs/s) and ``first_line`` (median ms); None where it is not installed. Once in a run."""
    if lacking():
        return None
    with slurm_cluster() as slurm, tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        _submit(slurm, "true", "/dev/null")
        _all_ended(slurm)
        times = [_first_line(slurm, Path(folder) / f"out{n}") for n in range(LINES)]
        begin = time.perf_counter()
        for _ in range(JOBS):
            _submit(slurm, "true", "/dev/null")
        _all_ended(slurm)
        rate = JOBS / (time.perf_counter() - begin)
    return {"rate": rate, "first_line": statistics.median(times)}


def _first_line(slurm: Slurm, out: Path) -> float:
    begin = time.perf_counter()
    _submit(slurm, "echo first", str(out))
    while not (out.exists() and out.stat().st_size):
        if time.perf_counter() - begin > _HANG_S:
            raise RuntimeError(f"Slurm has not run a job within {_HANG_S} s: {slurm.told('squeue', '--states=all')}")
        time.sleep(0.001)
    took = (time.perf_counter() - begin) * 1000
    _all_ended(slurm)
    return took


def _submit(slurm: Slurm, command: str, out: str) -> None:
    subprocess.run(
        ["sbatch", "--quiet", "--mem=1", f"--output={out}", f"--wrap={command}"],
        env={**os.environ, **slurm.environ},
        cwd="/",
        check=True,
    )


def _all_ended(slurm: Slurm) -> None:
    until = time.perf_counter() + _HANG_S
    while left := slurm.told("squeue", "--noheader"):
        if time.perf_counter() > until:
            raise RuntimeError(f"Slurm's jobs have not ended within {_HANG_S} s: {left}")
        time.sleep(0.01)
