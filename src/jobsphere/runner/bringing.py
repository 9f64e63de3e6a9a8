"""Inputs that are not on this node yet: brought by a program of its own, which a stop ends at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from jobsphere.domain.job import Phase
from jobsphere.domain.limits import human_size
from jobsphere.runner.bench import Bench, StepError

Bring = Callable[[Bench], None]
"""Sees to it that the bytes of all inputs are on this node."""


def bring_inputs(bench: Bench, has: Callable[[str, str], bool], argv: Sequence[str]) -> None:
    """Have what this node lacks brought by ``argv`` with the project and the hashes behind it.

    Raises:
        StepError: it cannot be had (the program's own words).
        StoppedError: a stop was asked for.
    """
    project_id = bench.plan.project_id
    lacking = {p.file.sha256: p.file for p in bench.plan.inputs if not has(project_id, p.file.sha256)}
    if not lacking:
        return
    begin, size = time.monotonic(), human_size(sum(file.size_bytes for file in lacking.values()))
    bench.step(f"Bringing {len(lacking)} inputs ({size}) to the node", 2)
    words: list[str] = []
    if bench.run([*argv, project_id, *lacking], os.environ, words.append):
        paths = ", ".join(file.desc.path for file in list(lacking.values())[:3])
        raise StepError(Phase.STAGE, f"Inputs cannot be brought ({paths}): {' '.join(words[-1:]) or 'no word of it'}")
    bench.log(f"Brought {len(lacking)} inputs ({size}) to the node in {time.monotonic() - begin:.3f} s")
