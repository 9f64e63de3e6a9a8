"""A real file system whose files can share blocks: XFS in a file, mounted for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.live import unmount

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def why_not() -> str:
    """What is missing for it; empty if it can be had."""
    if shutil.which("mkfs.xfs", path=_PATH) is None:
        return "mkfs.xfs is not installed (Debian: apt-get install xfsprogs)"
    return "" if os.geteuid() == 0 else "to mount a file system takes root"


@contextmanager
def shared_blocks(folder: Path, size_bytes: int) -> Generator[Path]:
    """The top of one of that size, in ``folder``; what is not written takes no room there."""
    image, top = folder / "xfs", folder / "shared-blocks"
    top.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    environ = {**os.environ, "PATH": _PATH}
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, env=environ)
    subprocess.run(["mount", "-o", "loop", image, top], check=True, env=environ)
    try:
        yield top
    finally:
        unmount(top)
        image.unlink()
