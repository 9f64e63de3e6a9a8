"""Fills a prefix with uv, run as a program.

Whose settings count: those of the job (indexes, hosts) come before those of the operator (the server's environment
variables ``UV_*`` and the configuration files of the user and the system). No file of a directory above the working
directory is read: uv is told to work in ``/``.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.ports import EnvironmentBuildError
from jobsphere.environments.inherited import inherited_environment
from jobsphere.environments.steps import Steps

LINK_MODE = "clone"
"""Reflinks where the file system has them, else hard links; a copy would take ten times as long and the space twice."""
LINK_MODE_IN_IMAGES = "copy"
"""There the cache and the prefix are two mounts, which no hard link spans; the kernel shares blocks where it can."""

_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_URL = re.compile(r"https?://[^\s,]+")


def uv_environment(environment: PythonEnvironment, cache_dir: Path, *, in_image: bool = False) -> dict[str, str]:
    """The variables that uv runs with. Index URLs go here and nowhere else: a command line can be read by anybody."""
    env = inherited_environment(in_image=in_image)
    env |= {"UV_CACHE_DIR": str(cache_dir), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    env["UV_LINK_MODE"] = LINK_MODE_IN_IMAGES if in_image else LINK_MODE
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
    """The installer, as one build uses it: ``steps`` run with what :func:`uv_environment` gave.

    ``program``: the words that start it; by default the uv of this host.
    """

    def __init__(self, steps: Steps, program: Sequence[str] = ()) -> None:
        self._program = program or [find_uv(steps.env)]
        self._steps = steps

    def make_prefix(self, prefix: Path, python: str) -> None:
        """Make an empty environment. ``python`` is an interpreter's path, or a version for uv to find or fetch.

        Raises:
            EnvironmentBuildError: there is no such interpreter.
        """
        self._steps.run(
            [*self._program, "venv", "--directory", "/", "--no-project", "--python", python, "--", str(prefix)],
            f"Python {python} cannot be had",
            "Choose another python_version, or have this one installed on the server.",
        )

    def fill_prefix(self, prefix: Path, python: str) -> None:
        """As :meth:`make_prefix`, of a folder that is there, with an interpreter that is there: none is fetched.

        What is installed for that interpreter can be imported as well; what is installed into the prefix comes before.

        Raises:
            EnvironmentBuildError: there is no such interpreter.
        """
        argv = [
            *self._program,
            "venv",
            "--directory",
            "/",
            "--no-project",
            "--allow-existing",
            "--system-site-packages",
        ]
        self._steps.run(
            [*argv, "--no-managed-python", "--no-python-downloads", "--python", python, "--", str(prefix)],
            f"{python} cannot be used",
            "Use another image or another python_version.",
        )

    def fetch_python(self, version: str, folder: Path, what: str, next_step: str) -> Path:
        """Fetch a standalone Python, for Linux with glibc, into a folder: its interpreter.

        Raises:
            EnvironmentBuildError: it cannot be had: ``what``, uv's words, ``next_step``.
        """
        wanted = f"cpython-{version}-linux-{platform.machine()}-gnu"
        argv = [*self._program, "python", "install", "--directory", "/", "--no-bin"]
        self._steps.run([*argv, "--install-dir", str(folder), "--", wanted], what, next_step)
        found = (p for p in folder.glob(f"cpython-*/bin/python{version}") if not p.parent.parent.is_symlink())
        return next(found)

    def install(self, prefix: Path, requirements_file: Path, no_deps: bool) -> None:
        """Install what the file lists. The prefix is ours, whatever its interpreter says of who manages it.

        Raises:
            EnvironmentBuildError: it cannot be resolved, fetched or built.
        """
        python = str(prefix / "bin" / "python")
        argv = [*self._program, "pip", "install", "--directory", "/", "--python", python, "--break-system-packages"]
        self._steps.run(
            [*argv, "--requirements", str(requirements_file), *(["--no-deps"] * no_deps)],
            "the requirements cannot be installed",
            "Mend the packages, their versions, or the index URLs and their logins in the job's python environment.",
        )


def _put_before(env: dict[str, str], name: str, values: Sequence[str]) -> None:
    if values:
        env[name] = " ".join([*values, *env.get(name, "").split()])


def find_uv(env: Mapping[str, str]) -> str:
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
