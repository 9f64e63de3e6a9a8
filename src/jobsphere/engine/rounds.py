"""Looking at everything now and then, a part at a time: the cost of a look does not grow with what there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice

import structlog

from jobsphere.domain.attempt import job_id_of
from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.live import IDS_AT_A_TIME, id_pages, job_pages
from jobsphere.domain.node_ports import UNREACHABLE, Nodes
from jobsphere.domain.ports import JobStore, LiveId

AT_A_TIME = IDS_AT_A_TIME
"""How many jobs one look is about. Up to so many are all looked at each time."""
_NODES_AT_A_TIME = 64
log = structlog.get_logger()


class Rounds:
    """Goes round all live jobs and all nodes."""

    def __init__(self, store: JobStore, nodes: Nodes, at_a_time: int = AT_A_TIME) -> None:
        self._store = store
        self._nodes = nodes
        self._at_a_time = at_a_time
        self._status = 0
        self._after = 0
        self._node = 0

    async def all_live(self) -> AsyncIterator[Sequence[LiveId]]:
        """Every live job, in pages."""
        for status in LIVE_STATUSES:
            async for page in id_pages(self._store, status, self._at_a_time):
                yield page

    async def all_at_work(self) -> AsyncIterator[Sequence[str]]:
        """Every live job that does not wait for a part of a node, in pages."""
        for status in LIVE_STATUSES:
            async for page in id_pages(self._store, status, self._at_a_time):
                yield [entry.id for entry in page if entry.has_attempt or status is not JobStatus.PREPARING]

    async def all_waiting(self) -> AsyncIterator[Sequence[Job]]:
        """Every job that waits for a part of a node, oldest first, in pages."""
        async for page in job_pages(self._store, [JobStatus.PREPARING]):
            yield [job for job in page if job.attempt is None]

    async def some_live(self) -> Sequence[LiveId]:
        """The next part of the live jobs; after the last the first again."""
        found: list[LiveId] = []
        for _ in LIVE_STATUSES:
            room = self._at_a_time - len(found)
            found += await self._store.live_ids(LIVE_STATUSES[self._status], self._after, room)
            if len(found) >= self._at_a_time:
                self._after = found[-1].seq
                break
            self._status, self._after = (self._status + 1) % len(LIVE_STATUSES), 0
        return found

    async def some_held(self) -> set[str]:
        """The jobs of all attempts that the next few nodes hold."""
        names = sorted(self._nodes.all())
        first = self._node if self._node < len(names) else 0
        self._node = first + _NODES_AT_A_TIME
        return await self.held(islice(names, first, self._node))

    async def held(self, names: Iterable[str]) -> set[str]:
        """The jobs of all attempts that these nodes hold. One that cannot be reached is asked another time."""
        nodes = self._nodes.all()
        reachable = [n for n in names if n in nodes and nodes[n].condition not in UNREACHABLE]
        return set().union(*await asyncio.gather(*map(self._held, reachable)))

    async def _held(self, name: str) -> set[str]:
        try:
            return set(map(job_id_of, await self._nodes.runner(name).attempts()))
        except UnavailableError as e:
            log.warning("node cannot be asked", node=name, reason=e.public, **e.context)
            return set()
