"""What is tried to break the server, and what came of it: gathered from the tests, shown, and written to the docs.

A test of a fault is marked ``@pytest.mark.fault(NAME)``, and :data:`TOLD` has what the user is told of it; the sweeps
add what they have killed. ``make soak`` writes the tables of ``docs/reliability.md``: rows of tests that did not run
stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TOLD = {
    "disk full at each durable step": "a call: RESOURCE_EXHAUSTED, the disk is full; a job: No space left on device",
    "disk read-only at each durable step": "a call: UNAVAILABLE, try again; a job: Read-only file system",
    "a file system that fills up": "No space left on device: the job was ended and its files were removed",
    "a file system that is full for all": "RESOURCE_EXHAUSTED: the disk is full; make room and try again",
    "a file system that has become read-only": "cannot use FILE: Read-only file system; see that it can be written",
    "corrupted blob": "The stored input is corrupted; create the job again to upload it",
    "truncated log frames": "the log ends at its last whole frame",
    "SQLite: full, failing, damaged": "the disk that holds the database is full; make room and try again",
    "SQLite: busy and locked": "the database is locked by another process; try again",
    "clock that jumps back": "nothing: times do not run backwards",
    "10,000 log files": "nothing",
    "log line of 10 GiB without an end": "nothing: it is shown in pieces",
    "client that stops reading a stream": "its stream waits for it; the job and others do not",
    "uploads cut in the middle and repeated": "the connection ended before all bytes came; send it again",
    "slow-loris on every port": "the connection is cut; calls of others are answered",
    "SIGSTOP on the supervisor": "nothing: it goes on where it was; a cancel wakes it",
    "server killed under load": "nothing: clients repeat their calls, and read on in their logs where they were",
    "supervisors killed under load": "The job was lost: the supervisor of the job was killed; create it anew",
    "leading server killed": "nothing: another leads, jobs and logs go on",
    "server killed through which a client follows a log": "nothing: it reads on at another server, where it was",
    "leading server stopped for a while": "nothing: another leads; it starts nothing twice when it goes on",
    "servers killed one after the other": "nothing: another leads, jobs and logs go on",
    "all connections to the database cut": "nothing: they are made anew",
    "bucket away": "a call: UNAVAILABLE, the bucket cannot be reached; a job that ends: nothing, its outputs wait",
    "spawner, supervisor, or both killed": "The job was lost: the supervisor of the job was killed; create it anew",
}
"""What the user is told, by fault."""
PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"


@dataclass(frozen=True)
class Sweep:
    """Kills of one kind of job: how many there could be, how many were tried, and how the jobs ended."""

    kind: str
    possible: int
    tried: int
    undisturbed: int
    told: int

    @property
    def row(self) -> tuple[str, ...]:
        lost = self.tried - self.undisturbed - self.told
        return self.kind, *map(str, (self.possible, self.tried, self.undisturbed, self.told, lost))


@dataclass(frozen=True)
class Load:
    """Many clients at once, and kills. ``mib``, ``descriptors``: what the server held, idle, before and after."""

    clients: int
    seconds: int
    calls: int
    jobs: int
    servers: int
    supervisors: int
    by_themselves: int
    cancelled: int
    told: int
    mib: tuple[int, int]
    descriptors: tuple[int, int]

    @property
    def silent(self) -> int:
        return self.jobs - self.by_themselves - self.cancelled - self.told

    @property
    def row(self) -> tuple[str, ...]:
        counts = (self.seconds, self.calls, self.jobs, self.servers, self.supervisors)
        ends = (self.by_themselves, self.cancelled, self.told, self.silent)
        held = (" → ".join(map(str, pair)) for pair in (self.mib, self.descriptors))
        return f"{self.clients} clients", *map(str, (*counts, *ends)), *held


@dataclass(frozen=True)
class Takeover:
    """How long it took until another server led, in seconds, each time that one was killed at some moment."""

    moment: str
    seconds: tuple[float, ...]

    @property
    def row(self) -> tuple[str, ...]:
        return self.moment, str(len(self.seconds)), f"{min(self.seconds):.1f}", f"{max(self.seconds):.1f}"


@dataclass(frozen=True)
class Place:
    """The main job's acceptance tests at one kind of place."""

    name: str
    ran: int
    passed: int
    failed: int

    @property
    def row(self) -> tuple[str, ...]:
        return self.name, *map(str, (self.ran, self.passed, self.failed))


@dataclass
class Fault:
    """One fault in all its cases."""

    name: str
    tried: int = 0
    survived: int = 0

    @property
    def row(self) -> tuple[str, ...]:
        return self.name, *map(str, (self.tried, self.survived, self.tried - self.survived)), TOLD[self.name]


SWEEP_HEADS = ("Job", "Kill points", "Tried", "Ended as undisturbed", "Ended as lost, and told so", "Lost or wrong")
LOAD_HEADS = (
    "Load",
    "Seconds",
    "Calls",
    "Jobs",
    "Server killed",
    "Supervisors killed",
    "Ended by themselves",
    "Cancelled",
    "Ended as lost, and told so",
    "Lost or wrong",
    "Memory of the idle server, MiB",
    "Its descriptors",
)
TAKEOVER_HEADS = ("The leader is", "Times", "Shortest, s", "Longest, s")
PLACE_HEADS = ("Database + files + nodes", "Tests", "Passed", "Failed")
FAULT_HEADS = ("Fault", "Tried", "Survived", "Lost", "What is told")


class Findings:
    """All that one run of the tests has found."""

    def __init__(self) -> None:
        self.sweeps: dict[str, Sweep] = {}
        self.faults: dict[str, Fault] = {}
        self.loads: list[Load] = []
        self.takeovers: dict[str, Takeover] = {}
        self.places: dict[str, Place] = {}

    def bore(self, load: Load) -> None:
        """Take in what came of a load."""
        self.loads.append(load)

    def swept(self, sweep: Sweep) -> None:
        """Take in a sweep."""
        self.sweeps[sweep.kind] = sweep

    def took(self, moment: str, seconds: float) -> None:
        """Take in how long nobody led."""
        known = self.takeovers.get(moment, Takeover(moment, ()))
        self.takeovers[moment] = Takeover(moment, (*known.seconds, seconds))

    def passed_at(self, place: Place) -> None:
        """Take in what came of the tests at a place."""
        self.places[place.name] = place

    def cases(self, name: str, tried: int, survived: int) -> None:
        """Take in cases of a fault."""
        fault = self.faults.setdefault(name, Fault(name))
        fault.tried += tried
        fault.survived += survived

    def words(self) -> list[str]:
        """For the end of a run, one line for each sweep and one for all faults."""
        lines = [
            f"{s.kind}: {s.tried} of {s.possible} kill points tried, {s.undisturbed} jobs ended as undisturbed, "
            f"{s.told} as lost and told so, {s.tried - s.undisturbed - s.told} lost"
            for s in self.sweeps.values()
        ]
        lines += [
            f"{d.clients} clients, {d.seconds} s: {d.calls} calls, {d.jobs} jobs, the server killed {d.servers} times, "
            f"supervisors {d.supervisors}; {d.by_themselves} jobs ended by themselves, {d.cancelled} cancelled, "
            f"{d.told} as lost and told so, {d.silent} lost; idle before and after: {d.mib[0]} and {d.mib[1]} MiB, "
            f"{d.descriptors[0]} and {d.descriptors[1]} descriptors"
            for d in self.loads
        ]
        lines += [
            f"leader {t.moment}: another led after {', '.join(f'{s:.1f}' for s in t.seconds)} s"
            for t in self.takeovers.values()
        ]
        lines += [f"{p.name}: {p.passed} of {p.ran} tests of the main job passed" for p in self.places.values()]
        if self.faults:
            tried = sum(f.tried for f in self.faults.values())
            survived = sum(f.survived for f in self.faults.values())
            lines.append(
                f"{len(self.faults)} faults: {tried} cases tried, {survived} survived, {tried - survived} lost"
            )
        return lines

    def write(self, page: Path = PAGE) -> None:
        """Bring the tables of the page up to date."""
        text = page.read_text()
        for name, heads, rows in (
            ("sweep", SWEEP_HEADS, [s.row for s in self.sweeps.values()]),
            ("load", LOAD_HEADS, [d.row for d in self.loads]),
            ("takeover", TAKEOVER_HEADS, [t.row for t in self.takeovers.values()]),
            ("places", PLACE_HEADS, [p.row for p in self.places.values()]),
            ("faults", FAULT_HEADS, [f.row for f in self.faults.values()]),
        ):
            begin, end = f"<!-- {name}: written by make soak -->\n", f"<!-- end of {name} -->"
            before, _, rest = text.partition(begin)
            old, _, after = rest.partition(end)
            text = before + begin + table(heads, merged(rows_of(old), rows)) + end + after
        page.write_text(text)


def rows_of(text: str) -> list[tuple[str, ...]]:
    """The rows of a table, without its head and its sum."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if "|" in line]
    return [row for row in rows[2:] if not row[0].startswith("**")]


def merged(old: Iterable[tuple[str, ...]], new: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The old rows, those of the same name replaced by the new ones, and what is new behind them."""
    rows = {row[0]: row for row in old} | {row[0]: row for row in new}
    return list(rows.values())


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """In Markdown, with a sum below of what can be added up."""
    columns = list(zip(*rows, strict=True))
    sums = [str(sum(map(int, c))) if all(re.fullmatch(r"-?\d+", v) for v in c) else "" for c in columns[1:]]
    last = [("**All**", *(f"**{s}**" if s else "" for s in sums))] if len(rows) > 1 else []
    lines = [heads, tuple("---" for _ in heads), *rows, *last]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
