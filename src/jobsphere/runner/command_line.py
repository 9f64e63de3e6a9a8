"""The user's command with its variables, as a shell gets it."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Mapping

from jobsphere.domain.attempt import AttemptPlan, Mount
from jobsphere.domain.command import MODULES, WORK, substitute
from jobsphere.domain.spark import SPARK_FILE, SPARK_VARIABLE
from jobsphere.runner.gpus import visible_gpus
from jobsphere.runner.processes import ATTEMPT_VARIABLE

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USER = "jobsphere"


_ACTIVATE = 'for _script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$_script"; done; unset _script; '
"""As ``conda activate`` does, for packages that need more than a PATH. In the command's first line: numbers stay."""


def program_argv(
    plan: AttemptPlan, root: str, prefix: str | None = None, mounted: Mapping[Mount, str] | None = None
) -> list[str]:
    """The program's command line. ``root``: the job's root as the program sees it; ``mounted``: where mounts are."""
    places = {name: posixpath.join(root, place) for name, place in plan.locations}
    places |= {name: place for mount, place in (mounted or {}).items() for name in mount.names}
    shell = shutil.which("bash", path=SYSTEM_PATH) or "/bin/sh"
    activate = _ACTIVATE if prefix and _has_scripts(f"{prefix}/etc/conda/activate.d") else ""
    return [shell, "-c", activate + substitute(plan.cmd, {**dict(plan.literals), **places})]


def _has_scripts(folder: str) -> bool:
    return os.path.isdir(folder) and any(name.endswith(".sh") for name in os.listdir(folder))


def program_environment(
    plan: AttemptPlan, root: str, prefix: str | None, mark: str, secrets: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment variables of the program: nothing of the server's own but what is listed here.

    ``mark``: what its processes are found by. ``secrets``: more variables, which the job's own come before.
    """
    variables = {
        "PATH": f"{prefix}/bin:{SYSTEM_PATH}" if prefix else SYSTEM_PATH,
        "HOME": posixpath.join(root, "home"),
        "TMPDIR": posixpath.join(root, "tmp"),
        "LANG": "C.UTF-8",
        "USER": _USER,
        "LOGNAME": _USER,
        "PYTHONUNBUFFERED": "1",
        "JOBSPHERE_JOB_ID": plan.job_id,
    }
    if prefix and plan.environment and plan.environment.conda:
        variables |= {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": prefix}
    elif prefix:
        variables["VIRTUAL_ENV"] = prefix
    if any(p.target == MODULES for p in plan.inputs):
        variables["PYTHONPATH"] = posixpath.join(root, MODULES)
    if plan.spark is not None:
        variables[SPARK_VARIABLE] = posixpath.join(root, WORK, SPARK_FILE)
    # Not the user's to change: leftovers are found by the id, and a GPU is one job's.
    fixed = {ATTEMPT_VARIABLE: mark}
    if plan.limits is not None:
        fixed["CUDA_VISIBLE_DEVICES"] = visible_gpus(plan.limits.gpus)
    return {**variables, **(secrets or {}), **dict(plan.variables), **fixed}
