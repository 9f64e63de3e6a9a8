"""Backups of a data directory that no server has open, and what is wrong with some of them."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from data_dirs import blob, fill
from tests.unit.world import PROJECT

from jobsphere.backup import layout, making
from jobsphere.backup.making import Wanted, make_backup
from jobsphere.backup.restoring import check_backup, restore
from jobsphere.domain.errors import (
    AlreadyExistsError,
    CorruptedError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)


def quietly(_: int) -> None:
    pass


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    await fill(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def backup(data: Path) -> Path:
    target = data.with_name("backup")
    made = make_backup(data, target, Wanted(), quietly, quietly)
    assert made.problems == ()
    return target


def test_a_backup_is_checked_by_plain_tools_too(backup: Path) -> None:
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=backup, check=False).returncode == 0
    manifest = check_backup(backup, quietly, quietly)
    assert (manifest.jobs, manifest.under_way, manifest.keys) == (3, 1, False)


def test_no_key_is_in_it_unless_sealed(data: Path, backup: Path) -> None:
    assert not (backup / "data" / "key").exists()
    sealed = data.with_name("sealed")
    make_backup(data, sealed, Wanted(passphrase="long enough it is"), quietly, quietly)
    assert not [path for path in sealed.rglob("*") if path.is_file() and b"k" * 32 in path.read_bytes()]
    with pytest.raises(PermissionDeniedError):
        asyncio.run(restore(sealed, data.with_name("new"), "another one, no", quietly, quietly))
    assert not data.with_name("new").exists()
    asyncio.run(restore(sealed, data.with_name("new"), "long enough it is", quietly, quietly))
    assert (data.with_name("new") / "key").read_bytes() == b"k" * 32
    assert (data.with_name("new") / "key").stat().st_mode & 0o777 == 0o600


def test_a_short_passphrase_is_none(data: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="12 characters"):
        make_backup(data, data.with_name("short"), Wanted(passphrase="short"), quietly, quietly)
    assert sorted(path.name for path in data.parent.iterdir()) == ["data"]


@pytest.mark.parametrize("place", ["jobsphere.db", "blob", "logs"])
def test_what_changed_in_a_backup_is_named_and_nothing_restored(data: Path, backup: Path, place: str) -> None:
    path = {
        "jobsphere.db": backup / "data" / "jobsphere.db",
        "blob": blob(backup / "data", b"two"),
        "logs": next(backup.rglob("logs")),
    }[place]
    with path.open("r+b") as file:
        file.write(b"X")
    for attempt in (
        lambda: check_backup(backup, quietly, quietly),
        lambda: asyncio.run(restore(backup, data.with_name("new"), None, quietly, quietly)),
    ):
        with pytest.raises(CorruptedError, match=path.name):
            attempt()
    assert not data.with_name("new").exists()
    assert not data.with_name(".new.restoring").exists()


def test_a_broken_off_backup_is_none(backup: Path) -> None:
    (backup / "manifest.json").unlink()
    with pytest.raises(InvalidArgumentError, match="no complete backup"):
        check_backup(backup, quietly, quietly)


def test_where_a_backup_may_go(data: Path, backup: Path) -> None:
    with pytest.raises(AlreadyExistsError):
        make_backup(data, backup, Wanted(), quietly, quietly)
    with pytest.raises(InvalidArgumentError, match="data directory itself"):
        make_backup(data, data / "backups" / "one", Wanted(), quietly, quietly)
    with pytest.raises(AlreadyExistsError, match="not empty"):
        asyncio.run(restore(backup, data, None, quietly, quietly))


def test_hard_links_are_the_same_file(data: Path) -> None:
    target = data.with_name("linked")
    make_backup(data, target, Wanted(link=True), quietly, quietly)
    assert blob(target / "data", b"one").samefile(blob(data, b"one"))
    assert not (target / "data" / "jobsphere.db").samefile(data / "jobsphere.db")
    asyncio.run(restore(target, data.with_name("new"), None, quietly, quietly))
    assert not blob(data.with_name("new"), b"one").samefile(blob(data, b"one"))


def test_what_is_lost_or_damaged_is_told_and_the_rest_backed_up(data: Path) -> None:
    blob(data, b"one").unlink()
    blob(data, b"two").write_bytes(b"TWO")
    made = make_backup(data, data.with_name("backup"), Wanted(), quietly, quietly)
    assert ["is not there" in problem for problem in made.problems].count(True) == 1
    assert ["its bytes are others" in problem for problem in made.problems].count(True) == 1
    assert blob(data.with_name("backup") / "data", b"three").read_bytes() == b"three"


def removing(data: Path, how: Callable[[Path], None]) -> Callable[..., object]:
    """What happens right after the first copy of the database."""
    take, times = making.take_snapshot, iter(range(99))

    def taken(database: Path, target: Path) -> object:
        contents = take(database, target)
        if next(times) == 0:
            how(data)
        return contents

    return taken


def test_what_is_removed_meanwhile_is_gone_from_the_backup_too(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(data: Path) -> None:
        with closing(sqlite3.connect(data / "jobsphere.db")) as connection, connection:
            connection.execute("DELETE FROM jobs WHERE id LIKE '%0'")
            connection.execute("DELETE FROM job_blobs WHERE job_id LIKE '%0'")
        blob(data, b"one").unlink()
        shutil.rmtree(data / "ended" / f"j{0:019}-1")

    monkeypatch.setattr(making, "take_snapshot", removing(data, delete))
    made = make_backup(data, data.with_name("backup"), Wanted(), quietly, quietly)
    assert (made.problems, made.jobs) == ((), 2)


def test_a_blob_that_is_looked_at_for_removal_is_in_the_backup(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hide(data: Path) -> None:
        trash = data / "blobs" / ".trash" / PROJECT
        trash.mkdir(parents=True)
        blob(data, b"one").rename(trash / blob(data, b"one").name)

    monkeypatch.setattr(making, "take_snapshot", removing(data, hide))
    made = make_backup(data, data.with_name("backup"), Wanted(), quietly, quietly)
    assert made.problems == ()
    assert blob(data.with_name("backup") / "data", b"one").read_bytes() == b"one"


def test_an_attempt_that_is_tidied_up_meanwhile_is_in_the_backup(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"j{1:019}-1"
    (data / "ended" / name).rename(data / "attempts" / name)
    copy = making.copy_file

    def tidied(source: Path, *rest: object, **more: object) -> str | None:
        if source == data / "attempts" / name / "logs":
            source.parent.rename(data / "ended" / name)
        return copy(source, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "copy_file", tidied)
    make_backup(data, data.with_name("backup"), Wanted(), quietly, quietly)
    assert (data.with_name("backup") / "data" / "ended" / name / "logs").read_bytes() == b"log of two"


def set_revision(database: Path, revision: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_newer_database_is_refused(data: Path, backup: Path) -> None:
    set_revision(data / "jobsphere.db", "9999")
    with pytest.raises(FailedPreconditionError, match="newer jobsphere"):
        make_backup(data, data.with_name("other"), Wanted(), quietly, quietly)
    manifest = json.loads((backup / layout.MANIFEST).read_text())
    layout.write_manifest(backup, replace(layout.read_manifest(backup), format=2))
    assert manifest["format"] == 1
    with pytest.raises(FailedPreconditionError, match="newer jobsphere"):
        check_backup(backup, quietly, quietly)


@pytest.mark.parametrize("name", ["plain", "a\nb", "back\\slash", "\udcff", "\r\\n"])
def test_any_name_goes_through_the_list_of_files(name: str) -> None:
    assert layout.load_sums(layout.dump_sums({name: "a" * 64, "other": "b" * 64})) == {
        name: "a" * 64,
        "other": "b" * 64,
    }
