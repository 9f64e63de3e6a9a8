"""Logs as a stream: from the run directory to whoever asks, to the last line, and who is still reading them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from jobsphere.domain.access import Action
from jobsphere.domain.attempt import LogChunk
from jobsphere.domain.errors import InvalidArgumentError, UnavailableError
from jobsphere.domain.job import Attempt, Job
from jobsphere.domain.node_ports import Condition, Nodes
from jobsphere.domain.ports import Clock, JobStore
from jobsphere.domain.resource import Subject
from jobsphere.service.access import Access
from jobsphere.service.changes import Changes
from jobsphere.service.data import require_data

CHUNK_BYTES = 512 * 1024
_LOOK_AGAIN_S = 1.0
_STALLED_S = 10.0
_SETTLE_S = 0.3
_LOOK_S = 0.05
_PRINT_LINE_S = 60e-6
_PRINT_BYTE_S = 50e-9
_MAX_PRINT_S = 60.0
_RECONNECT_S = 7.0
_ROOM = 1 << 48
"""Offsets of a job's second attempt begin here, those of its third at twice as much."""
_JUST_ENDED = timedelta(seconds=10)
_TELL_S = 2.0
"""How often other servers are told of a reader that goes on."""
_GONE_S = 10.0
"""How long they believe it: the vendor's client comes back five seconds after its server is gone."""
_MANY = 1000


def _tell_nobody(_job_id: str, _for_s: float) -> None:
    """There is no other server."""


class Readers:
    """Who reads which job's log: the end of a job is told only when its readers have got all of it.

    The vendor's client stops printing when its operation is done. So what was sent must also have had the time to be
    read and printed: a part of a second, or, behind a flood, as long as that client takes to print it (measured: 15 µs
    a line, 37 on a busy host; 60 are allowed for), since the connection's window holds megabytes that it has not looked
    at. A reader that does not take what it is offered for ten seconds holds nobody up; one that has nothing to read yet
    does, however long the program was silent.

    Where there are several servers, the operation may be asked for at one and the log read at another: each tells the
    others who reads what, again and again while that goes on. What is heard from one that is gone counts for so long as
    its client needs to come back to another.

    A restart of the server breaks the streams, and that client waits five seconds before it reads on: for so long a job
    that was under way then is held back, until a reader of it has come and gone.
    """

    def __init__(
        self,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        told: Callable[[str, float], None] = _tell_nobody,
    ) -> None:
        self._now = monotonic
        self._told = told
        self._elsewhere: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._started = clock.now()
        self._reconnected_at = monotonic() + _RECONNECT_S
        self._read_since: set[str] = set()
        self._open: defaultdict[str, set[_Reader]] = defaultdict(set)
        self._settled_at: OrderedDict[str, float] = OrderedDict()

    def enter(self, job_id: str) -> _Reader:
        """A new reader of the job's log."""
        reader = _Reader(job_id, self._now())
        self._open[job_id].add(reader)
        self.goes_on(reader)
        return reader

    def goes_on(self, reader: _Reader) -> None:
        """The reader follows the log still: called at least every second or two, unless it takes nothing."""
        now = self._now()
        if now >= reader.tell_at:
            reader.tell_at = now + _TELL_S
            self._told(reader.job_id, _GONE_S)

    def heard(self, server: str, job_id: str, for_s: float) -> None:
        """Another server has told that the job's log is read there, for so long from now."""
        now = self._now()
        self._elsewhere[job_id][server] = now + for_s
        if len(self._elsewhere) > _MANY:
            self._elsewhere = defaultdict(
                dict, {id_: at for id_, at in self._elsewhere.items() if max(at.values(), default=0.0) > now}
            )

    def offer(self, reader: _Reader) -> None:
        """Frames are on their way to the reader's connection."""
        reader.offered_at = self._now()

    def took(self, reader: _Reader, chunk: LogChunk) -> None:
        """The reader's connection accepted these frames: from now on they are being printed."""
        now = self._now()
        lines = sum(f.content.count(b"\n") for f in chunk.frames)
        size = sum(len(f.content) for f in chunk.frames)
        left = max(0.0, reader.print_s - (now - reader.last))
        reader.print_s = min(left + lines * _PRINT_LINE_S + size * _PRINT_BYTE_S, _MAX_PRINT_S)
        reader.last = now
        reader.offered_at = None

    def leave(self, reader: _Reader, *, comes_back: bool = False) -> None:
        """The stream has ended, by whichever side. ``comes_back``: its client will read on at another server."""
        if self._now() < self._reconnected_at:
            self._read_since.add(reader.job_id)
        readers = self._open[reader.job_id]
        readers.discard(reader)
        if not readers:
            del self._open[reader.job_id]
        now = self._now()
        settled = now + _SETTLE_S + max(0.0, reader.print_s - (now - reader.last))
        settled = max(settled, self._settled_at.pop(reader.job_id, 0.0))
        self._settled_at[reader.job_id] = settled
        if reader.job_id not in self._open:
            self._told(reader.job_id, _RECONNECT_S if comes_back else settled - now)
        self._forget_settled(now)

    def pending(self, job: Job) -> float:
        """Seconds to wait before asking again whether all of an ended job's log is read; 0 when it is."""
        now = self._now()
        if any(not r.stalled(now) for r in self._open.get(job.id, ())):
            return _LOOK_S
        if now < self._reconnected_at and self._lost_its_reader(job):
            return _LOOK_S
        elsewhere = max(self._elsewhere[job.id].values(), default=0.0) if job.id in self._elsewhere else 0.0
        left = max(self._settled_at.get(job.id, 0.0), elsewhere) - now
        if left <= 0:
            self._settled_at.pop(job.id, None)
            self._elsewhere.pop(job.id, None)
            return 0.0
        return left

    def _forget_settled(self, now: float) -> None:
        """Whoever reads a log need not ask for the job's operation afterwards."""
        while self._settled_at and next(iter(self._settled_at.values())) <= now:
            self._settled_at.popitem(last=False)

    def _lost_its_reader(self, job: Job) -> bool:
        """Whether the job was under way when this server started, so that somebody may be about to read on."""
        ended = job.finished_at or self._started
        under_way = job.created_at < self._started < ended + _JUST_ENDED
        return under_way and job.id not in self._read_since


@dataclass(eq=False, slots=True)
class _Reader:
    job_id: str
    last: float
    print_s: float = 0.0
    offered_at: float | None = None
    tell_at: float = 0.0

    def stalled(self, now: float) -> bool:
        return self.offered_at is not None and now - self.offered_at >= _STALLED_S


class Logs:
    """Reading logs."""

    def __init__(self, store: JobStore, nodes: Nodes, access: Access, changes: Changes, readers: Readers) -> None:
        self._store = store
        self._nodes = nodes
        self._access = access
        self._changes = changes
        self._readers = readers
        self._closing = False

    def shut_down(self) -> None:
        """End every stream so that its reader connects again (to the next server) where it was."""
        self._closing = True

    async def stream(self, who: Subject, job_id: str, offset: int) -> AsyncIterator[LogChunk]:
        """Chunks from ``offset`` on (-1: from now on) until the job has ended and all is given.

        Raises:
            NotFoundError: no such job.
            InvalidArgumentError: not an offset that this stream gave.
            FailedPreconditionError: the job's data is cleared.
            UnavailableError: the server stops, or the node cannot be reached; read on at the last offset.
        """
        job = await self._store.get_job(job_id)
        await self._access.require(who, job.project_id, Action.JOB_VIEW, "job", job_id)
        require_data(job)
        if offset < -1:
            raise InvalidArgumentError(f"offset: {offset}; it must be -1 (from now on), 0, or one that was read before")
        reader = self._readers.enter(job_id)
        try:
            async for chunk in self._follow(job, offset, reader):
                # A log is followed for hours: a role may have been taken away meanwhile.
                await self._access.require(who, job.project_id, Action.JOB_VIEW, "job", job_id)
                self._readers.offer(reader)
                yield chunk
                self._readers.took(reader, chunk)
        finally:
            self._readers.leave(reader, comes_back=self._closing)

    async def _follow(self, job: Job, offset: int, reader: _Reader) -> AsyncIterator[LogChunk]:
        """The logs of all attempts, from the one that the offset is of."""
        number, position = divmod(offset, _ROOM) if offset >= 0 else (len(job.lost_attempts), -1)
        if number > len(job.lost_attempts):
            raise InvalidArgumentError(f"offset: {offset}; it is not one of this log")
        while (attempt := await self._attempt(job, number, reader)) is not None:
            try:
                async for chunk in self._one(job.id, attempt, position, reader):
                    yield replace(chunk, offset=chunk.offset + number * _ROOM) if number else chunk
            except UnavailableError:
                if self._closing or not await self._lost(job.id, attempt):
                    raise  # what is left of a lost one's log went with its node
            if not job.retries:
                return
            number, position = number + 1, 0
            job = await self._store.get_job(job.id)

    async def _one(self, job_id: str, attempt: Attempt, offset: int, reader: _Reader) -> AsyncIterator[LogChunk]:
        if offset == -1:
            offset = await self._nodes.runner(attempt.node).log_size(attempt.id)
        ended = read = False
        while True:
            self._check_open()
            self._readers.goes_on(reader)
            chunk = await self._read(job_id, attempt, offset, read)
            if chunk is None:
                continue
            read = True
            if chunk.frames:
                yield chunk
                offset = chunk.offset
            if chunk.complete:
                return
            if not chunk.frames:
                if ended:
                    return
                # The last lines may have come after the look above: one that has ended is looked at once more.
                ended = await self._ended(job_id, attempt)
            if not chunk.frames and not ended:
                with suppress(UnavailableError):  # the next look tells
                    await self._nodes.runner(attempt.node).wait_logs(attempt.id, offset, _LOOK_AGAIN_S)

    async def _read(self, job_id: str, attempt: Attempt, offset: int, read: bool) -> LogChunk | None:
        """A piece of the log; None, after a while: try again. ``read``: whether some was read before."""
        try:
            return await self._nodes.runner(attempt.node).read_logs(attempt.id, offset, CHUNK_BYTES)
        except UnavailableError:
            if not read or await self._given_up(job_id, attempt):
                raise
            await asyncio.sleep(_LOOK_AGAIN_S)
            return None

    async def _given_up(self, job_id: str, attempt: Attempt) -> bool:
        """Whether a node that went away in the middle of a log is not waited for.

        A reader that was sent away would come again too late for the last lines of a job that ends meanwhile.
        """
        seen = self._nodes.all().get(attempt.node)
        return (seen is not None and seen.condition is Condition.LOST) or await self._ended(job_id, attempt)

    async def _attempt(self, job: Job, number: int, reader: _Reader) -> Attempt | None:
        """The job's attempt of that number, from 0, once it has it; None if it ended without."""
        while len(job.attempts) <= number and not job.status.terminal:
            self._check_open()
            self._readers.goes_on(reader)
            await self._changes.wait(job.id, _LOOK_AGAIN_S)
            job = await self._store.get_job(job.id)
        return job.attempts[number] if number < len(job.attempts) else None

    async def _ended(self, job_id: str, attempt: Attempt) -> bool:
        return (await self._store.get_job(job_id)).status.terminal or await self._lost(job_id, attempt)

    async def _lost(self, job_id: str, attempt: Attempt) -> bool:
        return attempt in (await self._store.get_job(job_id)).lost_attempts

    def _check_open(self) -> None:
        if self._closing:
            raise UnavailableError("the server is stopping; read on at the last offset")
