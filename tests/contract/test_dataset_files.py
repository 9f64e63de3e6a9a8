"""What the content of datasets promises: whole or not there, unchanged after that, and free again in the end."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsphere.blob.datasets import LocalDatasets
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from jobsphere.domain.resource_ports import Content

P = "p1"
OTHER = Path("/dev/shm")


@pytest.fixture
def files(tmp_path: Path) -> LocalDatasets:
    return LocalDatasets(tmp_path / "data" / "datasets")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "a.txt").write_text("aa")
    (folder / "sub" / "run.sh").write_text("run")
    (folder / "sub" / "run.sh").chmod(0o700)
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else "" for p in folder.rglob("*")}


ALL = {"a.txt": "aa", "sub": "", "sub/empty": "", "sub/run.sh": "run"}


async def test_of_one_folder_it_is_what_is_in_it(files: LocalDatasets, source: Path) -> None:
    assert await files.take(P, "d1", [source]) == Content(5, 2)
    assert tree(files.folder(P, "d1")) == ALL


async def test_several_sources_keep_their_names(files: LocalDatasets, source: Path) -> None:
    await files.take(P, "d1", [source / "a.txt", source / "sub"])
    assert tree(files.folder(P, "d1")) == ALL
    assert await files.take(P, "d2", [source / "a.txt"]) == Content(2, 1)
    with pytest.raises(InvalidArgumentError, match=r"'a\.txt' is there twice"):
        await files.take(P, "d3", [source / "a.txt", source / "a.txt"])


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "X.TGZ"])
async def test_of_one_archive_it_is_what_is_in_it(
    files: LocalDatasets, source: Path, tmp_path: Path, name: str
) -> None:
    archive = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(source.rglob("*")):
                zipped.write(path, path.relative_to(source))
    else:
        with tarfile.open(archive, "w:gz" if "gz" in name.lower() else "w") as tar:
            tar.add(source, ".")
    assert await files.take(P, "d1", [archive]) == Content(5, 2)
    assert tree(files.folder(P, "d1")) == ALL
    assert os.access(files.folder(P, "d1") / "sub" / "run.sh", os.X_OK)


def tar_of(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry, io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("a/" * 300 + "x", tarfile.REGTYPE, "more than 200 folders"),
        ("../x", tarfile.REGTYPE, "would leave the dataset"),
        ("/x", tarfile.REGTYPE, "would leave the dataset"),
        ("x", tarfile.SYMTYPE, "neither a file nor a folder"),
        ("x", tarfile.LNKTYPE, "neither a file nor a folder"),
        ("x", tarfile.CHRTYPE, "neither a file nor a folder"),
    ],
)
async def test_an_archive_that_reaches_out_is_refused(
    files: LocalDatasets, tmp_path: Path, name: str, kind: bytes, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        await files.take(P, "d1", [tar_of(tmp_path / "x.tar", name, kind)])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (0o120777 if kind != tarfile.REGTYPE else 0o644) << 16
        zipped.writestr(entry, "")
    with pytest.raises(InvalidArgumentError, match=words):
        await files.take(P, "d1", [tmp_path / "x.zip"])
    assert list(files.folder(P, "d1").parent.iterdir()) == []


async def test_what_cannot_be_leaves_nothing(
    files: LocalDatasets, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.zip").write_text("no zip")
    (tmp_path / "bad.tgz").write_text("no tar")
    for bad in ("bad.zip", "bad.tgz"):
        with pytest.raises(InvalidArgumentError, match="that can be unpacked"):
            await files.take(P, "d1", [tmp_path / bad])
    with pytest.raises(NotFoundError):
        await files.take(P, "d1", [tmp_path / "gone"])
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidArgumentError, match="link is neither"):
        await files.take(P, "d1", [source])
    (source / "link").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ResourceExhaustedError, match="No space left"):
            await files.take(P, "d1", [source])
    assert list(files.folder(P, "d1").parent.iterdir()) == []


async def test_nobody_may_write_and_everybody_may_read(files: LocalDatasets, source: Path) -> None:
    await files.take(P, "d1", [source])
    content = files.folder(P, "d1")
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in [content, *content.rglob("*")]}
    assert modes == {"d1": "0o555", "a.txt": "0o444", "sub": "0o555", "empty": "0o555", "run.sh": "0o555"}
    await files.remove(P, "d1")
    await files.remove(P, "d1")
    assert list(content.parent.iterdir()) == []


async def test_a_folder_is_taken_over_once_however_often_it_is_asked(files: LocalDatasets, source: Path) -> None:
    (source / "sub").chmod(0o000)
    for _ in range(2):
        await files.adopt(P, "d1", source)
    assert not source.exists()
    assert tree(files.folder(P, "d1")) == ALL
    with pytest.raises(NotFoundError, match="is gone from its node"):
        await files.adopt(P, "d2", source)


async def kept() -> set[str]:
    return {"kept"}


async def test_a_sweep_frees_what_nobody_wants_or_is_making(files: LocalDatasets, source: Path) -> None:
    for name in ("kept", "left"):
        await files.take(P, name, [source])
    project = files.folder(P, "kept").parent
    for name in (".new-x", ".removed-y"):
        (project / name / "sub").mkdir(parents=True)
    async with files.making(P):
        assert not await files.sweep(P, kept)
    assert sorted(p.name for p in project.iterdir()) == [".new-x", ".removed-y", "kept", "left"]
    assert await files.sweep(P, kept)
    assert [p.name for p in project.iterdir()] == ["kept"]
    assert await files.sweep("p2", kept)


async def test_what_is_put_in_place_during_a_sweep_stays(files: LocalDatasets, source: Path) -> None:
    await files.take(P, "left", [source])
    making: asyncio.Task[object] | None = None

    async def wanted() -> set[str]:
        nonlocal making
        making = asyncio.create_task(files.adopt(P, "new", source))
        await asyncio.sleep(0)
        return set()

    assert await files.sweep(P, wanted)
    assert making
    await making
    assert os.listdir(files.folder(P, "new").parent) == ["new"]


async def test_where_locks_may_not_reach_each_other_what_is_young_stays(tmp_path: Path, source: Path) -> None:
    files = LocalDatasets(tmp_path / "datasets", 3600)
    for name in ("old", "young"):
        await files.take(P, name, [source])
    project = files.folder(P, "old").parent
    os.utime(project / "old", (0, 0))
    assert await files.sweep(P, kept)
    assert os.listdir(project) == ["young"]


async def test_a_project_that_is_gone_leaves_nothing(files: LocalDatasets, source: Path) -> None:
    await files.take(P, "d1", [source])
    async with files.making(P):
        pass
    for _ in range(2):
        await files.drop(P)
    assert os.listdir(files.folder(P, "d1").parent.parent) == []
    assert await files.projects() == []


async def test_a_disk_without_room_is_told_as_such(
    files: LocalDatasets, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("jobsphere.blob.datasets.open_lock", full)
    with pytest.raises(ResourceExhaustedError, match="No space left"):
        await files.adopt(P, "d1", source)
    assert source.exists()


async def test_the_last_use_is_noted(files: LocalDatasets, source: Path) -> None:
    await files.take(P, "d1", [source])
    os.utime(files.folder(P, "d1"), (0, 0))
    assert await files.last_used(P, "d1") == datetime.fromtimestamp(0, UTC)
    await files.used(P, "d1")
    now = await files.last_used(P, "d1")
    assert now
    assert abs(now.timestamp() - time.time()) < 3600
    await files.used(P, "gone")
    assert await files.last_used(P, "gone") is None


async def test_a_folder_is_told_from_another(files: LocalDatasets, source: Path) -> None:
    await files.take(P, "d1", [source])
    assert await files.holds(P, "d1", source)
    assert await files.holds(P, "d1", files.folder(P, "d1"))
    assert not await files.holds(P, "d2", source)
    (source / "a.txt").write_text("bb")
    assert not await files.holds(P, "d1", source)
    (source / "a.txt").write_text("aa")
    (source / "a.txt").chmod(0o755)
    assert not await files.holds(P, "d1", source)
    (source / "a.txt").chmod(0o600)
    assert await files.holds(P, "d1", source)
    (source / "more").mkdir()
    assert not await files.holds(P, "d1", source)
    with pytest.raises(NotFoundError, match="there is no folder"):
        await files.holds(P, "d1", source / "gone")
    (source / "more").rmdir()
    (source / "link").symlink_to("a.txt")
    with pytest.raises(InvalidArgumentError, match="neither a file nor a folder"):
        await files.holds(P, "d1", source)


async def test_a_folder_of_another_file_system_is_brought_whole(files: LocalDatasets, source: Path) -> None:
    if not OTHER.is_dir() or OTHER.stat().st_dev == source.stat().st_dev:
        pytest.skip("this host has one file system")
    with tempfile.TemporaryDirectory(dir=OTHER) as folder:
        made = Path(shutil.copytree(source, Path(folder) / "made"))
        await files.adopt(P, "d1", made)
        assert tree(files.folder(P, "d1")) == ALL
        await files.adopt(P, "d1", made)
    assert [path.name for path in files.folder(P, "d1").parent.iterdir()] == ["d1"]
    assert stat.S_IMODE((files.folder(P, "d1") / "sub" / "run.sh").stat().st_mode) == 0o555
