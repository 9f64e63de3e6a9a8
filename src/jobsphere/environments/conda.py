"""Fills a prefix with conda packages: solved and linked by py-rattler, in a process of its own.

Rattler is not the standard library, and what it costs to import no supervisor shall pay.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from jobsphere.domain.conda import CondaPackages, split_channel
from jobsphere.domain.ports import EnvironmentBuildError
from jobsphere.environments.steps import Steps

INPUT_VARIABLE = "JOBSPHERE_CONDA_INPUT"
"""How the child gets its orders: channels may carry credentials, and a command line can be read by anybody."""
DEFAULT_ALIAS = "https://conda.anaconda.org"
_ANACONDA = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


def resolve(packages: CondaPackages, alias: str) -> CondaPackages:
    """The same with every channel as a URL: a name is a folder of ``alias``, and ``defaults`` Anaconda's own two.

    With another alias than the public one, ``defaults`` is a folder of it as well.
    """
    urls: list[str] = []
    for channel in packages.channels:
        urls += _ANACONDA if (channel, alias) == ("defaults", DEFAULT_ALIAS) else (_url(channel, alias),)
    return replace(
        packages,
        channels=tuple(dict.fromkeys(urls)),
        specs=tuple(_resolve_spec(spec, alias) for spec in packages.specs),
    )


def install(steps: Steps, packages: CondaPackages, prefix: Path, cache_dir: Path, glibc: str = "") -> None:
    """Solve and install; the channels of ``packages`` are URLs.

    ``glibc``: the version in the image that the prefix is for, by default this host's. Programs in the image may come
    to change the prefix: no file of it is then another link of one in the cache.

    Raises:
        EnvironmentBuildError: there is no solution, or something cannot be fetched: in the solver's words.
    """
    if importlib.util.find_spec("rattler") is None:
        raise EnvironmentBuildError(
            "the server has no py-rattler, which builds conda environments; install it: pip install py-rattler"
        )
    orders = {
        "channels": packages.channels,
        "specs": packages.specs,
        "prefix": str(prefix),
        "cache": str(cache_dir),
        "links": not glibc,
    }
    more = {INPUT_VARIABLE: json.dumps(orders)}
    if glibc:
        more["CONDA_OVERRIDE_GLIBC"] = glibc
    steps.run(
        [sys.executable, "-I", "-m", "jobsphere.environments.conda_install"],
        "the conda environment cannot be had",
        "Mend the packages, their versions or the channels in the job's conda_yaml.",
        more,
    )


def secrets_of(channels: Sequence[str]) -> list[str]:
    """The tokens in the paths of channel URLs (``/t/TOKEN/``): to be masked by value."""
    return [token for channel in channels if (token := split_token(channel)[1])]


def split_token(url: str) -> tuple[str, str]:
    """A channel URL without its ``/t/TOKEN`` and that token, empty if it has none."""
    path = urlsplit(url).path
    if not path.startswith("/t/"):
        return url, ""
    token, _, rest = path[3:].partition("/")
    return url.replace(path, f"/{rest}", 1), token


def _url(channel: str, alias: str) -> str:
    return channel if "://" in channel else f"{alias.rstrip('/')}/{channel}"


def _resolve_spec(spec: str, alias: str) -> str:
    channel, rest = split_channel(spec)
    return f"{_url(channel, alias)}::{rest}" if channel else rest
