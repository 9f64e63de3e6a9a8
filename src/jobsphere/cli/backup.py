"""``jobsphere backup`` and ``jobsphere restore``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobsphere.cli.options import DataDir, Json, data_dir_of, hidden_value
from jobsphere.domain.errors import CorruptedError, FailedPreconditionError, InvalidArgumentError
from jobsphere.domain.limits import human_size

if TYPE_CHECKING:
    from jobsphere.backup.layout import Manifest

Flag = Parameter(negative="")
_NO_KEYS = (
    "The keys are not in it: keep copies of `key`, `secret.keys` and `tls` of the data directory elsewhere, or use "
    "--with-keys, which seals them under a passphrase."
)
_AFTER_NO_KEYS = (
    "The backup has no keys: put your copies of `key`, `secret.keys` and `tls` into {} before the first start. Without "
    "them the server makes new ones: secrets are to be set again, tokens issued again, and clients need `jobsphere "
    "client-env` again."
)


def backup(
    target: Path,
    /,
    *,
    with_keys: Annotated[bool, Flag] = False,
    passphrase_file: Path | None = None,
    hard_links: Annotated[bool, Flag] = False,
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Back the data directory up into a new folder, while its server runs or not.

    In it are the database, files and logs of jobs, datasets, project disks and settings, as of one moment. Environments
    are not: they are built again. A job that is under way then ends when the backup is restored.

    Parameters
    ----------
    target
        The new folder, on another disk. It appears when the backup is complete.
    with_keys
        Put the keys in as well, sealed under a passphrase that is asked for. Without them no secret can be opened.
    passphrase_file
        The file with the passphrase; `-` reads it from stdin.
    hard_links
        Give files that never change a second name instead of a copy, where the target is on the same file system:
        quick and small, and no help against a broken disk.
    data_dir
        The data directory of the server.
    json_
        Print what was backed up as JSON.
    """
    from jobsphere import config
    from jobsphere.backup.making import Wanted, make_backup
    from jobsphere.store.schema import HEAD
    from jobsphere.wiring import desk
    from jobsphere.wiring.database import require_own_file

    folder = data_dir_of(data_dir)
    require_own_file(
        folder,
        "no backup was made",
        "stop the server, make the database's by pg_dump, and copy the data directory, which has the files",
    )
    settings = config.load({"data_dir": folder})
    if settings.shared != folder:
        raise FailedPreconditionError(
            f"no backup was made: keys, datasets and disks are in {settings.shared} (setting shared_dir); stop the "
            "servers and copy both folders"
        )
    bucket = settings.blobs
    passphrase = _new_passphrase(passphrase_file) if with_keys or passphrase_file else None
    with _progress("Backing up", quiet=json_) as (total, report):
        made = make_backup(folder, target, Wanted(hard_links, passphrase, not bucket), total, report)
    if made.schema == HEAD:
        asyncio.run(desk.change(folder, "jobsphere backup", [("target", target.name)], _nothing))
    _tell(made, f"Backed up to {target}", as_json=json_)
    if not json_:
        print(_keys_of(folder, made), file=sys.stderr)  # noqa: T201
        if bucket:
            print(f"Files of jobs are not in it: they are in {bucket}.", file=sys.stderr)  # noqa: T201
    if made.problems:
        raise CorruptedError("the backup is complete but for what was lost before; see above, and `jobsphere doctor`")


def restore(
    source: Path,
    /,
    *,
    dry_run: Annotated[bool, Flag] = False,
    without_keys: Annotated[bool, Flag] = False,
    passphrase_file: Path | None = None,
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Make a new data directory of a backup, each file checked by its hash.

    Parameters
    ----------
    source
        The folder of the backup.
    dry_run
        Check the backup, and write nothing.
    without_keys
        Leave out the keys that the backup has.
    passphrase_file
        The file with the passphrase of the keys; `-` reads it from stdin. By default it is asked for.
    data_dir
        The new data directory: not there yet, or empty.
    json_
        Print what was restored as JSON.
    """
    from jobsphere.backup.layout import read_manifest
    from jobsphere.backup.restoring import check_backup
    from jobsphere.backup.restoring import restore as restore_all
    from jobsphere.wiring import desk

    if dry_run:
        with _progress("Checking", quiet=json_) as (total, report):
            checked = check_backup(source, total, report)
        _tell(checked, f"{source} is whole", as_json=json_)
        return
    folder = data_dir_of(data_dir)
    sealed = read_manifest(source).keys and not without_keys
    passphrase = hidden_value("Passphrase of the backup's keys", _file(passphrase_file)) if sealed else None
    with _progress("Restoring", quiet=json_) as (total, report):
        done = asyncio.run(restore_all(source, folder, passphrase, total, report))
    asyncio.run(desk.change(folder, "jobsphere restore", [("source", source.name)], _nothing))
    _tell(done.manifest, f"Restored to {folder}", as_json=json_, ended=[job.id for job in done.ended])
    if not json_ and not sealed:
        print(_AFTER_NO_KEYS.format(folder), file=sys.stderr)  # noqa: T201


async def _nothing(*_: object) -> None:
    """The row in the audit log is all that is to be done."""


def _tell(made: Manifest, what: str, *, as_json: bool, ended: list[str] | None = None) -> None:
    if as_json:
        more = {} if ended is None else {"ended_jobs": ended}
        print(json.dumps(asdict(made) | more, indent=2))  # noqa: T201
        return
    print(f"{what}: as of {made.made_at[:19]} UTC, {made.projects} projects, {made.jobs} jobs, "  # noqa: T201
          f"{made.files} files, {human_size(made.bytes)}.")  # fmt: skip
    for problem in made.problems:
        print(f"Not in it: {problem}", file=sys.stderr)  # noqa: T201
    if made.under_way and ended is None:
        print(f"Under way then: {made.under_way} jobs; restored, they are ended with a reason.")  # noqa: T201
    if ended:
        print(f"Jobs that were under way are ended: {', '.join(ended)}.")  # noqa: T201


def _keys_of(data_dir: Path, made: Manifest) -> str:
    """What is to be known about the keys after a backup."""
    from jobsphere import config
    from jobsphere.secretbox import KEY_VARIABLE
    from jobsphere.wiring.parts import keys_of

    keys = keys_of(config.load({"data_dir": data_dir}))
    told = "The keys are in it, sealed: whoever has the passphrase can open all secrets." if made.keys else _NO_KEYS
    if keys.by_variable:
        return f"{told} Those of the variable {KEY_VARIABLE} are not: keep a copy."
    return told if keys.file.parent == data_dir else f"{told} Those of {keys.file} are not: keep a copy."


def _new_passphrase(file: Path | None) -> str:
    first = hidden_value("Passphrase for the keys", _file(file))
    asked = file is None and sys.stdin.isatty()
    if asked and hidden_value("The same again", None) != first:
        raise InvalidArgumentError("the two passphrases are not the same")
    return first


def _file(named: Path | None) -> Path | None:
    if named is not None and str(named) == "-":
        if sys.stdin.isatty():
            raise FailedPreconditionError("--passphrase-file -: nothing comes from stdin")
        return None
    return named


@contextmanager
def _progress(what: str, *, quiet: bool) -> Generator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar on stderr, where somebody looks at it; the two functions tell how much there is, and how much is done."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda n: bar.update(task, total=n), lambda n: bar.advance(task, n)
