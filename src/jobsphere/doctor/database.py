"""The database, the keys, and who can read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from jobsphere.doctor.look import Finding, Known, Level
from jobsphere.domain.errors import CorruptedError, JobsphereError
from jobsphere.domain.resources import DockerImage, Secret
from jobsphere.private import private_parts
from jobsphere.secretbox import SecretBox
from jobsphere.store.schema import HEAD
from jobsphere.store.snapshot import damage_of, revision_of, stored_jobs, stored_resources
from jobsphere.wiring.database import remote_url
from jobsphere.wiring.parts import keys_of

_RESTORE = "restore a backup into a new data directory (`jobsphere restore`)"
_KEY_BYTES = 32


def database(known: Known) -> Iterator[Finding]:
    """It is there, whole, and of a schema that this version knows."""
    path = known.look.database
    if url := remote_url(known.look.data_dir):
        yield Finding(
            f"the database is PostgreSQL ({url}): it is not looked into, and the files are not compared with it",
            "pg_amcheck looks for damage",
            Level.NOTE,
        )
        return
    if not path.is_file():
        yield Finding(
            f"there is no database {path}", "name a server's data directory by --data-dir, or restore a backup"
        )
        return
    try:
        revision = revision_of(path)
        for damage in damage_of(path):
            yield Finding(f"SQLite finds damage: {damage}", _RESTORE)
    except JobsphereError as error:
        yield Finding(error.public, "see the text on the left")
        return
    if revision != HEAD:
        text = f"its schema is {revision}, older than this version's {HEAD}; jobs and files are not compared"
        yield Finding(text, "back it up, then start the server: it brings the schema up to date", Level.NOTE)


def records(known: Known) -> Iterator[Finding]:
    """Every job can be read."""
    for job in stored_jobs(known.look.database):
        if isinstance(job, CorruptedError):
            yield Finding(job.public, f"{_RESTORE}; a newer version may be able to read it")


def keys(known: Known) -> Iterator[Finding]:
    """The server's key is one, and the keys open every stored secret."""
    path = known.look.shared / "key"
    if not path.is_file() or path.stat().st_size != _KEY_BYTES:
        text = "is not there" if not path.is_file() else f"has {path.stat().st_size} bytes instead of {_KEY_BYTES}"
        yield Finding(
            f"the server's key {path} {text}", "bring it back from where you keep it, or from a backup's keys"
        )
        return
    try:
        box = keys_of(known.look.settings).box()
    except (JobsphereError, OSError) as error:
        yield Finding(str(error), "mend the key file, or bring it back from a copy")
        return
    for what, project_id, sealed in _sealed(known):
        if not _opens(box, project_id, sealed):
            yield Finding(
                f"{what} cannot be opened: the key that sealed it is gone", "set it again, or bring the key back"
            )


def permissions(known: Known) -> Iterator[Finding]:
    """Nobody else reads what is secret, and all of it is the owner's."""
    owner = known.look.data_dir.stat().st_uid
    for path, bits in (part for top in {known.look.data_dir, known.look.shared} for part in private_parts(top)):
        status = path.stat()
        if status.st_mode & bits:
            text = f"{path} can be read or changed by others (mode {status.st_mode & 0o777:o})"
            yield Finding(text, f"chmod {'go=' if bits & 0o070 else 'o='} {path}", repair=_closing(path, bits))
        if status.st_uid != owner:
            yield Finding(f"{path} belongs to user {status.st_uid}, and the data directory to {owner}", f"chown {path}")


def _sealed(known: Known) -> Iterator[tuple[str, str, str]]:
    for secret in stored_resources(known.look.database, Secret):
        yield f"secret {secret.name!r} of project {secret.project_id}", secret.project_id, secret.body.sealed
    for image in stored_resources(known.look.database, DockerImage):
        if image.body.password_sealed:
            what = f"the password of image {image.name!r} of project {image.project_id}"
            yield what, image.project_id, image.body.password_sealed


def _opens(box: SecretBox, project_id: str, sealed: str) -> bool:
    try:
        box.open(project_id, sealed)
    except CorruptedError:
        return False
    return True


def _closing(path: Path, bits: int) -> Callable[[], None]:
    return lambda: path.chmod(path.stat().st_mode & ~bits)
