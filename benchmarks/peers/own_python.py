"""Peers that run in a Python of their own, which uv makes for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def measured_with(requirement: str, program: str) -> dict[str, float] | None:
    """What the program prints as JSON in its last line; None where the requirement cannot be had, or it fails."""
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "run", "--no-project", "--quiet", "--isolated", "--with", requirement, "python", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
