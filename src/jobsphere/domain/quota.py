"""What a project may have at most, and the refusal when it would have more: pure.

A refusal tells the figures, what frees some, and who can raise the quota.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from jobsphere.domain.errors import InvalidArgumentError, ResourceExhaustedError
from jobsphere.domain.limits import human_size

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|[KMGT]i?B?)?", re.IGNORECASE)
_OLD_JOBS = "delete data of old jobs, or give jobs a shorter time to live"
_PARTS = (
    ("files", "in files of jobs", _OLD_JOBS),
    ("datasets", "in datasets", "delete datasets that nobody needs (`jobsphere dataset list`, `delete`)"),
    ("disk", "on its disk", "remove files from its disk (`jobsphere project disk ls`, `rm`)"),
    ("arriving", "in uploads under way", _OLD_JOBS),
)
_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project may have; None: as the server's settings say, and without those no limit.

    ``jobs``: stored jobs, whatever became of them. ``bytes``: in files of jobs, in datasets and on the disk; what is
    built and pulled for jobs is shared, bounded by budgets of its own, and counted to no project. ``running``: jobs
    that hold a part of the node at a time. ``queued``: executed jobs that wait for their turn.
    """

    jobs: int | None = None
    bytes: int | None = None
    running: int | None = None
    queued: int | None = None

    def over(self, default: Quota) -> Quota:
        """The same, with the default for what is left open."""
        return Quota(**(default.as_dict() | self.as_dict()))

    def as_dict(self) -> dict[str, int]:
        """What is set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class StoredSizes:
    """The bytes that a project has, by what they are in; ``arriving``: promised to uploads that are under way."""

    files: int = 0
    datasets: int = 0
    disk: int = 0
    arriving: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.files + self.datasets + self.disk + self.arriving


@dataclass(frozen=True, slots=True)
class Usage:
    """What a project has of what :class:`Quota` bounds."""

    jobs: int
    running: int
    queued: int
    sizes: StoredSizes


NAMES = tuple(f.name for f in fields(Quota))


def parse_quota(texts: Mapping[str, str]) -> Quota:
    """A quota as people write it: ``{"jobs": "100", "bytes": "20 GiB"}``; an empty text leaves it open.

    Raises:
        InvalidArgumentError: there is no such quota, or the text is no number.
    """
    return Quota(**{name: _number(name, text) for name, text in texts.items() if text.strip()})


def show_quota(quota: Quota) -> dict[str, str]:
    """What :func:`parse_quota` reads."""
    return {name: str(value) for name, value in quota.as_dict().items()}


def check_jobs(quota: Quota, stored: int) -> None:
    """Refuse one more job.

    Raises:
        ResourceExhaustedError: the project has as many as it may.
    """
    if quota.jobs is not None and stored >= quota.jobs:
        _refuse(f"{stored} jobs are stored, and {quota.jobs} may be", "delete jobs that nobody needs any more", "jobs")


def check_queued(quota: Quota, queued: int) -> None:
    """Refuse one more job in the queue.

    Raises:
        ResourceExhaustedError: as many of the project wait as may.
    """
    if quota.queued is not None and queued >= quota.queued:
        text = f"{queued} jobs wait for their turn, and {quota.queued} may"
        _refuse(text, "execute this one when some of them have started, or cancel some", "queued")


def check_bytes(quota: Quota, sizes: StoredSizes, more: int) -> None:
    """Refuse so many more bytes.

    Raises:
        ResourceExhaustedError: the project would have more than it may.
    """
    if quota.bytes is not None and more and sizes.total + more > quota.bytes:
        _refuse_bytes(quota.bytes, sizes, f", {human_size(more)} more would be")


def check_room(quota: Quota, sizes: StoredSizes) -> None:
    """Refuse to start what leaves bytes behind, where there are too many already.

    Raises:
        ResourceExhaustedError: the project has more than it may.
    """
    if quota.bytes is not None and sizes.total > quota.bytes:
        _refuse_bytes(quota.bytes, sizes, "")


def _refuse_bytes(limit: int, sizes: StoredSizes, more: str) -> None:
    parts = sorted(((getattr(sizes, name), words, step) for name, words, step in _PARTS), key=lambda p: -p[0])
    shown = ", ".join(f"{human_size(size)} {words}" for size, words, _ in parts if size)
    stored = f"{human_size(sizes.total)} are stored{f' ({shown})' if shown else ''}"
    _refuse(f"{stored}{more}, {human_size(limit)} may be", parts[0][2], "bytes")


def _refuse(figures: str, step: str, name: str) -> None:
    raise ResourceExhaustedError(
        f"the project's quota of {name} is used up: {figures}. Next: {step}; or ask the server's operator for more "
        f"(`jobsphere project update ID --quota {name}=…`)"
    )


def _number(name: str, text: str) -> int:
    if name not in NAMES:
        raise InvalidArgumentError(f"quota {name!r}: there is none; there are: {', '.join(NAMES)}")
    found = _SIZE.fullmatch(text.strip())
    if found is None or (name != "bytes" and not text.strip().isdigit()):
        how = "a number of bytes, as 20GiB" if name == "bytes" else "a whole number"
        raise InvalidArgumentError(f"quota {name}: {text!r} is not {how}")
    return int(float(found[1]) * 1024 ** _UNITS[(found[2] or "")[:1].lower()])
