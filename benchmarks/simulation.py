"""A server whose nodes are simulated: its store, engine and use cases are real, put together as it does itself.

Some projects with very unequal queues fill the nodes; one with little to do comes now and then, and should not wait
behind them. Programs take their time and no CPU, so what is measured is the server alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import structlog

from benchmarks.instruments import CommitMeter, CountedDatabase, Counts, TimedDispatcher, written_bytes
from benchmarks.simulated_nodes import CPUS, SimulatedNodes, durations
from jobsphere.api.codec import encode_job
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.config import InstanceTypeSetting, Settings
from jobsphere.domain.attempt import AttemptPlan
from jobsphere.domain.job import Argument, EnvironmentSpec, Job, JobSpec
from jobsphere.domain.lifecycle import Execute, decide
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Subject
from jobsphere.domain.tracing import UNTRACED
from jobsphere.engine.engine import Engine
from jobsphere.machine import cluster_types_of
from jobsphere.metrics import Metrics
from jobsphere.store.connection import connect_reader, connect_writer
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.schema import ensure_schema
from jobsphere.store.sqlite_database import SqliteDatabase
from jobsphere.store.writer import GroupWriter
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring.adapters import Adapters
from jobsphere.wiring.blobs import blobs_of
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.parts import keys_of
from jobsphere.wiring.usecases import UseCases, use_cases

SEED = 20
TYPES = {"small": (1.0, 2.0, 0), "big": (4.0, 8.0, 0), "gpu": (2.0, 4.0, 1)}
"""CPUs, GiB of memory, GPUs."""
_MIX = {"small": 85, "big": 12, "gpu": 3}
_CPUS_A_JOB = sum(TYPES[name][0] * share for name, share in _MIX.items()) / sum(_MIX.values())
_QUEUES = (1, 2, 3, 4)
"""How the waiting jobs are spread over the heavy projects."""
LIGHT = "light"
_GROUP = 500
_SETTLED = 0.95
_WHO = Subject("bench", "bench", operator=True)
Tell = Callable[[str, int, int], None]
"""What is being done, how far it is, of how much."""


@dataclass(frozen=True)
class Size:
    """One rung. ``rate``: how many jobs a second the nodes could end; their programs run as long as that says."""

    nodes: int
    jobs: int
    rate: float = 100.0

    @property
    def at_once(self) -> float:
        """About how many jobs run at a time when all nodes are full."""
        return self.nodes * CPUS / _CPUS_A_JOB


@dataclass
class Watch:
    """Sees each start and end on the nodes, and for which release a start was due."""

    project_names: dict[str, str] = field(default_factory=dict[str, str])
    due: dict[str, float] = field(default_factory=dict[str, float])
    """By job: since when nothing but the server has kept it from its place."""
    submitted: dict[str, float] = field(default_factory=dict[str, float])
    ended_at: dict[str, float] = field(default_factory=dict[str, float])
    latencies: list[float] = field(default_factory=list[float])
    light_waits: list[float] = field(default_factory=list[float])
    started: Counter[str] = field(default_factory=Counter[str])
    ended_jobs: int = 0
    all_started: int = 0
    all_ended: int = 0

    def forget(self) -> None:
        """Count from here on."""
        self.latencies, self.light_waits, self.started, self.ended_jobs = [], [], Counter(), 0

    def launched(self, plan: AttemptPlan, node: str) -> None:  # noqa: ARG002
        now, job_id = time.perf_counter(), plan.job_id
        self.all_started += 1
        self.started[self.project_names[plan.project_id]] += 1
        submitted = self.submitted.pop(job_id, None)
        due = self.due.pop(job_id, submitted)
        if due is not None:
            self.latencies.append(now - due)
        if submitted is not None:
            self.light_waits.append(now - submitted)

    def ended(self, plan: AttemptPlan, node: str) -> None:  # noqa: ARG002
        self.ended_at[plan.job_id] = time.perf_counter()
        self.ended_jobs += 1
        self.all_ended += 1

    def freed(self, job_id: str, turns: Sequence[str]) -> None:
        """The dispatcher has heard of an end: it is these jobs' turn since the program ended on its node."""
        since = self.ended_at.pop(job_id, None)
        if since is not None:
            self.due.update(dict.fromkeys(turns, since))


@dataclass
class Simulation:
    """What :func:`simulation` gives."""

    size: Size
    store: SqlJobStore
    cases: UseCases
    nodes: SimulatedNodes
    watch: Watch
    counts: Counts
    projects: dict[str, str]
    """Ids by name; the heavy ones are numbers."""
    bytes_written: Callable[[], Awaitable[int]]

    @property
    def engine(self) -> Engine:
        return self.cases.engine

    @property
    def settled(self) -> bool:
        """Whether all who waited at the beginning are taken up, and all who were given a place have been started."""
        running = self.watch.all_started - self.watch.all_ended
        known = self.engine.waiting + self.watch.all_started
        return known >= self.size.jobs and running >= self.engine.running * _SETTLED

    @property
    def dispatcher(self) -> TimedDispatcher:
        return TimedDispatcher.last

    async def fill(self, tell: Tell) -> None:
        """Store the waiting jobs as their Execute left them, those of all projects mixed."""
        rng, ids = random.Random(SEED), RandomIds()
        heavy = [project_id for name, project_id in self.projects.items() if name != LIGHT]
        of = rng.choices(heavy, _QUEUES, k=self.size.jobs)
        kinds = rng.choices([*_MIX], [*_MIX.values()], k=self.size.jobs)
        for begin in range(0, self.size.jobs, _GROUP):
            pairs = zip(of[begin : begin + _GROUP], kinds[begin : begin + _GROUP], strict=True)
            await asyncio.gather(*(self._store_waiting(ids, project, kind) for project, kind in pairs))
            tell("stored", begin, self.size.jobs)

    async def submit(self, project: str, kind: str = "small") -> None:
        """Create and execute a job by the use cases."""
        begin = time.perf_counter()
        jobs = self.cases.services.jobs
        made = await jobs.create(_WHO, self.projects[project], a_spec(kind), "a job", "", "", None)
        self.watch.submitted[made.job_id] = begin
        await jobs.execute(_WHO, made.job_id)

    async def submit_steadily(self, project: str, every_s: float) -> None:
        """Go on until cancelled, by the clock: where the server is slow, calls pile up as its users' would."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as calls:
            while True:
                calls.create_task(self.submit(project))
                due += every_s
                await asyncio.sleep(due - loop.time())

    async def _store_waiting(self, ids: RandomIds, project_id: str, kind: str) -> None:
        now, job_id, operation_id = datetime.now(UTC), ids.new(), ids.new()
        job = Job(job_id, project_id, _WHO.id, now, a_spec(kind), name="a job", config="cmd: python train.py\n" * 10)
        waiting, _ = decide(job, Execute(operation_id), now)
        operation = Operation(operation_id, OperationKind.EXECUTE, project_id, job_id, now, _WHO.id)
        await self.store.add_job(waiting, operation)


def a_spec(kind: str) -> JobSpec:
    """A job whose record is about 1.5 KiB."""
    return JobSpec(
        "python train.py ${ARG_0}", env=EnvironmentSpec((("KEY", "value" * 10),)), instance_types=(kind,),
        arguments=tuple(Argument(f"ARG_{i}", "x" * 20) for i in range(6)),
    )  # fmt: skip


@asynccontextmanager
async def simulation(size: Size, data: Path, database: Sequence[str] = ()) -> AsyncGenerator[Simulation]:
    """A server that has not started its engine yet.

    Args:
        size: How large.
        data: Its data directory, to be made.
        database: URL and password of an empty PostgreSQL database; none: a file of SQLite.
    """
    _quiet()
    kinds = {name: InstanceTypeSetting(cpus=c, memory_gb=m, gpus=g) for name, (c, m, g) in TYPES.items()}
    settings = Settings(data_dir=data, sandbox="none", container_engine="none", instance_types=kinds)
    data.mkdir(parents=True)
    counts, watch, clock = Counts(), Watch(), SystemClock()
    store, bytes_written = await _open_store(data, counts, database)
    nodes = SimulatedNodes(size.nodes, durations(SEED, size.at_once / size.rate), watch, clock.now)
    key = secret_key(settings.shared)
    adapters = Adapters(
        clock, RandomIds(), Metrics(), UNTRACED, store, blobs_of(settings, settings.node_dir, store), nodes,
        HmacUrlSigner(key, "http://127.0.0.1", clock), LocalDatasets(settings.shared / "datasets"), keys_of(settings),
        key, cluster_types_of(settings, nodes),
    )  # fmt: skip
    with patch("jobsphere.engine.engine.Dispatcher", TimedDispatcher):
        cases = use_cases(settings, adapters)
    TimedDispatcher.last.freed = watch.freed
    projects = {name: await _project(cases, name) for name in (*(f"heavy-{n}" for n in _QUEUES), LIGHT)}
    watch.project_names = {project_id: name for name, project_id in projects.items()}
    try:
        yield Simulation(size, store, cases, nodes, watch, counts, projects, bytes_written)
    finally:
        nodes.stop()
        await cases.engine.stop()
        await store.close()


async def _project(cases: UseCases, name: str) -> str:
    await cases.desk.projects.ensure_default(_WHO)
    project, _ = await cases.desk.projects.create(_WHO, name)
    return project.id


async def _open_store(
    data: Path, counts: Counts, database: Sequence[str]
) -> tuple[SqlJobStore, Callable[[], Awaitable[int]]]:
    meter = CommitMeter(counts)
    if not database:
        path = data / "jobsphere.db"
        connection = connect_writer(path)
        ensure_schema(path, connection)
        real = SqliteDatabase(connect_reader(path), GroupWriter(connection, meter))

        async def written() -> int:
            return written_bytes()

        return SqlJobStore(CountedDatabase(real, counts), encode_job), written
    from benchmarks.simulation_postgres import open_postgres

    return await open_postgres(database, counts, meter)


def _quiet() -> None:
    """What a server logs of each job goes to a file of its operator's; here it would hide what is printed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
