"""The operator's command, as a process."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.live import BIN, HANG_S


def jobsphere(
    data: Path, *args: str, value: bytes = b"", code: int = 0, environ: Mapping[str, str] | None = None
) -> str:
    """Run ``jobsphere ARGS --data-dir DATA`` with ``value`` on stdin: its words on stdout, on stderr if it fails."""
    done = subprocess.run(
        [BIN / "jobsphere", *args, "--data-dir", data], input=value, env=environ, capture_output=True, timeout=HANG_S
    )
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr if code else done.stdout).decode()
