"""The engine: one queue of jobs to look at, fed by hints and by a look at everything now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from jobsphere.domain.attempt import SandboxPlan, job_id_of
from jobsphere.domain.capacity import InstanceTypes, NodeCapacity
from jobsphere.domain.errors import JobsphereError, UnavailableError
from jobsphere.domain.job import LIVE_STATUSES
from jobsphere.domain.node_ports import Condition, Nodes
from jobsphere.domain.ports import BlobStore, Clock, JobStore
from jobsphere.domain.tracing import UNTRACED, Tracer
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provisioner
from jobsphere.engine.reconciler import Reconciler, always, any_number
from jobsphere.engine.retention import Retention
from jobsphere.engine.work import KeyedQueue

_WORKERS = 16
log = structlog.get_logger()


class Engine:
    """Moves all jobs on, between a start and a stop: both may be repeated, for a server that leads now and then.

    Args:
        store, nodes, blobs, clock: The ports.
        retention: Clears what has expired.
        changed: Called with a job's id after each stored change.
        types: What the node has for jobs, by instance type.
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
        types: InstanceTypes,
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
        self._dispatcher = Dispatcher(types)
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

    async def start(self) -> None:
        """Take up every live job where it is, then follow hints.

        One job that cannot be taken up stops no other.
        """
        live = await self._store.jobs_in(LIVE_STATUSES)
        for job in live:
            if job.attempt is not None:
                self._dispatcher.keep(job)
        if not self._subscribed:
            self._nodes.subscribe(self.look_at_everything, self._hear)
        self._subscribed = self._started = True
        self._queue.start()
        for job in live:
            self.wake(job.id)
        for job_id in await self._untidied():
            self.wake(job_id)
        self._tasks = [asyncio.create_task(self._look_again()), asyncio.create_task(self._retention.run())]

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return self._dispatcher.running

    @property
    def waiting(self) -> int:
        """How many jobs wait for a part of the node."""
        return self._dispatcher.waiting

    @property
    def free(self) -> NodeCapacity:
        """What is left of the node."""
        return self._dispatcher.free

    def wake(self, job_id: str) -> None:
        """Look at the job soon; nothing while the engine is stopped, for a start looks at all."""
        if self._started:
            self._queue.add(job_id)

    def look_at_everything(self) -> None:
        """Hints may have been lost: do not wait for the next look."""
        self._now.set()

    async def stop(self) -> None:
        """Stop moving jobs on. Their attempts run on; the next start takes them up, here or elsewhere."""
        self._started = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._queue.stop()
        for job_id in self._dispatcher.known():
            self._dispatcher.release(job_id)

    def _hear(self, attempt: str) -> None:
        if self._started:
            self._queue.add_soon(job_id_of(attempt))

    async def _look_again(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._look_again_s)
            self._now.clear()
            try:
                for job_id in await self._to_look_at():
                    self.wake(job_id)
            except JobsphereError as e:
                log.error("live jobs cannot be listed", reason=e.public, **e.context)

    async def _to_look_at(self) -> set[str]:
        """Live jobs, and ended ones that still hold something: the answer of their last write may have been lost."""
        live = {job.id for job in await self._store.jobs_in(LIVE_STATUSES)}
        return live | await self._untidied() | set(self._dispatcher.known())

    async def _untidied(self) -> set[str]:
        """The jobs of all attempts that nodes still hold. One that cannot be reached is asked at the next look."""
        found: set[str] = set()
        for node in self._nodes.all().values():
            if node.condition in {Condition.AWAY, Condition.LOST}:
                continue
            try:
                found.update(map(job_id_of, await self._nodes.runner(node.name).attempts()))
            except UnavailableError as e:
                log.warning("node cannot be asked", node=node.name, reason=e.public, **e.context)
        return found
