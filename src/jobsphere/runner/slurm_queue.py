"""What Slurm says of this user's jobs: asked once for all of them, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from jobsphere.domain.errors import UnavailableError
from jobsphere.runner.slurm_commands import SlurmJob, jobs


class SlurmQueue:
    """The jobs by their names. Made on the running event loop.

    Args:
        every_s: How often Slurm is asked.
        changed: Called with the names whose job came, went or has another state since Slurm was last asked.
    """

    def __init__(self, every_s: float, changed: Callable[[Iterable[str]], None]) -> None:
        self._every_s = every_s
        self._changed = changed
        self._jobs: dict[str, SlurmJob] = {}
        self._asked_at = 0.0
        self._noted: dict[str, tuple[float, SlurmJob]] = {}
        self._first = asyncio.Event()
        self.why_away = ""
        """Why Slurm did not answer when it was last asked; empty: it did."""
        self._asking = asyncio.create_task(self._ask())

    async def close(self) -> None:
        """Ask no more."""
        self._asking.cancel()
        await asyncio.gather(self._asking, return_exceptions=True)

    async def job(self, name: str) -> SlurmJob | None:
        """The job of that name, as Slurm last told; None if it knows none.

        Raises:
            UnavailableError: Slurm has not told anything since this was made.
        """
        await self._first.wait()
        noted = self._noted.get(name)
        if noted is not None:
            return noted[1]
        if not self._asked_at:
            raise UnavailableError(self.why_away)
        return self._jobs.get(name)

    async def find(self, name: str) -> SlurmJob | None:
        """The job of that name, by asking Slurm now.

        Raises:
            UnavailableError: it cannot be reached.
        """
        job = _by_name(await jobs(name)).get(name)
        if job is not None:
            self.note(job)
        return job

    def note(self, job: SlurmJob) -> None:
        """Know of a job before Slurm is asked again."""
        self._noted[job.name] = time.monotonic(), job

    async def _ask(self) -> None:
        while True:
            await self._ask_once()
            self._first.set()
            await asyncio.sleep(self._every_s)

    async def _ask_once(self) -> None:
        begin = time.monotonic()
        try:
            told = _by_name(await jobs())
        except UnavailableError as error:
            self.why_away = error.public
            return
        self.why_away = ""
        was = self._jobs | {name: job for name, (_, job) in self._noted.items()}
        self._jobs, self._asked_at = told, begin
        self._noted = {name: noted for name, noted in self._noted.items() if noted[0] > begin}
        self._changed([name for name in was.keys() | told.keys() if was.get(name) != told.get(name)])


def _by_name(found: Iterable[SlurmJob]) -> dict[str, SlurmJob]:
    """One for each name: one that is active before one that has ended."""
    return {job.name: job for job in sorted(found, key=lambda job: job.active)}
