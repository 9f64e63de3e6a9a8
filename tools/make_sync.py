"""Make the client that blocks from the one for asyncio: ``python tools/make_sync.py [--check]``.

``--check`` writes nothing and exits with 1 if what is there is not what would be made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parent.parent / "src" / "jobsphere" / "client"
BY_HAND = {"__init__.py", "transport.py"}
NAMES = {
    "_async": "_sync",
    "AsyncCalls": "Calls",
    "AsyncClient": "Client",
    "AsyncJob": "Job",
    "aclose": "close",
    "aread": "read",
    "aiter_bytes": "iter_bytes",
}


def main(check: bool) -> int:
    """Make all modules; the exit code."""
    stale: list[str] = []
    for source in sorted((CLIENT / "_async").glob("*.py")):
        if source.name in BY_HAND:
            continue
        target = CLIENT / "_sync" / source.name
        made = _made(source)
        if not target.exists() or target.read_text() != made:
            stale.append(source.name)
            if not check:
                target.write_text(made)
    if stale and check:
        print(f"not made from _async: {', '.join(stale)}; run make fmt", file=sys.stderr)  # noqa: T201
    return int(check and bool(stale))


def _made(source: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(f"{source.parent}/", f"{folder}/", additional_replacements=NAMES)
        unasync.unasync_files([str(source)], [rule])
        text = (Path(folder) / source.name).read_text()
    target = str(CLIENT / "_sync" / source.name)
    for command in (["check", "--fix-only", "--quiet", "--select", "I"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", target, "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
