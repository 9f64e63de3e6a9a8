"""The real store, engine and use cases over simulated nodes, at growing sizes: what a job costs the server.

`python -m benchmarks.scale --whole` goes on to 1,000 nodes and 1,000,000 jobs: see docs/scale.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.figures import Figure, percentile
from benchmarks.instruments import Counts, Stalls
from benchmarks.memory import resident_mib
from benchmarks.simulation import LIGHT, Simulation, Size, Tell, simulation

WINDOW_S = 6.0
LIGHT_EVERY_S = 0.5
IDLE_EVERY_S = 0.05
_LOOK_S = 0.02
FEW, MANY = Size(10, 3_000), Size(1_000, 20_000)
SMALL = (Size(10, 0, 50), Size(1_000, 0, 5_000), FEW, Size(100, 6_000), MANY)
"""In a run of all experiments."""
LADDER = (
    *(Size(nodes, 0, nodes * 5) for nodes in (10, 100, 1_000)),
    *(Size(10, jobs) for jobs in (3_000, 30_000, 100_000)),
    *(Size(nodes, 20_000) for nodes in (100, 1_000)),
    Size(1_000, 100_000),
    *(Size(1_000, 30_000, rate) for rate in (50, 200, 400)),
)
LARGEST = Size(1_000, 1_000_000, 400)


@dataclass(frozen=True)
class Measured:
    """One rung, in the window in which its nodes were full (or empty, where nobody waited).

    ``place_ms``: from the end of a program on its node, which makes room for another, to that one's start; of a job on
    empty nodes from the start of its Create. ``light_s``: the same from Create for the project with little to do.
    ``jain``: Jain's index of what the four heavy projects were given, 1 for equal parts.
    Per job that ended: statements that read and that write, rows, commits, bytes written, CPU of the dispatcher alone
    and of the whole process. ``stall_ms``: the longest time for which the event loop answered nobody.
    """

    nodes: int
    waiting: int
    rate: float
    taken_up_s: float
    ended_per_s: float
    place_ms_p50: float
    place_ms_p99: float
    light_s_p50: float
    light_s_worst: float
    jain: float
    reads: float
    statements: float
    rows: float
    commits: float
    kib_written: float
    dispatcher_us: float
    cpu_ms: float
    stall_ms: float
    resident_mib: float


def run() -> list[Figure]:
    """The small ladder."""
    idle_few, idle_many, few, _, many = (measure(size) for size in SMALL)
    at_10 = "10 nodes"

    def beside(name: str, unit: str, field: str, target: float | None = None, scale: float = 1.0) -> Figure:
        value, peer = (getattr(measured, field) * scale for measured in (many, few))
        return Figure(f"{name}, 1,000 nodes", value, unit, peer, at_10, target=target, at_most=True)

    return [
        Figure("Create to start, nodes empty, p50, 1,000 nodes", idle_many.place_ms_p50, "ms",
               idle_few.place_ms_p50, at_10),
        beside("a free place until its next job starts, p50", "ms", "place_ms_p50"),
        beside("the same, p99", "ms", "place_ms_p99"),
        beside("CPU of the dispatcher per job", "µs", "dispatcher_us"),
        beside("CPU of the whole server per job", "ms", "cpu_ms"),
        beside("statements per job", "statements", "statements", 1.5),
        beside("commits per job", "commits", "commits"),
        beside("written by the database per job", "KiB", "kib_written"),
        Figure("equal parts of four projects whose queues are not (Jain's index)", many.jain, "", target=0.95),
        Figure("worst wait of a project with little to do, nodes full", many.light_s_worst, "s"),
        Figure("longest stall of the event loop, 1,000 nodes", many.stall_ms, "ms", few.stall_ms, at_10),
    ]  # fmt: skip


def measure(
    size: Size, tell: Tell = lambda *_: None, window_s: float = WINDOW_S, database: Sequence[str] = ()
) -> Measured:
    """One rung, in a data directory of its own."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        return asyncio.run(_measure(size, Path(folder) / "data", tell, window_s, database))


async def _measure(size: Size, data: Path, tell: Tell, window_s: float, database: Sequence[str]) -> Measured:
    async with simulation(size, data, database) as sim:
        await sim.fill(tell)
        begin = time.perf_counter()
        await sim.engine.start()
        while not sim.settled:
            tell("taken up", sim.engine.waiting + sim.watch.all_started, size.jobs)
            await asyncio.sleep(_LOOK_S)
        taken_up_s = time.perf_counter() - begin
        every_s = LIGHT_EVERY_S if size.jobs else IDLE_EVERY_S
        calls = asyncio.create_task(sim.submit_steadily(LIGHT, every_s))
        measured = await _window(sim, taken_up_s, window_s, tell)
        calls.cancel()
        with suppress(asyncio.CancelledError):
            await calls
        assert not sim.nodes.overcommitted, sim.nodes.overcommitted
        return measured


async def _window(sim: Simulation, taken_up_s: float, window_s: float, tell: Tell) -> Measured:
    watch, stalls = sim.watch, Stalls()
    await asyncio.sleep(1)  # what piled up at the start is worked off
    watch.forget()
    counted, written, cpu, dispatcher = sim.counts.copy(), await sim.bytes_written(), _cpu_s(), sim.dispatcher.cpu_s
    waiting, begin = sim.engine.waiting, time.perf_counter()
    stalls.start()
    while (passed := time.perf_counter() - begin) < window_s and (sim.engine.waiting or not sim.size.jobs):
        tell("measured", int(passed * 1000), int(window_s * 1000))
        await asyncio.sleep(_LOOK_S)
    stalls.stop()
    counts, ended = sim.counts.since(counted), max(watch.ended_jobs, 1)
    per_job = {f.name: getattr(counts, f.name) / ended for f in fields(Counts)}
    heavy = [count for name, count in watch.started.items() if name != LIGHT]
    return Measured(
        sim.size.nodes, waiting, sim.size.rate, taken_up_s, ended / passed,
        percentile(watch.latencies, 50) * 1000, percentile(watch.latencies, 99) * 1000,
        percentile(watch.light_waits, 50), max(watch.light_waits),
        jain(heavy) if heavy else 1.0,
        per_job["reads"], per_job["statements"], per_job["rows"], per_job["commits"],
        (await sim.bytes_written() - written) / ended / 1024,
        (sim.dispatcher.cpu_s - dispatcher) / ended * 1e6, (_cpu_s() - cpu) / ended * 1000,
        stalls.longest_s * 1000, resident_mib("self"),
    )  # fmt: skip


def jain(parts: Sequence[float]) -> float:
    """Jain's index: 1 for equal parts, 1/n if one has all."""
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _database(postgres: bool):
    if not postgres:
        yield ()
        return
    from tests.postgres import PASSWORD, postgres_server

    with postgres_server() as server:
        yield server.url(server.new_database()), PASSWORD


def main() -> None:
    """Go through the sizes that are asked for; print each as soon as it is there, and keep all as JSON."""
    asked = _arguments().parse_args()
    sizes = [*LADDER, LARGEST] if asked.whole else SMALL
    if asked.nodes:
        sizes = [Size(asked.nodes, asked.jobs, asked.rate)]
    found: list[Measured] = []
    console = Console(width=200)
    for size in sizes:
        window_s = asked.window or (10 * WINDOW_S if size is LARGEST else WINDOW_S)
        with _database(asked.postgres) as database, Progress(console=console, transient=True) as progress:
            bar = progress.add_task("")

            def tell(what: str, done: int, of: int, size: Size = size, progress: Progress = progress) -> None:
                about = f"{size.nodes:,} nodes, {size.jobs:,} jobs: {what}"
                progress.update(bar, description=about, completed=done, total=of)  # noqa: B023 used at once

            found.append(measure(size, tell, window_s, database))
        console.print(", ".join(f"{name} {value:.4g}" for name, value in asdict(found[-1]).items()))
        if asked.keep:
            asked.keep.write_text(json.dumps([asdict(measured) for measured in found], indent=1) + "\n")
    console.print(_table(found))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--whole", action="store_true", help="go on to 1,000 nodes and 1,000,000 jobs (it takes long)")
    parser.add_argument("--postgres", action="store_true", help="in PostgreSQL instead of SQLite")
    parser.add_argument("--nodes", type=int, help="one size only: so many nodes")
    parser.add_argument("--jobs", type=int, default=20_000, help="so many jobs that wait at the beginning")
    parser.add_argument("--rate", type=float, default=100.0, help="how many jobs a second the nodes could end")
    parser.add_argument("--window", type=float, help="for how many seconds is measured")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser


def _table(found: Sequence[Measured]) -> Table:
    names = [f.name for f in fields(Measured)]
    table = Table(*names, title="This host, this run")
    for measured in found:
        table.add_row(*(f"{getattr(measured, name):.4g}" for name in names))
    return table


if __name__ == "__main__":
    main()
