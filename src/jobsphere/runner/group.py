"""The control group of one attempt, from its making to the words about its end."""

from __future__ import annotations

import os
from contextlib import suppress

from jobsphere.domain.capacity import gib
from jobsphere.runner import cgroups
from jobsphere.runner.bench import Bench
from jobsphere.runner.cgroups import Group, Memory
from jobsphere.runner.rundir import GROUPS, RunDirectory

_NAME = "jobsphere-"


def make_group(bench: Bench) -> Group:
    """The group that the program starts in; one of nothing if it has no limits or a container engine sees to them.

    Its folders are written down before they are made: who closes the books of a lost attempt finds them there.
    """
    limits = bench.plan.limits
    if limits is None or bench.plan.image is not None:
        return Group()
    if reason := cgroups.why_not():
        bench.log(f"Nothing holds the program to {cgroups.words(limits)}: {reason}")
        return Group()
    group = Group(cgroups.find(), _NAME + bench.mark)
    with open(bench.run_directory.at(GROUPS), "w", encoding="utf-8") as file:
        file.write("\n".join(group.paths))
    failures = group.make(limits)
    bench.log(f"Limits: {cgroups.words(limits)}")
    if failures:
        bench.log(f"Not all of them are enforced here: {'; '.join(failures)}")
    return group


def end_group(run: RunDirectory) -> None:
    """SIGKILL what is in the attempt's group, if there is one, and remove it. May be repeated.

    Raises:
        OSError: the group cannot be removed.
    """
    try:
        with open(run.at(GROUPS), encoding="utf-8") as file:
            paths = file.read().splitlines()
    except FileNotFoundError:
        return
    cgroups.end(paths)
    cgroups.remove(paths)
    with suppress(FileNotFoundError):
        os.unlink(run.at(GROUPS))


def out_of_memory(bench: Bench, memory: Memory) -> str:
    """The sentence for a program of which something was killed for want of memory; empty if nothing was."""
    limits = bench.plan.limits
    if not memory.kills or limits is None:
        return ""
    peak = f", at its peak it had {gib(memory.peak_bytes)}" if memory.peak_bytes else ""
    return (
        f"Out of memory: the program's limit is {gib(limits.memory_bytes)}{peak}. "
        "Use less, or an instance type with more memory."
    )
