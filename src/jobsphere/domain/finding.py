"""Looking through a project's jobs as people do: by a piece of text, and along the line of forks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jobsphere.domain.job import Job, JobStatus

LOOKED_AT = 2000
"""How many jobs one look goes through for those that fit a text: it must not hold up others."""


@dataclass(frozen=True, slots=True)
class Found:
    """Some jobs, newest first; ``next_token`` leads on to older ones, whether or not any of them fits (empty: none)."""

    jobs: tuple[Job, ...]
    next_token: str = ""


class JobFinder(Protocol):
    """Finds jobs."""

    async def find(
        self, project_id: str, statuses: Sequence[JobStatus] | None, text: str, limit: int, token: str
    ) -> Found:
        """The project's jobs in these statuses (None: any) that :func:`fits` the text, newest first.

        Raises:
            InvalidArgumentError: the token is none of ours.
        """
        ...

    async def forks(self, job: Job, limit: int) -> Sequence[Job]:
        """The jobs that were forked from this one, newest first."""
        ...


def fits(job: Job, text: str) -> bool:
    """Whether the id, the name, the description or the creator's id holds the text, in small letters or large."""
    wanted = text.casefold()
    return any(wanted in field.casefold() for field in (job.id, job.name, job.desc, job.created_by_id))
