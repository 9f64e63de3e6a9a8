"""Reconciling one job: load it, look at its attempt, act on the difference, store the outcome guarded.

Nothing here is remembered between two looks but when a launch was last asked for: after a crash the same look at the
same facts does the same again, and every action may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars

from jobsphere.domain.attempt import AttemptPlan, Collected, Observation, SandboxPlan, StopOrder, attempt_id, job_id_of
from jobsphere.domain.command import lay_out
from jobsphere.domain.errors import JobsphereError, NotFoundError, UnavailableError
from jobsphere.domain.job import Attempt, Failure, Job, JobStatus
from jobsphere.domain.lifecycle import AttemptFailed, AttemptStopped, Event, Placed, Waiting, decide
from jobsphere.domain.node_ports import UNREACHABLE, Condition, Nodes
from jobsphere.domain.ports import BlobStore, Clock, JobStore
from jobsphere.domain.tracing import UNTRACED, Tracer
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.engine.outcome import events_of, lost, vanished
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provision, Provisioner, ProvisionError
from jobsphere.engine.work import ids_of
from jobsphere.pythonspec import environment_of

_LAUNCH_AGAIN_S = 5.0
log = structlog.get_logger()


def plan_of(job: Job, attempt: Attempt, sandbox: SandboxPlan | None, provision: Provision) -> AttemptPlan:
    """What the supervisor is told."""
    layout, image = lay_out(job.spec), provision.image
    environment = environment_of(job.spec.env.python_env) if job.spec.env.python_env else None
    if image and environment and not environment.asks_for_anything:
        environment = None  # local modules alone: the image's own Python runs them
    return AttemptPlan(
        attempt_id=attempt.id,
        job_id=job.id,
        project_id=job.project_id,
        cmd=job.spec.cmd,
        variables=job.spec.env.vars,
        literals=layout.literals,
        locations=layout.locations,
        inputs=layout.inputs,
        outputs=layout.outputs,
        environment=environment,
        limits=attempt.limits,
        sandbox=None if image else sandbox,
        image=image,
        secrets=provision.secrets,
        mask_secrets=provision.mask_secrets,
        mounts=provision.mounts,
        s3_mounts=provision.s3_mounts,
        s3_mode=provision.s3_mode,
        spark=provision.spark,
        datasets=layout.datasets,
    )


async def any_number(_: str) -> int | None:
    """Projects have no limit."""
    return None


def always() -> bool:
    """Nobody else leads."""
    return True


def where(nodes: Nodes, name: str) -> str:
    """What the node that an attempt was stored with is called now: a machine that is its own node may be renamed."""
    if name in nodes.all():
        return name
    try:
        return nodes.runner(name).node
    except UnavailableError:
        return name


class Reconciler:
    """Moves single jobs on. ``changed(job_id)`` is called after each stored change, ``wake`` for others to look at.

    ``provisioner`` finds what jobs get from their projects, ``products`` makes what they give them. ``sandbox``: the
    fence of every program; None for none. ``running_at_once``: how many jobs of a project may run at a time, if that is
    limited. ``tracer`` is told of each job that has ended. ``leads``: whether this server may act now.
    """

    def __init__(
        self,
        store: JobStore,
        nodes: Nodes,
        blobs: BlobStore,
        clock: Clock,
        dispatcher: Dispatcher,
        changed: Callable[[str], None],
        wake: Callable[[str], None],
        provisioner: Provisioner,
        products: Products,
        sandbox: SandboxPlan | None = None,
        running_at_once: Callable[[str], Awaitable[int | None]] = any_number,
        monotonic: Callable[[], float] = time.monotonic,
        tracer: Tracer = UNTRACED,
        leads: Callable[[], bool] = always,
    ) -> None:
        self._tracer = tracer
        self._leads = leads
        self._store = store
        self._nodes = nodes
        self._blobs = blobs
        self._clock = clock
        self._dispatcher = dispatcher
        self._changed = changed
        self._wake = wake
        self._sandbox = sandbox
        self._provisioner = provisioner
        self._products = products
        self._running_at_once = running_at_once
        self._monotonic = monotonic
        self._launched: dict[str, tuple[str, float]] = {}
        """By job: its attempt, and when that was last asked for."""

    async def reconcile(self, job_id: str) -> None:
        """Do for the job what is to be done now. Never raises: what fails is logged, and done at the next look.

        Whatever is logged meanwhile, also by what is called, bears the ids of the job and its attempt.
        """
        bind_contextvars(job=job_id)
        try:
            if self._leads():
                await self._reconcile(job_id)
        except UnavailableError as e:
            log.warning("job waits for a part of the server", reason=e.public, **e.context)
        except JobsphereError as e:
            log.error("job cannot be moved on", reason=e.public, **e.context)
        except Exception:
            log.exception("job cannot be moved on")
        finally:
            clear_contextvars()

    async def _reconcile(self, job_id: str) -> None:
        try:
            job = await self._store.get_job(job_id)
        except NotFoundError:
            await self._forget(job_id)
            return
        bind_contextvars(**ids_of(job))
        await self._clear_lost(job)
        if job.status.terminal:
            await self._finish(job)
        elif job.attempt is not None:
            self._dispatcher.keep(job, where(self._nodes, job.attempt.node))
            await self._look(job, job.attempt)
        elif job.status is JobStatus.PREPARING:
            await self._place(job)
        elif job.status is JobStatus.CANCELLING:
            await self._move(job, [AttemptStopped(self._clock.now())])

    async def _place(self, job: Job) -> None:
        grant = self._dispatcher.place(job, await self._running_at_once(job.project_id))
        for other in self._dispatcher.turns():
            self._wake(other)
        if grant is None:
            await self._apply(job, [Waiting(self._dispatcher.why_waiting(job))])
            return
        id_ = attempt_id(job.id, len(job.lost_attempts) + 1)
        attempt = Attempt(id_, grant.node, self._clock.now(), grant.limits, grant.note)
        placed = await self._apply(job, [Placed(attempt, grant.instance_type)])
        if placed is not None:
            await self._launch(placed, attempt)

    async def _look(self, job: Job, attempt: Attempt) -> None:
        node = self._nodes.all().get(attempt.node)
        if node is not None and node.condition is Condition.LOST:
            await self._move(job, [lost(attempt, node.why, self._clock.now())])
            return
        runner = self._nodes.runner(attempt.node)
        seen = await runner.observe(attempt.id)
        if not seen.known:
            event = vanished(job, self._clock.now())
            if event is None:
                await self._launch(job, attempt)
            else:
                await self._move(job, [event])
            return
        if job.status is JobStatus.CANCELLING and job.cancel is not None and seen.ended is None:
            await runner.stop(attempt.id, StopOrder(job.cancel.signal, job.cancel.deadline))
        if seen.alive:
            self._launched.pop(job.id, None)  # it has come: when it is gone, the next one is wanted at once
        if seen.collected is None and not seen.alive:
            await self._launch(job, attempt, again=True)
        await self._advance(job, attempt, seen)

    async def _advance(self, job: Job, attempt: Attempt, seen: Observation) -> None:
        if seen.collected is not None:
            if self._blobs.far:
                job = await self._apply(job, list(events_of(job, replace(seen, collected=None)))) or job
            await self._commit(job, attempt, seen.collected)
            if job.status is not JobStatus.CANCELLING:
                await self._products.make(job, attempt, seen.collected)
        await self._move(job, list(events_of(job, seen)), seen)

    async def _move(self, job: Job, events: list[Event], seen: Observation | None = None) -> None:
        done = await self._apply(job, events)
        if done is not None and done.status.terminal:
            self._tracer.ended(done, seen)
            await self._finish(done)
        elif done is not None and len(done.lost_attempts) > len(job.lost_attempts):
            self._release(job.id)
            self._wake(job.id)

    async def _launch(self, job: Job, attempt: Attempt, *, again: bool = False) -> None:
        """Ask for a supervisor, unless one was asked for so recently that it may still be on its way to the lock.

        ``again``: the attempt has its run directory, and in it the plan; nothing of it is looked up any more.
        """
        now = self._monotonic()
        launched, at = self._launched.get(job.id, ("", 0.0))
        if launched == attempt.id and now - at < _LAUNCH_AGAIN_S:
            return
        self._launched[job.id] = attempt.id, now
        try:
            provision = Provision() if again else await self._provisioner.provide(job)
            plan = plan_of(job, attempt, self._sandbox, provision)
            self._check_leads()
            await self._nodes.runner(attempt.node).launch(plan)
        except ProvisionError as error:
            await self._move(job, [AttemptFailed(self._clock.now(), Failure(error.phase, str(error)))])
        except JobsphereError:
            del self._launched[job.id]
            raise

    def _check_leads(self) -> None:
        """Stopped for long, this process may find that another leads, and has brought the job to its end meanwhile."""
        if not self._leads():
            raise UnavailableError("another server leads by now")

    async def _commit(self, job: Job, attempt: Attempt, collected: Collected) -> None:
        """Make blobs of the files in the outbox."""
        await self._nodes.runner(attempt.node).deliver(job.project_id, attempt.id, collected.files)

    async def _apply(self, job: Job, events: list[Event]) -> Job | None:
        """Decide and store: one write for all that happened since the last look.

        A short job starts, exits and is collected between two looks; its statuses in between were never visible, and
        the records that prove them are durable. None if nothing changed or somebody else was first: they wake us.
        """
        new = job
        for event in events:
            new, _ = decide(new, event, self._clock.now())
        if new is job or not await self._store.update_job(new, job):
            return None
        self._changed(job.id)
        _tell(job, new)
        return new

    async def _finish(self, job: Job) -> None:
        """Give back what an ended job held. Repeated at start for every attempt that was not tidied."""
        try:
            if job.attempt is not None:
                await self._tidy(job, job.attempt)
        finally:
            # No process is left, whether or not its node can be reached to tidy now.
            self._release(job.id)

    async def _tidy(self, job: Job, attempt: Attempt) -> None:
        runner = self._nodes.runner(attempt.node)
        seen = await runner.observe(attempt.id)
        if seen.alive:  # its node was lost for us, and is back with it
            await runner.stop(attempt.id, StopOrder())
            return
        wanted = attempt == job.attempt and seen.collected is not None
        if seen.collected is not None and not (wanted and job.status is JobStatus.SUCCESS):
            await self._products.unmake(job, attempt, seen.collected)
        if wanted and seen.collected is not None and not job.data_cleared:
            # A sweep may have freed an equal blob of another job between the adoption and the write that refers to it.
            hashes = {c.file.sha256 for c in seen.collected.files}
            if await self._blobs.missing(job.project_id, hashes):
                await self._commit(job, attempt, seen.collected)
        await runner.tidy(attempt.id)

    async def _forget(self, job_id: str) -> None:
        """Remove what a deleted job left on the node: a crash may have come between its row and its run directory."""
        for name, node in self._nodes.all().items():
            if node.condition in UNREACHABLE:
                continue
            runner = self._nodes.runner(name)
            left = {attempt for attempt in await runner.attempts() if job_id_of(attempt) == job_id}
            for attempt in {attempt_id(job_id)} | left:
                await runner.remove(attempt)
        self._release(job_id)

    async def _clear_lost(self, job: Job) -> None:
        """Let go of what is still held of attempts that the job was started anew after: their nodes may be back."""
        for attempt in job.lost_attempts:
            with suppress(UnavailableError):
                await self._tidy(job, attempt)

    def _release(self, job_id: str) -> None:
        self._launched.pop(job_id, None)
        for other in self._dispatcher.release(job_id):
            self._wake(other)


def _tell(was: Job, new: Job) -> None:
    """Log how the job moved: nothing that a user wrote, which is in its own log."""
    about: dict[str, str | int] = {**ids_of(new)}
    if was.attempt is None and new.attempt is not None:
        log.info("attempt placed", **about, node=new.attempt.node, instance_type=new.actual_instance_type)
    if new.status is was.status:
        return
    if new.return_code is not None:
        about["return_code"] = new.return_code
    if new.failure is not None:
        about["failed_in"] = new.failure.phase.value
    log.info("job ended" if new.status.terminal else "job moved", **about, status=new.status.value)
