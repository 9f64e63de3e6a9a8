"""The simulation of many nodes at a small size: the server keeps its word to nodes, jobs and projects."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.scale import jain
from benchmarks.simulated_nodes import OvercommittedError, SimulatedNodes, durations
from benchmarks.simulation import LIGHT, Simulation, Size, simulation

from jobsphere.domain.attempt import AttemptPlan
from jobsphere.domain.capacity import GIB, Limits
from jobsphere.domain.job import JobStatus
from jobsphere.system import SystemClock

SIZE = Size(nodes=10, jobs=600, rate=150)


def no_progress(what: str, done: int, of: int) -> None:
    """Nobody looks on."""


class Launches:
    """Counts starts by job, in front of the simulation's own watcher."""

    def __init__(self, simulated: Simulation) -> None:
        self.of: Counter[str] = Counter()
        self._watch = simulated.watch
        simulated.nodes.watcher = self

    def launched(self, plan: AttemptPlan, node: str) -> None:
        self.of[plan.job_id] += 1
        self._watch.launched(plan, node)

    def ended(self, plan: AttemptPlan, node: str) -> None:
        self._watch.ended(plan, node)


async def until(what) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - the simulation tells nobody
            await asyncio.sleep(0.005)


async def test_every_job_runs_once_no_node_has_too_much_and_a_light_project_does_not_wait(tmp_path: Path) -> None:
    async with simulation(SIZE, tmp_path / "data") as sim:
        launches = Launches(sim)
        await sim.fill(no_progress)
        await sim.engine.start()
        await until(lambda: sim.settled)
        before = sim.watch.all_started
        sim.watch.forget()  # who filled the empty nodes came first, and not in turns
        for _ in range(5):
            await sim.submit(LIGHT)
        await until(lambda: sim.watch.started[LIGHT] == 5)
        # Four others have their turns; each of the five starts comes after at most one of each of them.
        assert sim.watch.all_started - before <= 60
        await until(lambda: sim.watch.started.total() >= 105)
        heavy = [count for name, count in sim.watch.started.items() if name != LIGHT]
        assert jain(heavy) > 0.95
        await until(lambda: sim.watch.all_ended == SIZE.jobs + 5 and not sim.engine.running)
        assert sim.nodes.overcommitted == []
        assert set(launches.of.values()) == {1}
        assert len(launches.of) == SIZE.jobs + 5
        done = await sim.store.jobs_in([JobStatus.SUCCESS])
        assert {job.id for job in done} == set(launches.of)
        assert sim.counts.rows > 3 * SIZE.jobs
        assert 0 < sim.counts.commits < sim.counts.writes


def test_durations_are_those_of_the_seed() -> None:
    one, again, other = durations(1, 10), durations(1, 10), durations(2, 10)
    times = [one(f"job-{n}") for n in range(2000)]
    assert times == [again(f"job-{n}") for n in range(2000)]
    assert times != [other(f"job-{n}") for n in range(2000)]
    assert sum(times) / len(times) == pytest.approx(10, rel=0.1)


async def test_a_node_refuses_what_it_has_not(tmp_path: Path) -> None:
    class Nobody:
        def launched(self, plan: AttemptPlan, node: str) -> None: ...

        def ended(self, plan: AttemptPlan, node: str) -> None: ...

    nodes = SimulatedNodes(1, lambda _: 60, Nobody(), SystemClock().now)
    runner = nodes.runner("node-00000")
    await runner.launch(AttemptPlan("a-1", "a", "p", "true", limits=Limits(5, GIB, gpus=(0,))))
    for limits in (Limits(5, GIB), Limits(1, 32 * GIB), Limits(1, GIB, gpus=(0,)), Limits(1, GIB, gpus=(7,))):
        with pytest.raises(OvercommittedError):
            await runner.launch(AttemptPlan("b-1", "b", "p", "true", limits=limits))
        nodes.overcommitted.clear()
    await runner.launch(AttemptPlan("c-1", "c", "p", "true", limits=Limits(3, GIB, gpus=(1,))))
    nodes.stop()


@pytest.mark.parametrize(("parts", "index"), [([5, 5, 5, 5], 1.0), ([20, 0, 0, 0], 0.25)])
def test_jains_index(parts: list[int], index: float) -> None:
    assert jain(parts) == pytest.approx(index)
