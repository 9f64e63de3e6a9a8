"""Attempts as jobs of Slurm: run directories in a folder that servers and compute nodes share, one supervisor a job."""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from jobsphere.domain.attempt import AttemptPlan, Ended, EndReason, Observation, Step, StopOrder
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import InvalidArgumentError, UnavailableError
from jobsphere.domain.job import Phase
from jobsphere.domain.node_ports import Condition, Node
from jobsphere.durable import Point, durable, lock_is_free, open_lock, write_private
from jobsphere.runner.carrying import ENVIRON
from jobsphere.runner.directories import ATTEMPT_ID, NODE_LOG, SERVERS_OWN, RunDirectories, Takers
from jobsphere.runner.rundir import CLAIM, COLLECTED, EXIT, FATE, STOP, RunDirectory
from jobsphere.runner.slurm_commands import PENDING, SlurmJob, cancel_waiting, submit
from jobsphere.runner.slurm_queue import SlurmQueue
from jobsphere.runner.watch import PollingWatch

POLL_S, GRACE_S = 5.0, 30.0
SUBMITTED, SUBMITTING = "slurm", "slurm.lock"
_MIB = 1 << 20
_CLOSING_S = 3.0
"""How long those that close books, and go on without this server, are waited for so that nobody asks for their end."""
_ENDS = {
    "CANCELLED": "was cancelled there (scancel), not by a cancel of this job",
    "TIMEOUT": "ran into the time limit that Slurm has for it; a longer one is set by slurm_args (--time=…)",
    "OUT_OF_MEMORY": "used more memory than Slurm allows it",
    "NODE_FAIL": "was lost with its compute node",
    "BOOT_FAIL": "was lost with its compute node, which did not boot",
    "PREEMPTED": "had to make room for another one (preempted)",
}


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """Where jobs go in Slurm. ``args``: more options of sbatch.

    ``poll_s``: how often Slurm is asked. ``grace_s``: how long records of an ended job may be on their way by the
    shared folder.
    """

    partition: str
    args: tuple[str, ...] = ()
    poll_s: float = POLL_S
    grace_s: float = GRACE_S


class SlurmRunner(RunDirectories):
    """The :class:`jobsphere.domain.ports.Runner` of a Slurm cluster. Made on the running event loop.

    Args:
        shared: The folder that this host and all compute nodes have under the same path; as ``data_dir`` is for
            :class:`jobsphere.runner.directories.RunDirectories`.
        node: What users are told that their jobs run on: the cluster's name.
        takers: Where what attempts made goes to.
        node_argv: ``python -m jobsphere.node …`` for that folder, as it is started on a compute node.
        settings: Where jobs go.
        environ: Variables for every supervisor; they may be secret, and no program of a job gets them.
    """

    def __init__(
        self,
        shared: Path,
        node: str,
        takers: Takers,
        node_argv: Sequence[str],
        settings: SlurmSettings,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(shared, node, takers, PollingWatch)  # inotify does not see what other hosts write
        self._argv = tuple(node_argv)
        self._settings = settings
        self._environ = dict(environ or {})
        self._gone: dict[str, float] = {}
        self._closing: set[asyncio.Task[int]] = set()
        self.queue = SlurmQueue(settings.poll_s, self._told)

    async def close(self) -> None:
        """Look no more; the attempts go on."""
        await super().close()
        await self.queue.close()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSING_S)

    async def launch(self, plan: AttemptPlan) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.launch`.

        The attempt's id, stored before, is the name of its job in Slurm. Whoever comes after a crash looks for that
        name, and only when no sbatch can be on its way any more: the lock is held by sbatch itself.
        """
        run, made = await self._make(plan)
        if not made and (run.has(COLLECTED) or run.is_locked()):
            return
        lock = open_lock(run.at(SUBMITTING))
        try:
            if not lock_is_free(lock, fcntl.LOCK_EX):
                raise UnavailableError("the job is being handed to Slurm", attempt=plan.attempt_id)
            await self._launch(run, plan, lock, made=made)
        finally:
            os.close(lock)

    async def _launch(self, run: RunDirectory, plan: AttemptPlan, lock: int, *, made: bool) -> None:
        job = None if made else await self.queue.find(plan.attempt_id)
        if job is not None and job.active:
            self._watch.add(run.path)
        elif job is not None or _was_submitted(run):
            if not self._may_still_tell(plan.attempt_id, job):
                self._end(run, _end_of(run, job))
        elif run.has(FATE) or run.has(STOP):
            self._end(run, _stopped())
        else:
            await self._submit(run, plan, lock)

    async def observe(self, attempt_id: str) -> Observation:
        """See :meth:`jobsphere.domain.ports.Runner.observe`.

        Alive is what holds the lock, and what Slurm has in its queue or on a node: locks need not show between hosts.
        """
        seen = await super().observe(attempt_id)
        if not seen.known or seen.alive or seen.collected is not None:
            self._gone.pop(attempt_id, None)
            return seen
        job, run = await self.queue.job(attempt_id), self._run(attempt_id)
        if job is None or not job.active:
            return replace(seen, alive=_was_submitted(run) and self._may_still_tell(attempt_id, job))
        self._gone.pop(attempt_id, None)
        if job.state != PENDING:
            return replace(seen, alive=True)
        self._watch.discard(run.path)  # Slurm is who tells when it begins
        why = f" ({job.reason})" if job.reason not in {"", "None"} else ""
        return replace(seen, alive=True, step=Step(f"Waiting in the queue of Slurm{why}", 0))

    async def stop(self, attempt_id: str, order: StopOrder) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.stop`. One that waits is taken out of Slurm's queue."""
        await super().stop(attempt_id, order)
        run = self._run(attempt_id)
        if os.path.isdir(run.path) and not run.has(COLLECTED) and not run.has(CLAIM):
            job = await self.queue.find(attempt_id)
            if job is not None and job.state == PENDING:
                await cancel_waiting(job.id)
                await self.queue.find(attempt_id)
                self._changed(run.path)

    async def remove(self, attempt_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.remove`."""
        self._gone.pop(attempt_id, None)
        await super().remove(attempt_id)

    async def _submit(self, run: RunDirectory, plan: AttemptPlan, lock: int) -> None:
        write_private(Path(run.at(ENVIRON)), json.dumps(self._variables()).encode(), Point.ATTEMPT_NOTE)
        script = f"#!/bin/sh\nexec {shlex.join([*self._argv, '--carry', run.path])}\n"
        try:
            with durable(Point.SLURM_SUBMIT):
                job_id = await submit(script, self._options(run, plan), lock)
        except InvalidArgumentError as error:
            message = (
                f"Slurm does not take the job: {error.public}. Ask for another instance type, or have the operator "
                f"look at the partition {self._settings.partition!r}, its limits and slurm_args"
            )
            self._end(run, Ended(datetime.now(UTC), EndReason.FAILED, None, Phase.MACHINE, message))
            return
        self.queue.note(SlurmJob(job_id, PENDING, "", "", plan.attempt_id))
        await asyncio.to_thread(run.record, SUBMITTED, job_id)
        self._watch.add(run.path)

    def _options(self, run: RunDirectory, plan: AttemptPlan) -> list[str]:
        log = run.at(NODE_LOG).replace("%", "%%")
        options = [f"--partition={self._settings.partition}", f"--job-name={plan.attempt_id}", f"--output={log}"]
        options += ["--open-mode=append", "--no-requeue", "--nodes=1", "--ntasks=1", "--chdir=/"]
        if plan.limits is not None:
            options += [f"--cpus-per-task={max(1, math.ceil(plan.limits.cpus))}"]
            options += [f"--mem={max(1, math.ceil(plan.limits.memory_bytes / _MIB))}M"]
            options += [f"--gres=gpu:{len(plan.limits.gpus)}"] if plan.limits.gpus else []
        return [*options, *self._settings.args]

    def _variables(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in SERVERS_OWN and not k.startswith("SLURM_")}
        return inherited | self._environ

    def _may_still_tell(self, attempt_id: str, job: SlurmJob | None) -> bool:
        """Whether records of a job that Slurm has ended may still be on their way: not of one that never began."""
        if job is not None and not job.nodes:
            return False
        since = self._gone.setdefault(attempt_id, time.monotonic())
        return time.monotonic() - since < self._settings.grace_s

    def _end(self, run: RunDirectory, fate: Ended) -> None:
        """Have the books of an attempt closed that Slurm has nothing of any more, on this host.

        What was written down of its fate before stays: who came first knew more.
        """
        with suppress(FileNotFoundError):
            os.unlink(run.at(ENVIRON))
        if not run.has(EXIT) and not run.has(FATE):
            run.record(FATE, fate)
        self._watch.add(run.path)
        task = asyncio.create_task(self._closed(run))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _closed(self, run: RunDirectory) -> int:
        env = {name: value for name, value in os.environ.items() if name not in SERVERS_OWN}
        with open(self._run_folder / NODE_LOG, "ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._argv, "--close", run.path, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                start_new_session=True,
            )  # fmt: skip
        return await process.wait()

    def _told(self, names: Iterable[str]) -> None:
        for attempt_id in {*names, *self._gone}:
            path = str(self._attempts / attempt_id)
            if ATTEMPT_ID.fullmatch(attempt_id) and os.path.isdir(path):  # the user may have jobs of his own there
                self._changed(path)


class SlurmNodes:
    """:class:`jobsphere.domain.node_ports.Nodes` of a cluster of Slurm: one node, which Slurm divides further."""

    def __init__(self, runner: SlurmRunner, capacity: NodeCapacity) -> None:
        self._runner = runner
        self._capacity = capacity

    def all(self) -> Mapping[str, Node]:
        """The cluster: away while Slurm does not answer, and nothing that runs there is given up."""
        why = self._runner.queue.why_away
        condition = Condition.AWAY if why else Condition.READY
        return {self._runner.node: Node(self._runner.node, self._capacity, condition, why)}

    def runner(self, name: str) -> SlurmRunner:  # noqa: ARG002
        """Its own, also for attempts that ran here before it was there: their run directories are in its folder."""
        return self._runner

    def subscribe(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:  # noqa: ARG002
        """It neither comes nor goes."""
        self._runner.subscribe(hint)


def _was_submitted(run: RunDirectory) -> bool:
    return run.has(SUBMITTED) or run.has(CLAIM)


def _stopped() -> Ended:
    return Ended(datetime.now(UTC), EndReason.STOPPED, None, Phase.MACHINE, "Stopped before the program was started")


def _end_of(run: RunDirectory, job: SlurmJob | None) -> Ended:
    """What became of an attempt whose job Slurm has ended, or knows no more."""
    if run.has(STOP) and not run.has(CLAIM):
        return _stopped()
    if job is None:
        words = f"Slurm does not know its job {run.glance(SUBMITTED, str) or ''} any more"
    else:
        how = _ENDS.get(job.state, f"ended there ({job.state}, {job.reason}) without a word of what became of the job")
        words = f"its job {job.id} of Slurm {how}"
    where = f" (on {job.nodes})" if job is not None and job.nodes else ""
    message = f"The job was lost: {words}{where}. It is not started again by itself; create it anew."
    return Ended(datetime.now(UTC), EndReason.LOST, None, Phase.MACHINE, message)
