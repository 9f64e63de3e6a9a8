"""The GPUs of an attempt, as CUDA is told of them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace

from jobsphere.domain.attempt import AttemptPlan

_DRIVER = "/proc/driver/nvidia/gpus"
_FIELD = re.compile(r"^(GPU UUID|Device Minor):\s*(\S+)", re.MULTILINE)


def visible_gpus(indices: Sequence[int], driver: str = _DRIVER) -> str:
    """The value of ``CUDA_VISIBLE_DEVICES``: nothing hides all.

    By their UUIDs where the driver tells them, for those hold wherever the program runs: where it sees only its own
    device nodes, CUDA counts these from 0.
    """
    uuids = _uuids(driver) if indices else {}
    return ",".join(uuids.get(index, str(index)) for index in indices)


def fit_gpus(plan: AttemptPlan) -> AttemptPlan:
    """The plan with the GPUs that Slurm has chosen for this job of its: the server knew only how many."""
    if plan.limits is None or not plan.limits.gpus:
        return plan
    chosen = tuple(int(index) for index in os.environ.get("SLURM_JOB_GPUS", "").split(",") if index.isdigit())
    return replace(plan, limits=replace(plan.limits, gpus=chosen))


def _uuids(driver: str) -> dict[int, str]:
    """By the number of the device node."""
    found: dict[int, str] = {}
    for path in glob.glob(os.path.join(driver, "*", "information")):
        with open(path, encoding="utf-8") as file:
            fields = dict(_FIELD.findall(file.read()))
        if "Device Minor" in fields and "GPU UUID" in fields:
            found[int(fields["Device Minor"])] = fields["GPU UUID"]
    return found
