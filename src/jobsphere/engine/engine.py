"""The engine: one queue of jobs to look at, fed by hints and by a look at everything now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

import structlog

from jobsphere.domain.attempt import SandboxPlan, job_id_of
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.errors import CorruptedError, NotFoundError
from jobsphere.domain.node_ports import Nodes
from jobsphere.domain.ports import BlobStore, Clock, JobStore
from jobsphere.domain.tracing import UNTRACED, Tracer
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provisioner
from jobsphere.engine.reconciler import Reconciler, always, any_number, where
from jobsphere.engine.retention import Retention
from jobsphere.engine.rounds import AT_A_TIME, Rounds
from jobsphere.engine.upkeep import cancelled, went_well
from jobsphere.engine.work import KeyedQueue

_WORKERS = 16
log = structlog.get_logger()


class Engine:
    """Moves all jobs on, between a start and a stop: both may be repeated, for a server that leads now and then.

    Args:
        store, nodes, blobs, clock: The ports.
        retention: Clears what has expired.
        changed: Called with a job's id after each stored change.
        types: What the nodes have for jobs, by instance type.
        look_again_s: How often everything live is looked at, hint or no hint.
        provisioner: Finds what jobs get from their projects.
        products: Makes what they give to their projects.
        sandbox: The fence that every program gets; None for none.
        running_at_once: How many jobs of a project may run at a time; None for any number.
        tracer: Is told of each job that has ended.
        leads: Whether this server may act now; asked before each look at a job, and before a program is started.
    """

    def __init__(
        self,
        store: JobStore,
        nodes: Nodes,
        blobs: BlobStore,
        clock: Clock,
        retention: Retention,
        changed: Callable[[str], None],
        types: ClusterTypes,
        look_again_s: float,
        provisioner: Provisioner,
        products: Products,
        sandbox: SandboxPlan | None = None,
        running_at_once: Callable[[str], Awaitable[int | None]] = any_number,
        tracer: Tracer = UNTRACED,
        leads: Callable[[], bool] = always,
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._retention = retention
        self._look_again_s = look_again_s
        self._running_at_once = running_at_once
        self._dispatcher = Dispatcher(types)
        self._rounds = Rounds(store, nodes)
        self._reconciler = Reconciler(
            store,
            nodes,
            blobs,
            clock,
            self._dispatcher,
            changed,
            self.wake,
            provisioner,
            products,
            sandbox,
            running_at_once,
            tracer=tracer,
            leads=leads,
        )
        self._queue = KeyedQueue(self._reconciler.reconcile, _WORKERS)
        self._tasks: list[asyncio.Task[None]] = []
        self._now = asyncio.Event()
        self._subscribed = self._started = False
        self._moved = asyncio.Event()

    async def start(self) -> None:
        """Take up every live job where it is, then follow hints.

        What runs holds its part before anybody is given anything; who waits is taken up behind it, in order.
        One job that cannot be taken up stops no other.
        """
        if not self._subscribed:
            self._nodes.subscribe(self.nodes_changed, self._hear)
        self._subscribed = self._started = True
        self._dispatcher.nodes_changed()
        self._dispatcher.begin_taking_up()
        at_work = [job_id async for page in self._rounds.all_at_work() for job_id in page]
        for job_id in at_work:
            await self._take_up(job_id)
        self._queue.start()
        self._wake_all(at_work, can_wait=False)
        self._wake_all(await self._rounds.held(self._nodes.all()))
        self._tasks = [
            asyncio.create_task(self._take_up_waiting()),
            asyncio.create_task(self._look_again()),
            asyncio.create_task(self._follow_nodes()),
            asyncio.create_task(self._retention.run()),
        ]

    async def _take_up(self, job_id: str) -> None:
        """What it was given is taken before anybody else is given anything."""
        try:
            job = await self._store.get_job(job_id)
        except (CorruptedError, NotFoundError) as e:
            log.error("job cannot be taken up", job=job_id, reason=e.public, **e.context)
            return
        if job.attempt is not None:
            self._dispatcher.keep(job, where(self._nodes, job.attempt.node))

    async def _take_up_waiting(self) -> None:
        """Who waits is told to the dispatcher in order, and looked at when it is their turn, or by and by."""
        try:
            await went_well(self._tell_who_waits(), "who waits cannot be listed: taken up by and by")
        finally:
            self._wake_all(self._dispatcher.all_taken_up(), can_wait=False)

    async def _tell_who_waits(self) -> None:
        async for jobs in self._rounds.all_waiting():
            limits = {project: await self._running_at_once(project) for project in {job.project_id for job in jobs}}
            for job in jobs:
                self._dispatcher.take_up(job, limits[job.project_id])
            self._wake_all(self._dispatcher.turns(), can_wait=False)

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return self._dispatcher.running

    @property
    def waiting(self) -> int:
        """How many jobs wait for a part of a node."""
        return self._dispatcher.waiting

    def free(self) -> Mapping[str, NodeCapacity]:
        """What is left of each node that is known."""
        return self._dispatcher.free()

    def wake(self, job_id: str) -> None:
        """Look at the job soon; nothing while the engine is stopped, for a start looks at all."""
        if self._started:
            self._queue.add(job_id)

    def look_at_everything(self) -> None:
        """Hints may have been lost: do not wait for the next look."""
        self._now.set()

    def nodes_changed(self) -> None:
        """Nodes came, went, or are in another condition."""
        self._moved.set()

    async def stop(self) -> None:
        """Stop moving jobs on. Their attempts run on; the next start takes them up, here or elsewhere."""
        self._started = False
        await cancelled(*self._tasks)
        await self._queue.stop()
        self._dispatcher.clear()

    def _hear(self, attempt: str) -> None:
        job_id = job_id_of(attempt)
        # An attempt's last words, such as the closing of its lock, come when its job has ended and holds nothing more.
        if self._started and job_id in self._dispatcher:
            self._queue.add_soon(job_id)

    async def _look_again(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._look_again_s)
            everything = self._now.is_set()
            self._now.clear()
            await went_well(self._look_at_all() if everything else self._look_at_some(), "live jobs cannot be listed")

    async def _look_at_all(self) -> None:
        async for page in self._rounds.all_live():
            self._wake_all(entry.id for entry in page)
        self._wake_all(await self._rounds.held(self._nodes.all()))
        self._wake_all(self._dispatcher.holders())

    async def _look_at_some(self) -> None:
        """Live jobs, ended ones that still hold something (their last answer may have been lost), and who is next."""
        self._wake_all(entry.id for entry in await self._rounds.some_live())
        self._wake_all(job_id for job_id in await self._rounds.some_held() if job_id not in self._dispatcher)
        self._wake_all(self._dispatcher.next_holders(AT_A_TIME))
        self._wake_all(self._dispatcher.front())

    async def _follow_nodes(self) -> None:
        """The dispatcher goes by the nodes as they are; whoever runs on one that has changed is looked at."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            await went_well(self._look_at_nodes(), "nodes that have changed cannot be looked at")

    async def _look_at_nodes(self) -> None:
        changed = self._dispatcher.nodes_changed()
        for name in changed:
            self._wake_all(self._dispatcher.holders(name), can_wait=False)
        self._wake_all(self._dispatcher.turns(), can_wait=False)
        self._wake_all(self._dispatcher.front())
        self._wake_all(await self._rounds.held(changed))

    def _wake_all(self, job_ids: Iterable[str], *, can_wait: bool = True) -> None:
        """``can_wait``: nothing is known to have happened to them; others that come later may be looked at before."""
        if self._started:
            for job_id in job_ids:
                self._queue.add(job_id, can_wait=can_wait)
