"""Keeps pulled images within a budget: those least lately used go first, and never one in use.

Only what jobs of this server pulled (:mod:`jobsphere.runner.image_records`) is looked at, and nothing is removed by
force: a name that a user gave to the same image stays, and so does an image that a container uses, whoever's it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from jobsphere.domain.attempt import ContainerEngine
from jobsphere.durable import Point, alone, durable
from jobsphere.runner.image_records import FOLDER, PULLS_LOCK, PulledRecord, read_record, rewrite, use_lock
from jobsphere.runner.named_container import call_engine

_REMOVAL_S = 600
_NO_SUCH = "no such image|image not known"


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image that jobs of this server brought to the host.

    ``size_bytes``: what its layers take, also those that it shares with others. ``complete`` False: a pull is under
    way, or was broken off.
    """

    reference: str
    image_id: str
    size_bytes: int
    last_used: datetime
    in_use: bool
    complete: bool


def pulled_images(data_dir: Path) -> list[PulledImage]:
    """All of a data directory, the least lately used first. The engine is not asked."""
    return [image for _, image in _stored(data_dir)]


def trim_images(data_dir: Path, budget_bytes: int) -> tuple[PulledImage, ...]:
    """Remove what is broken off or superseded and, until all is within the budget, unused images: those that went.

    Raises:
        OSError: the engine does not answer, or not as it should.
    """
    _drop_drafts(data_dir / FOLDER)
    for path, image in _stored(data_dir):
        if not image.in_use:
            _drop_superseded(path)
    stored = _stored(data_dir)
    left = sum(image.size_bytes for _, image in stored)
    gone: list[PulledImage] = []
    for path, image in stored:
        if (left > budget_bytes or not image.complete) and _remove(path):
            left -= image.size_bytes
            gone.append(image)
    return tuple(gone)


def _stored(data_dir: Path) -> list[tuple[Path, PulledImage]]:
    folder = data_dir / FOLDER
    found = [(path, _look(path)) for path in folder.glob("*.json")] if folder.is_dir() else []
    return sorted(((p, i) for p, i in found if i is not None), key=lambda pair: pair[1].last_used)


def _look(path: Path) -> PulledImage | None:
    """None if it went meanwhile."""
    with alone(use_lock(path)) as unused:
        record = read_record(path)
        if record is None:
            return None
        last_used = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    versions = record.versions
    return PulledImage(
        record.reference,
        versions[-1].image_id if versions else "",
        sum(version.size_bytes for version in versions),
        last_used,
        in_use=not unused,
        complete=bool(versions),
    )


def _drop_drafts(folder: Path) -> None:
    """Remove the halves of records whose writers were killed: whoever writes one holds the lock of pulls."""
    if drafts := [*folder.glob("*.new")]:
        with alone(folder / PULLS_LOCK) as idle:
            for draft in drafts if idle else ():
                draft.unlink(missing_ok=True)


def _remove(path: Path) -> bool:
    """Whether the record, and all that it is about, could be removed."""
    with _unused(path) as record:
        if record is None or not _take_name(record) or not all(_drop(record, v.image_id) for v in record.versions):
            return False
        with durable(Point.IMAGE_RECORD):
            path.unlink()
    return True


def _drop_superseded(path: Path) -> None:
    """Remove what the reference stood for until its tag moved on."""
    with _unused(path) as record:
        if record is not None and len(record.versions) > 1 and all(
            _drop(record, version.image_id) for version in record.versions[:-1]
        ):  # fmt: skip
            rewrite(path, replace(record, versions=record.versions[-1:]))


@contextmanager
def _unused(path: Path) -> Generator[PulledRecord | None]:
    """The record, if nobody uses or is about to use any of its images meanwhile, by whatever reference; else None."""
    with ExitStack() as locks:
        idle = locks.enter_context(alone(path.with_name(PULLS_LOCK))) and locks.enter_context(alone(use_lock(path)))
        record = read_record(path) if idle else None
        if record is not None:
            ids = {version.image_id for version in record.versions}
            for other in path.parent.glob("*.json"):
                same = read_record(other) if other != path else None
                if same is not None and ids & {version.image_id for version in same.versions}:
                    idle = locks.enter_context(alone(use_lock(other))) and idle
        yield record if idle else None


def _take_name(record: PulledRecord) -> bool:
    """Remove the reference, and the image with it if it has no other; what somebody else has pulled as it stays."""
    ids = {version.image_id for version in record.versions}
    now = _inspect(record.engine, record.reference)
    if now is None or (ids and now.image_id not in ids):
        return True
    return call_engine(record.engine, "rmi", record.reference, patience_s=_REMOVAL_S).returncode == 0


def _drop(record: PulledRecord, image_id: str) -> bool:
    """Remove an image, if it has no name but that of the record's repository: whether there is nothing left to do."""
    reference = record.reference
    repository = reference.partition("@")[0] if "@" in reference else reference.rpartition(":")[0]
    now = _inspect(record.engine, image_id)
    if now is None or now.tags or any(digest.partition("@")[0] != repository for digest in now.digests):
        return True
    return call_engine(record.engine, "rmi", image_id, patience_s=_REMOVAL_S).returncode == 0


@dataclass(frozen=True, slots=True)
class _Names:
    image_id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]


def _inspect(engine: ContainerEngine, named: str) -> _Names | None:
    """What has that name or id; None: nothing."""
    told = call_engine(engine, "image", "inspect", named)
    if told.returncode and not re.search(_NO_SUCH, told.stderr, re.IGNORECASE):
        raise OSError(f"{engine.kind} does not say whether it has the image {named}: {told.stderr.strip()[-300:]}")
    for found in json.loads(told.stdout):
        image_id, tags, digests = found["Id"], found.get("RepoTags"), found.get("RepoDigests")
        return _Names(image_id.removeprefix("sha256:"), tuple(tags or ()), tuple(digests or ()))
    return None
