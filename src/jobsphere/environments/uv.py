"""Fills a prefix with uv, run as a program.

Whose settings count: those of the job (indexes, hosts) come before those of the operator (the server's environment
variables ``UV_*`` and the configuration files of the user and the system). No file of a directory above the working
directory is read: uv is told to work in ``/``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.ports import EnvironmentBuildError, Workbench

LAST_LINES = 40
_NOT_INHERITED = frozenset(
    {
        "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV",
        "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_WORKING_DIR",
    }
)  # fmt: skip
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_URL = re.compile(r"https?://[^\s,]+")
_NOISE = re.compile(
    r"\s*(Activate with|Built|Building|Creating virtual|Downloaded|Downloading|Installed|Prepared|Resolved|"
    r"Uninstalled|Updated|Updating|Using (CPython|Python|PyPy))\b"
)


def uv_environment(environment: PythonEnvironment, cache_dir: Path) -> dict[str, str]:
    """The variables that uv runs with. Index URLs go here and nowhere else: a command line can be read by anybody."""
    env = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    env |= {"UV_CACHE_DIR": str(cache_dir), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    if environment.extra_index_urls:
        # As pip does: any index may serve any package, and the best version wins. Only where it makes a difference,
        # for uv does not tell then that an index has refused the login.
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if environment.index_url:
        env.pop("UV_INDEX_URL", None)
        env["UV_DEFAULT_INDEX"] = environment.index_url
    _put_before(env, "UV_INDEX", environment.extra_index_urls)
    _put_before(env, "UV_INSECURE_HOST", environment.trusted_hosts)
    return env


def index_urls(env: Mapping[str, str]) -> list[str]:
    """All index URLs that uv is given by ``env``, the operator's among them: what is to be masked."""
    return [url for name in _INDEX_VARIABLES for url in _URL.findall(env.get(name, ""))]


class Uv:
    """The installer, as one build uses it.

    Args:
        env: What :func:`uv_environment` gave.
        mask: Applied to every line before anybody sees it.
        bench: Runs the program.
    """

    def __init__(self, env: Mapping[str, str], mask: Callable[[str], str], bench: Workbench) -> None:
        self._program = _find_uv(env)
        self._env = env
        self._mask = mask
        self._bench = bench

    def make_prefix(self, prefix: Path, python: str) -> None:
        """Make an empty environment. ``python`` is an interpreter's path, or a version for uv to find or fetch.

        Raises:
            EnvironmentBuildError: there is no such interpreter.
        """
        self._run(
            ["venv", "--directory", "/", "--no-project", "--python", python, "--", str(prefix)],
            f"Python {python} cannot be had",
            "Choose another python_version, or have this one installed on the server.",
        )

    def install(self, prefix: Path, requirements_file: Path, no_deps: bool) -> None:
        """Install what the file lists.

        Raises:
            EnvironmentBuildError: it cannot be resolved, fetched or built.
        """
        python = str(prefix / "bin" / "python")
        argv = ["pip", "install", "--directory", "/", "--python", python, "--requirements", str(requirements_file)]
        self._run(
            argv + ["--no-deps"] * no_deps,
            "the requirements cannot be installed",
            "Mend the packages, their versions, or the index URLs and their logins in the job's python environment.",
        )

    def _run(self, argv: Sequence[str], what: str, next_step: str) -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            masked = self._mask(line.rstrip())
            lines.append(masked)
            self._bench.log(masked)

        if self._bench.run([self._program, *argv], self._env, on_line) != 0:
            raise EnvironmentBuildError("\n".join([f"{what}:", *_telling(lines), next_step]))


def _telling(lines: Sequence[str]) -> list[str]:
    """The last lines that say what went wrong."""
    return [line for line in lines if line and not _NOISE.match(line)][-LAST_LINES:]


def _put_before(env: dict[str, str], name: str, values: Sequence[str]) -> None:
    if values:
        env[name] = " ".join([*values, *env.get(name, "").split()])


def _find_uv(env: Mapping[str, str]) -> str:
    """The one that came with this server, else the one on PATH."""
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv", path=env.get("PATH"))
    if found is None:
        raise EnvironmentBuildError(
            "the server has no uv, which builds environments; install it next to the server: pip install uv"
        )
    return found
