"""The operator's command, as a process; and which commands there are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from cyclopts import App

from tests.live import BIN, HANG_S


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands of ``app`` that do something, by their words."""
    if path and app.default_command is not None:
        yield path
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], (*path, name))


def jobsphere(
    data: Path, *args: str, value: bytes = b"", code: int = 0, environ: Mapping[str, str] | None = None
) -> str:
    """Run ``jobsphere ARGS --data-dir DATA`` with ``value`` on stdin: its words on stdout, on stderr if it fails."""
    done = subprocess.run(
        [BIN / "jobsphere", *args, "--data-dir", data], input=value, env=environ, capture_output=True, timeout=HANG_S
    )
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr if code else done.stdout).decode()
