"""What every check is given, and what it finds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from jobsphere.config import Settings
from jobsphere.domain.errors import CorruptedError, FailedPreconditionError
from jobsphere.domain.job import Job
from jobsphere.store.schema import HEAD
from jobsphere.store.snapshot import Contents, contents_of, revision_of, stored_jobs

_SETTLED_S = 60.0


class Level(StrEnum):
    """How bad it is. Only what is wrong makes the doctor's exit code 1."""

    WRONG = "wrong"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing.

    ``repair``: what mends it without harm, while no server runs; None if a person is to decide. ``lasting``: a second
    look could find nothing else.
    """

    text: str
    next_step: str
    level: Level = Level.WRONG
    repair: Callable[[], object] | None = field(default=None, compare=False)
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """A data directory at one moment.

    ``deep``: also read every byte that has a hash, each told to ``report``. ``busy``: a server runs meanwhile.
    """

    data_dir: Path
    settings: Settings
    deep: bool = True
    busy: bool = False
    report: Callable[[int], None] = field(default=lambda _: None, compare=False)

    @property
    def shared(self) -> Path:
        """The folder of keys, datasets, disks, and of blobs that are in no bucket."""
        return self.settings.shared if self.settings.shared_dir else self.data_dir

    @property
    def database(self) -> Path:
        """The database file."""
        return self.data_dir / "jobsphere.db"


@dataclass
class Known:
    """A look with what the database says, read when it is first asked for."""

    look: Look

    @cached_property
    def contents(self) -> Contents:
        """What there must be. Only asked for when the database can be read."""
        return contents_of(self.look.database)

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """The jobs that can be read."""
        return {job.id: job for job in stored_jobs(self.look.database) if isinstance(job, Job)}

    def is_settled(self, path: Path) -> bool:
        """Whether nobody can be about to name it: a server puts files in place just before it stores what they are."""
        if not self.look.busy:
            return True
        try:
            return time.time() - path.lstat().st_ctime > _SETTLED_S
        except OSError:
            return False


Check = Callable[[Known], Iterable[Finding]]


def readable(look: Look) -> bool:
    """Whether the database can be asked what there must be."""
    try:
        return look.database.is_file() and revision_of(look.database) == HEAD
    except (FailedPreconditionError, CorruptedError):
        return False


def names_in(folder: Path) -> list[str]:
    """What is in a folder, by name; nothing if there is none."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []
