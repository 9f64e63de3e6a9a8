"""What the table of a job's use costs: one look each second, for 20 jobs."""

from __future__ import annotations

import os
import subprocess
import time

from benchmarks.figures import Figure
from jobsphere.domain.capacity import GIB, Limits
from jobsphere.runner import cgroups
from jobsphere.runner.cgroups import Group
from jobsphere.runner.stats import TreeSampler

JOBS, PROCESSES, LOOKS = 20, 4, 500


def run() -> list[Figure]:
    """With control groups, and without: then all processes of the host are looked through."""
    group = Group(cgroups.find(), f"jobsphere-bench-{os.getpid()}")
    group.make(Limits(1, GIB))
    with group.joined():
        sleepers = [subprocess.Popen(["/bin/sleep", "600"]) for _ in range(PROCESSES)]
    try:
        grouped, looking = _share(TreeSampler(group.pids)), _share(TreeSampler(lambda: None))
    finally:
        cgroups.end(group.paths)
        for sleeper in sleepers:
            sleeper.wait()
        cgroups.remove(group.paths)
    return [
        Figure(f"{JOBS} jobs' tables, with control groups", grouped, "% of a core", target=1, at_most=True),
        Figure(f"{JOBS} jobs' tables, without", looking, "% of a core"),
        Figure("processes on this host", sum(name.isdigit() for name in os.listdir("/proc")), ""),
    ]


def _share(sampler: TreeSampler) -> float:
    begin = time.process_time()
    for _ in range(LOOKS):
        sampler.sample()
    return (time.process_time() - begin) / LOOKS * JOBS * 100
