"""Run the long tests whole, part by part: what has passed with this very code is not run again.

    python tools/soak.py [--again]

Each part is one run of pytest, whose words go to a file below ``.soak``; bars show how far the sweeps are. One that is
broken off (Ctrl-C, a reboot) goes on where it was when it is started again. ``--again``: forget what has passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tests.crash.ledger import FOLDER, ROOT, ends_in, state_of

_LOAD, _CRASH = "tests/acceptance/test_load.py", "tests/acceptance/test_crash.py"
_AT_ONCE = str(min((os.cpu_count() or 1) + 1, 8))
PARTS = {
    # Alone on its machine, for it measures.
    "load": [_LOAD],
    # Each kind of job is a test with a server of its own.
    "crash": [_CRASH, "--numprocesses", _AT_ONCE, "--dist", "load"],
    "others": [
        *("tests", "--ignore", _LOAD, "--ignore", _CRASH),
        *("--numprocesses", "auto", "--maxprocesses", "8", "--dist", "loadfile"),
    ],
}
_ALL = ("src/jobsphere", "tests")
_SHOWN = 80
"""As many lines of a part's words are shown at its end."""
_LOOK_S = 1.0


def main() -> None:
    """Run what has not passed yet; exit code 1 if a part fails."""
    folder = FOLDER / state_of()
    if "--again" in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    failed = [name for name in PARTS if not _run(name, folder, console)]
    if failed:
        console.print(f"failed: {', '.join(failed)}; see {folder.relative_to(ROOT)}")
        sys.exit(1)


def _run(name: str, folder: Path, console: Console) -> bool:
    passed, words = folder / f"{name}-{state_of(_ALL)}.passed", folder / f"{name}.log"
    if passed.exists():
        console.print(f"{name}: passed before, with the same code")
        return True
    command = [sys.executable, "-m", "pytest", *PARTS[name]]
    with words.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "JOBSPHERE_SOAK": "1"}, stdout=out, stderr=subprocess.STDOUT
        )
        _watch(name, process, folder, console)
    console.print("\n".join(words.read_text().splitlines()[-_SHOWN:]), markup=False, highlight=False)
    if process.returncode == 0:
        passed.touch()
    return process.returncode == 0


def _watch(name: str, process: subprocess.Popen[bytes], folder: Path, console: Console) -> None:
    """Show how far it is until it ends; Ctrl-C reaches it too, and it is waited for."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bars = {"": progress.add_task(name, total=None)}
        while process.poll() is None:
            for path in sorted(folder.glob("*.jsonl")) if name == "crash" else ():
                cases, ends = ends_in(path)
                bar = bars.get(path.stem) or bars.setdefault(path.stem, progress.add_task(path.stem))
                progress.update(bar, total=cases, completed=len(ends))
            try:
                time.sleep(_LOOK_S)
            except KeyboardInterrupt:
                process.wait()
                raise


if __name__ == "__main__":
    main()
