"""What a sweep has tried of this very code: one that was broken off goes on where it was, and can be looked at.

A folder for each state of the sources, below ``.soak``; in it a file for each sweep, a line of JSON each: the number of
its cases first, then each case that was tried and how it ended. What failed is not in it: it is tried again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".soak"
OF_SWEEPS = ("src/jobsphere", "tests/crash")


@functools.cache
def state_of(sources: tuple[str, ...] = OF_SWEEPS) -> str:
    """Another one whenever a line of these folders is another one: by default of the product and the sweeps."""
    digest = hashlib.sha256()
    for top in sources:
        for path in sorted((ROOT / top).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Ledger:
    """The file of one sweep; ``folder`` None: nothing is kept."""

    def __init__(self, sweep: str, folder: Path | None) -> None:
        self._path = folder and folder / f"{sweep.replace(' ', '-')}.jsonl"
        self.ends: dict[str, str] = {}
        if self._path is not None and self._path.exists():
            self.ends = ends_in(self._path)[1]

    def begin(self, cases: int) -> None:
        """Say how many there are."""
        self._write({"cases": cases})

    def note(self, case: str, how: str) -> None:
        """A case has ended as it may."""
        self.ends[case] = how
        self._write({"case": case, "how": how})

    def _write(self, line: dict[str, object]) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(f"\n{json.dumps(line)}")  # on a line of its own, whatever was torn before


def ends_in(path: Path) -> tuple[int, dict[str, str]]:
    """How many cases a sweep has, and how those that were tried have ended."""
    cases, ends = 0, dict[str, str]()
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # its writer was killed in the middle
            continue
        cases = line.get("cases", cases)
        if "case" in line:
            ends[line["case"]] = line["how"]
    return cases, ends
