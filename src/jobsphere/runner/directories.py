"""What every runner does whose attempts are run directories that this host sees: all but to start their supervisors."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jobsphere.domain.attempt import AttemptPlan, CollectedFile, LogChunk, Observation, StopOrder
from jobsphere.domain.command import WORK
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError, UnavailableError
from jobsphere.domain.ports import BlobStore, FinishedFile
from jobsphere.domain.resource_ports import DatasetFiles
from jobsphere.durable import Point, durable
from jobsphere.runner.archive import remove_tree
from jobsphere.runner.frames import read_frames, whole_size
from jobsphere.runner.room import is_full
from jobsphere.runner.rundir import (
    COLLECTED,
    CONTROL,
    CUT,
    GROUPS,
    LOGS,
    OUTBOX,
    RECORD_BYTES,
    RESERVE,
    ROOT_DIRECTORIES,
    RunDirectory,
    clear_drafts,
    create_run_directory,
    wake_stopped,
)
from jobsphere.runner.storage import remove_job_folder
from jobsphere.runner.watch import Hint, Watch, open_watch

ATTEMPTS, TIDIED, RUN = "attempts", "ended", "run"
NODE_LOG = "node.log"
_GONE = ".removed-"
ATTEMPT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_REMEMBERED = 1000
SERVERS_OWN = frozenset({"JOBSPHERE_DATABASE_PASSWORD", "PGPASSWORD"})
"""Variables that no process of a node has any use for."""


@dataclass(frozen=True, slots=True)
class Takers:
    """Where what attempts made goes to."""

    blobs: BlobStore
    datasets: DatasetFiles


class RunDirectories:
    """:class:`jobsphere.domain.attempt_ports.KeepingRunner` without ``launch``, over the run directories of a folder.

    Made on the running event loop.

    Args:
        data_dir: Holds ``attempts/`` (run directories of attempts under way), ``ended/`` (those of tidied ones, with
            records and log) and ``run/``; all are made if they are not there.
        node: The name of the node.
        takers: Where what attempts made goes to.
        watch: Makes what hints at changes in run directories.
    """

    def __init__(
        self, data_dir: Path, node: str, takers: Takers, watch: Callable[[Hint, Hint], Watch] = open_watch
    ) -> None:
        self.node = node
        self._takers = takers
        self._run_folder = data_dir / RUN
        self._attempts = data_dir / ATTEMPTS
        self._tidied = data_dir / TIDIED
        for folder in (self._run_folder, self._attempts, self._tidied):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hints: list[Callable[[str], None]] = []
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._ended: dict[str, Observation] = {}
        self._sizes: dict[str, int] = {}
        self._watch: Watch = watch(self._changed, self._grown)
        self._clear_remains()

    async def close(self) -> None:
        """Let go of the watches; the attempts go on."""
        self._watch.close()

    def _spare(self) -> str | None:
        """A run directory that was made beforehand, if there is one."""
        return None

    async def _make(self, plan: AttemptPlan) -> tuple[RunDirectory, bool]:
        """The run directory of an attempt that is to be launched, and whether it was made just now.

        Raises:
            UnavailableError: it cannot be made now.
        """
        run = self._run(plan.attempt_id)
        if os.path.isdir(run.path):
            return run, False
        try:
            return run, await asyncio.to_thread(create_run_directory, run.path, plan, self._spare())
        except OSError as error:
            raise UnavailableError(f"node {self.node}: {error.strerror}", attempt=plan.attempt_id) from error

    async def observe(self, attempt_id: str) -> Observation:
        """See :meth:`jobsphere.domain.ports.Runner.observe`.

        A supervisor that has written ``collected`` has nothing left to do, and does not count as alive.
        """
        known = self._ended.get(attempt_id)
        if known is not None:
            return known
        run = self._run(attempt_id)
        seen = run.observe()
        if seen.collected is not None:
            self._watch.discard(run.path)
            self._ended[attempt_id] = seen = replace(seen, alive=False)
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]
        elif seen.known:
            self._watch.add(run.path)
        return seen

    async def stop(self, attempt_id: str, order: StopOrder) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.stop`."""
        run = self._run(attempt_id)
        if os.path.isdir(run.path) and not run.has(COLLECTED):
            run.order(order)
            wake_stopped(run)

    async def deliver(self, project_id: str, attempt_id: str, files: Sequence[CollectedFile]) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.deliver`."""
        outbox = self.outbox(attempt_id, "")
        found = [FinishedFile(c.file.sha256, c.file.size_bytes, outbox / c.name) for c in files]
        await self._takers.blobs.adopt(project_id, found)

    async def deliver_dataset(self, project_id: str, attempt_id: str, name: str, dataset_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.deliver_dataset`."""
        await self._takers.datasets.adopt(project_id, dataset_id, self.outbox(attempt_id, name))

    def outbox(self, attempt_id: str, name: str) -> Path:
        """A collected file (see :class:`jobsphere.domain.attempt.CollectedFile`) on this host."""
        return Path(self._run(attempt_id).at(OUTBOX, name))

    async def tidy(self, attempt_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.tidy`."""
        path = str(self._attempts / attempt_id)
        if os.path.isdir(path):
            self._watch.discard(path)
            await asyncio.to_thread(_tidy, path, str(self._tidied / attempt_id))

    async def remove(self, attempt_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.remove`. Out of sight at once, out of the disk in a moment."""
        path = self._run(attempt_id).path
        self._watch.discard(path)
        self._ended.pop(attempt_id, None)
        self._sizes.pop(attempt_id, None)
        gone = str(self._attempts / f"{_GONE}{attempt_id}-{os.urandom(4).hex()}")
        with suppress(FileNotFoundError):
            with durable(Point.ATTEMPT_REMOVED):
                os.rename(path, gone)
            self._wake(attempt_id)
            await asyncio.to_thread(_remove, gone)

    async def attempts(self) -> Sequence[str]:
        """See :meth:`jobsphere.domain.ports.Runner.attempts`."""
        return sorted(name for name in os.listdir(self._attempts) if not name.startswith("."))

    async def tidied(self) -> Sequence[str]:
        """See :meth:`jobsphere.domain.attempt_ports.KeepingRunner.tidied`."""
        return await asyncio.to_thread(os.listdir, self._tidied)

    def subscribe(self, hint: Callable[[str], None]) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.subscribe`."""
        self._hints.append(hint)

    async def read_logs(self, attempt_id: str, offset: int, limit_bytes: int) -> LogChunk:
        """See :meth:`jobsphere.domain.ports.Runner.read_logs`."""
        seen = self._ended.get(attempt_id) or self._run(attempt_id).observe()
        try:
            fd = self._open_logs(attempt_id)
        except FileNotFoundError:
            return LogChunk((), offset, complete=seen.collected is not None)
        try:
            frames, after = read_frames(fd, offset, limit_bytes)
        except InvalidArgumentError:
            run = self._run(attempt_id)
            # On a full disk a write may be seen and fail all the same; and what fills it may be cut off.
            if not run.has(CUT) and (seen.collected is not None or not is_full(run.path)):
                raise
            return LogChunk((), offset, complete=seen.collected is not None)
        finally:
            os.close(fd)
        return LogChunk(
            tuple(frames), after, seen.collected is not None and (not frames or after >= seen.collected.log_bytes)
        )

    async def log_size(self, attempt_id: str) -> int:
        """See :meth:`jobsphere.domain.ports.Runner.log_size`. Goes on from where it looked last."""
        try:
            fd = self._open_logs(attempt_id)
        except FileNotFoundError:
            return 0
        try:
            size = await asyncio.to_thread(whole_size, fd, self._sizes.get(attempt_id, 0))
        finally:
            os.close(fd)
        self._sizes[attempt_id] = size
        if len(self._sizes) > _REMEMBERED:
            del self._sizes[next(iter(self._sizes))]
        return size

    async def wait_logs(self, attempt_id: str, offset: int, timeout_s: float) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.wait_logs`."""
        path, event = self._run(attempt_id).path, asyncio.Event()
        self._waiting.setdefault(attempt_id, set()).add(event)
        self._watch.add(path)
        self._watch.add_logs(path)
        try:
            if not self._moved_beyond(attempt_id, offset):
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), timeout_s)
        finally:
            self._watch.discard_logs(path)
            if self._run(attempt_id).has(COLLECTED):
                self._watch.discard(path)
            self._waiting[attempt_id].discard(event)
            if not self._waiting[attempt_id]:
                del self._waiting[attempt_id]

    def _moved_beyond(self, attempt_id: str, offset: int) -> bool:
        """Whether a look at the log would tell something new. Half a frame does not, nor does a missing directory."""
        try:
            fd = self._open_logs(attempt_id)
        except FileNotFoundError:
            return self._run(attempt_id).has(COLLECTED)
        try:
            frames = os.fstat(fd).st_size > offset and read_frames(fd, offset, 1)[0]
        except InvalidArgumentError:  # of a log that was cut: it has nothing more for this reader
            frames = []
        finally:
            os.close(fd)
        return bool(frames) or self._run(attempt_id).has(COLLECTED)

    def _run(self, attempt_id: str) -> RunDirectory:
        if not ATTEMPT_ID.fullmatch(attempt_id):
            raise NotFoundError(f"there is no attempt {attempt_id!r}")
        path = self._attempts / attempt_id
        tidied = self._tidied / attempt_id
        return RunDirectory(str(tidied if not path.is_dir() and tidied.is_dir() else path))

    def _open_logs(self, attempt_id: str) -> int:
        return os.open(self._run(attempt_id).at(LOGS), os.O_RDONLY | os.O_CLOEXEC)

    def _grown(self, path: str) -> None:
        self._wake(os.path.basename(path))

    def _changed(self, path: str) -> None:
        attempt_id = os.path.basename(path)
        self._wake(attempt_id)
        for hint in self._hints:
            hint(attempt_id)

    def _wake(self, attempt_id: str) -> None:
        for event in self._waiting.get(attempt_id, ()):
            event.set()

    def _clear_remains(self) -> None:
        """What a crash left half-made or half-removed."""
        for name in os.listdir(self._attempts):
            if name.startswith("."):
                _remove(str(self._attempts / name))


def _remove(path: str) -> None:
    """A run directory with everything that it has, wherever that lies."""
    remove_job_folder(os.path.join(path, WORK))
    remove_tree(path)


def _tidy(path: str, tidied: str) -> None:
    """Remove all but the records and the log, then put the rest away: a repeat goes on where a crash came."""
    run = RunDirectory(path)
    for name in (*ROOT_DIRECTORIES, OUTBOX, *(f"{RESERVE}.{r}" for r in RECORD_BYTES), CONTROL, GROUPS):
        with durable(Point.ATTEMPT_CLEARED):
            remove_job_folder(run.at(name))
    clear_drafts(path)
    with durable(Point.ATTEMPT_TIDIED):
        os.rename(path, tidied)
