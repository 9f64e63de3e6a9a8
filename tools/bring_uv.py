"""Bring the locked uv without pip: Debian's Python has neither pip nor ensurepip, and uv needs neither.

Usage: ``python3 tools/bring_uv.py TARGET``. Address and hash of the wheel are those of ``uv.lock``.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "uv.lock"


def wheel_for_this_machine() -> tuple[str, str]:
    """Address and SHA-256 of the wheel."""
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    ends = f"_{platform.machine()}.whl"
    packages = tomllib.loads(LOCK.read_text())["package"]
    wheels = next(p for p in packages if p["name"] == "uv")["wheels"]
    for wheel in wheels:
        name = wheel["url"].rpartition("/")[2]
        if libc in name and name.endswith(ends):
            return wheel["url"], wheel["hash"].removeprefix("sha256:")
    sys.exit(f"there is no uv for {platform.machine()} with {libc} in uv.lock; install uv and try again")


def main(target: Path) -> None:
    """Download, check, and put the program at ``target``."""
    url, expected = wheel_for_this_machine()
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            content = answer.read()
    except OSError as e:
        sys.exit(f"uv cannot be downloaded ({e}); install uv and try again")
    if hashlib.sha256(content).hexdigest() != expected:
        sys.exit("the downloaded uv is not the locked one: its hash differs")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        program = next(n for n in wheel.namelist() if n.endswith(".data/scripts/uv"))
        draft = target.with_suffix(f".{os.getpid()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(wheel.read(program))
    draft.chmod(0o755)
    draft.replace(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
