"""How a prefix is filled: on this host, or in the image that its job runs in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.ports import EnvironmentBuildError, InsideImage, Workbench
from jobsphere.environments import conda
from jobsphere.environments.eviction import BUILD_MARK
from jobsphere.environments.inherited import named_files
from jobsphere.environments.interpreters import find_interpreter
from jobsphere.environments.masking import masker
from jobsphere.environments.portable import make_portable
from jobsphere.environments.steps import Steps
from jobsphere.environments.uv import Uv, find_uv, index_urls, uv_environment

_GLIBC = (
    "getconf GNU_LIBC_VERSION 2>/dev/null && exit; "
    "for c in /lib/libc.so.6 /lib64/libc.so.6 /lib/*/libc.so.6 /usr/lib/libc.so.6 /usr/lib64/libc.so.6; do "
    '[ -x "$c" ] && "$c" && exit; done'
)
_GLIBC_SAYS = re.compile(r"(?:^glibc|GNU C Library.* version) (\d+\.\d+)")
_ON_GLIBC = "an image with glibc (of Debian, Ubuntu, Fedora, not of Alpine)"


def fill_on_host(
    environment: PythonEnvironment, prefix: Path, cache: Path, search_path: Sequence[str], bench: Workbench
) -> None:
    """Fill the prefix with an interpreter and libraries of this host.

    Raises:
        EnvironmentBuildError: something cannot be had.
    """
    steps = _host_steps(environment, prefix, cache, bench)
    if environment.conda:
        conda.install(steps, environment.conda, prefix, cache / "conda")
    else:
        python = find_interpreter(environment.python_version, search_path, steps.env, bench)
        Uv(steps).make_prefix(prefix, python or environment.python_version)
    if environment.requirements:
        listed = _list_requirements(environment, prefix)
        (uv_cache := cache / "uv").mkdir(parents=True, exist_ok=True)
        # Source packages are built now: by what their authors, and whoever runs the job's index, say.
        fenced = steps.fenced([listed], [prefix, uv_cache])
        Uv(fenced).install(prefix, listed, environment.no_deps)


def fill_in_image(
    environment: PythonEnvironment, prefix: Path, cache: Path, inside: InsideImage, bench: Workbench
) -> None:
    """Fill the prefix with an interpreter and libraries of the image.

    Only conda packages and standalone Pythons come from outside. What is built in an image goes into a cache of the
    image's own: it may fit no other, and nobody there can change what is used elsewhere.

    Raises:
        EnvironmentBuildError: something cannot be had.
    """
    _InImage(environment, prefix, cache, inside, bench).fill()


class _InImage:
    def __init__(
        self, environment: PythonEnvironment, prefix: Path, cache: Path, inside: InsideImage, bench: Workbench
    ) -> None:
        self._environment = environment
        self._prefix = prefix
        self._cache = cache
        self._inside = inside
        self._bench = bench
        self._host = _host_steps(environment, prefix, cache, bench)
        self._requirements = _list_requirements(environment, prefix)

    def fill(self) -> None:
        if self._environment.conda:
            conda.install(self._host, self._environment.conda, self._prefix, self._cache / "conda", self._glibc())
            self._inside.lend(self._prefix)
        else:
            self._prefix.mkdir()
            self._inside.lend(self._prefix)
            self._make_prefix()
        if self._environment.requirements:
            self._uv().install(self._prefix, self._requirements, self._environment.no_deps)
        self._inside.take_back(self._prefix)

    def _make_prefix(self) -> None:
        version = self._environment.python_version
        try:
            self._uv().fill_prefix(self._prefix, version or "python3")
        except EnvironmentBuildError as error:
            if not version:
                raise EnvironmentBuildError(
                    "the image has no python3 on its PATH; use one that has, or ask for a python_version"
                ) from error
            python = self._fetch_python(version)
            self._uv().fill_prefix(self._prefix, str(python))

    def _fetch_python(self, version: str) -> Path:
        """Into the prefix: it goes with it, and what is mounted with it."""
        what = f"Python {version} cannot be had: the image has none on its PATH"
        use = f"Use an image that has Python {version}"
        if not self._glibc_version():
            brought = "one that is brought along needs glibc, which the image lacks as well"
            raise EnvironmentBuildError(f"{what}, and {brought}. {use}, or {_ON_GLIBC}.")
        self._bench.log(f"the image has no Python {version}: bringing one along")
        next_step = f"{use}, or have the server's operator let uv fetch Pythons (network, UV_PYTHON_DOWNLOADS)."
        what = f"{what}, and uv cannot bring one along"
        return Uv(self._host).fetch_python(version, self._prefix / "python", what, next_step)

    def _uv(self) -> Uv:
        """It may be used again and again, each time with what is lent by then."""
        own_cache = self._cache / "images" / self._inside.image_id
        own_cache.mkdir(parents=True, exist_ok=True)
        self._inside.lend(own_cache)
        env = uv_environment(self._environment, own_cache, in_image=True) | _mark(self._prefix)
        program = make_portable(find_uv(self._host.env), self._cache / "portable", self._host.env, self._bench)
        read = [*program.files, self._requirements, *named_files(env)]
        bench = self._inside.bench(read, [self._prefix, own_cache])
        return Uv(Steps(env, self._host.mask, bench), program.words)

    def _glibc(self) -> str:
        version = self._glibc_version()
        if not version:
            raise EnvironmentBuildError(f"conda packages need glibc, which the image lacks. Use {_ON_GLIBC}.")
        return version

    def _glibc_version(self) -> str:
        """As the image says; empty if it has none."""
        lines: list[str] = []
        self._inside.bench([], []).run(["/bin/sh", "-c", _GLIBC], _mark(self._prefix), lines.append)
        return next((found.group(1) for line in lines if (found := _GLIBC_SAYS.search(line))), "")


def _host_steps(environment: PythonEnvironment, prefix: Path, cache: Path, bench: Workbench) -> Steps:
    env = uv_environment(environment, cache / "uv") | _mark(prefix)
    channels = environment.conda.channels if environment.conda else ()
    return Steps(env, masker([*index_urls(env), *channels], conda.secrets_of(channels)), bench)


def _mark(prefix: Path) -> dict[str, str]:
    return {BUILD_MARK: str(prefix)}


def _list_requirements(environment: PythonEnvironment, prefix: Path) -> Path:
    """What the installer is given: it holds no secret, and the installer may be another user."""
    listed = prefix.with_suffix(".requirements")
    listed.write_text("".join(f"{line}\n" for line in environment.requirements))
    listed.chmod(0o644)
    return listed
