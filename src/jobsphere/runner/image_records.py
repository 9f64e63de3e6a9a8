"""What this server's jobs have pulled: a record for each reference, beside a lock that each of its users holds.

::

    <data>/images/<name>.json   written before the pull, so that what a crash leaves is known; its time: the last use
    <data>/images/<name>.use    held (flock, shared) by each supervisor whose job runs in the image, to its end
    <data>/images/pulls.lock    held (flock, shared) by each pull, until its record says what came

An image that was on the host before has no record: it is the user's own, and stays.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jobsphere.domain.attempt import ContainerEngine
from jobsphere.durable import Point, locked, share, write_private
from jobsphere.runner import records

FOLDER = "images"
"""In the data directory."""
PULLS_LOCK = "pulls.lock"


@dataclass(frozen=True, slots=True)
class Version:
    """What a reference stood for at one time: the image's id (64 hex digits), and what its layers take."""

    image_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PulledRecord:
    """A reference that was brought here, and the images that it stood for; none: the pull is not through."""

    reference: str
    engine: ContainerEngine
    versions: tuple[Version, ...] = ()


class Claim:
    """A job's use of one reference.

    Args:
        data_dir: The data directory of the node.
        engine: That runs the image.
        reference: The image, by its complete reference.
    """

    def __init__(self, data_dir: str, engine: ContainerEngine, reference: str) -> None:
        self._engine = engine
        self._reference = reference
        names = (engine.kind, engine.program, *engine.args, reference)
        name = hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]
        self._folder = Path(data_dir, FOLDER)
        self._record = self._folder / f"{name}.json"

    def hold(self, pause: Callable[[], None]) -> None:
        """Keep the image from being removed until this process ends; ``pause`` while it is just being removed."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        share(use_lock(self._record), pause)

    def is_ours(self) -> bool:
        """Whether it was brought here by a job, not by a user."""
        return self._record.exists()

    @contextmanager
    def pulling(self, pause: Callable[[], None]) -> Generator[None]:
        """Nothing is removed meanwhile: what comes may be what another reference stands for."""
        lock = share(self._folder / PULLS_LOCK, pause)
        try:
            yield
        finally:
            os.close(lock)

    def begin(self) -> None:
        """It is not here, and about to be pulled."""
        self._change(lambda was: was or PulledRecord(self._reference, self._engine))

    def brought(self, version: Version) -> None:
        """It was pulled, and is this now."""

        def add(was: PulledRecord | None) -> PulledRecord:
            record = was or PulledRecord(self._reference, self._engine)
            others = tuple(v for v in record.versions if v.image_id != version.image_id)
            return replace(record, versions=(*others, version))

        self._change(add)

    def used(self) -> None:
        """A job begins in it."""
        with suppress(FileNotFoundError):  # a user's own
            os.utime(self._record)

    def _change(self, change: Callable[[PulledRecord | None], PulledRecord]) -> None:
        with locked(self._folder):
            was = read_record(self._record)
            new = change(was)
            if new != was:
                rewrite(self._record, new)
            else:
                self.used()


def read_record(path: Path) -> PulledRecord | None:
    """None if there is none, or one that cannot be read."""
    try:
        return records.loads(PulledRecord, path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def rewrite(path: Path, record: PulledRecord) -> None:
    """Put a record in place; the caller keeps others from it."""
    write_private(path, records.dumps(record), Point.IMAGE_RECORD)


def use_lock(record: Path) -> Path:
    """The lock of those that use what a record is about."""
    return record.with_suffix(".use")
