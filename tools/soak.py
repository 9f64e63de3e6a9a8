"""Run the long tests whole, part by part: what has passed with this very code is not run again.

    python tools/soak.py [--again]

Each part is one run of pytest, whose words go to a file below ``.soak``; bars show how far the sweeps are. One that is
broken off (Ctrl-C, a reboot) goes on where it was when it is started again. ``--again``: forget what has passed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tests.crash.ledger import FOLDER, ROOT, ends_in, state_of
from tests.live import processes_of

_LOAD, _CRASH, _PLACES = (f"tests/acceptance/test_{name}.py" for name in ("load", "crash", "places"))
_AT_ONCE = str(min(6 * (os.cpu_count() or 1), 12))
"""A sweep waits for much: starts of a server, ends of a job. Each takes some 250 MiB."""
PARTS = {
    # Alone on its machine, for it measures.
    "load": [_LOAD],
    # Each kind of job is a test with a server of its own.
    "crash": [_CRASH, "--numprocesses", _AT_ONCE, "--dist", "load"],
    # The main job on every kind of database, store of files, and nodes: runs of pytest, one after the other.
    "places": [_PLACES],
    "others": [
        *("tests", "--ignore", _LOAD, "--ignore", _CRASH, "--ignore", _PLACES),
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
    command, mark = [sys.executable, "-m", "pytest", *PARTS[name]], f"soak-{uuid.uuid4()}"
    environ = {**os.environ, "JOBSPHERE_SOAK": mark}
    with words.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT)
        try:
            _watch(name, process, folder, console)
        finally:
            _end_all(mark)
    console.print("\n".join(words.read_text().splitlines()[-_SHOWN:]), markup=False, highlight=False)
    if process.returncode == 0:
        passed.touch()
    return process.returncode == 0


def _end_all(mark: str) -> None:
    """Workers of pytest that are broken off leave their servers behind."""
    for pid in processes_of(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


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
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("broken off; started again, it goes on where it was")
