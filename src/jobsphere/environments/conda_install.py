"""``python -I -m jobsphere.environments.conda_install``: one conda prefix. See :mod:`jobsphere.environments.conda`.

The orders are JSON in an environment variable; lines for the user go to stdout; the exit code is 1 if it cannot be had.
Logins of channel URLs are given to rattler apart from the URLs, by a file in memory: it writes URLs into the prefix.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import rattler
from rattler import exceptions
from rattler.networking import AuthenticationMiddleware, RetryMiddleware

from jobsphere.domain.conda import split_channel
from jobsphere.environments.conda import INPUT_VARIABLE, split_token

PROGRESS_EVERY_S = 5.0
SOLVE_TIMEOUT = timedelta(minutes=10)
_NO_SYMBOLIC_LINKS = "allow-symbolic-links = false\n"
_NO_LINKS = f"allow-hard-links = false\n{_NO_SYMBOLIC_LINKS}"
_AUTH_FILE = "RATTLER_AUTH_FILE"
_ERRORS = (
    exceptions.DetectVirtualPackageError,
    exceptions.ExtractError,
    exceptions.FetchRepoDataError,
    exceptions.GatewayError,
    exceptions.InstallerError,
    exceptions.InvalidChannelError,
    exceptions.InvalidMatchSpecError,
    exceptions.InvalidUrlError,
    exceptions.IoError,
    exceptions.LinkError,
    exceptions.SolverError,
    exceptions.TransactionError,
    exceptions.ValidatePackageRecordsError,
)


def main() -> int:
    """Follow the orders: the exit code."""
    orders = json.loads(os.environ.pop(INPUT_VARIABLE))
    logins: dict[str, Any] = {}
    channels = [_without_login(channel, logins) for channel in orders["channels"]]
    specs = [_bare_spec(spec, logins) for spec in orders["specs"]]
    if logins:
        _give_logins(logins)
    try:
        asyncio.run(_install(channels, specs, Path(orders["prefix"]), Path(orders["cache"]), links=orders["links"]))
    except _ERRORS as error:
        _say(str(error))
        return 1
    return 0


async def _install(channels: list[str], specs: list[str], prefix: Path, cache: Path, *, links: bool) -> None:
    client = rattler.Client([RetryMiddleware(), AuthenticationMiddleware()])
    machine = rattler.VirtualPackage.detect()
    shown = ", ".join(str(package.into_generic()) for package in machine)
    _say(f"solving {len(specs)} specs in {len(channels)} channels for a machine with {shown}")
    records = await rattler.solve(
        channels,
        [rattler.MatchSpec(spec) for spec in specs],
        gateway=rattler.Gateway(cache_dir=cache / "repodata", client=client),
        virtual_packages=machine,
        timeout=SOLVE_TIMEOUT,
    )
    total = sum(record.size or 0 for record in records)
    _say(f"solved: {len(records)} packages, {total / 1e6:.1f} MB")
    progress = _Progress(len(records))
    telling = asyncio.create_task(_tell(progress.text))
    try:
        await rattler.install(
            records,
            prefix,
            cache_dir=cache / "packages",
            client=client,
            reporter=progress,
            config=rattler.Config.from_toml(_NO_LINKS if not links else _NO_SYMBOLIC_LINKS),
        )
    finally:
        telling.cancel()
    for record in sorted(records, key=lambda r: r.name.normalized):
        _say(f" + {record.name.normalized}={record.version}={record.build}")


class _Progress(rattler.InstallerReporter):
    """Counts; called from rattler's own threads."""

    def __init__(self, packages: int) -> None:
        self._packages = packages
        self._linked = 0
        self._bytes: dict[int, int] = {}
        self._downloads = 0

    def on_download_start(self, cache_entry: int) -> int:  # noqa: ARG002 - rattler's signature
        self._downloads += 1
        return self._downloads

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:  # noqa: ARG002
        self._bytes[download_idx] = progress

    def on_link_complete(self, index: int) -> None:  # noqa: ARG002 - rattler's signature
        self._linked += 1

    def text(self) -> str:
        """How far it is."""
        return f"{sum(self._bytes.values()) / 1e6:.1f} MB fetched, {self._linked} of {self._packages} packages linked"


async def _tell(text: Callable[[], str]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        _say(text())


def _without_login(channel: str, logins: dict[str, Any]) -> str:
    url, token = split_token(channel)
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if token:
        logins[_host(host)] = {"CondaToken": token}
    if not parts.username:
        return url
    logins[_host(host)] = {
        "BasicHTTP": {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    }
    return parts._replace(netloc=host).geturl()


def _host(netloc: str) -> str:
    """Rattler knows logins by the host without its port."""
    return urlsplit(f"//{netloc}").hostname or netloc


def _bare_spec(spec: str, logins: dict[str, Any]) -> str:
    channel, rest = split_channel(spec)
    return f"{_without_login(channel, logins)}::{rest}" if channel else rest


def _give_logins(logins: dict[str, Any]) -> None:
    """Those of the job come before those of the operator's file."""
    known = os.environ.get(_AUTH_FILE, "")
    everything = json.loads(Path(known).read_bytes()) if known and Path(known).exists() else {}
    fd = os.memfd_create("logins")
    os.write(fd, json.dumps({**everything, **logins}).encode())
    os.environ[_AUTH_FILE] = f"/proc/self/fd/{fd}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the supervisor reads it


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not by the interpreter's own end: rattler's threads may still call into it, and then it dies of a signal.
    os._exit(code)
