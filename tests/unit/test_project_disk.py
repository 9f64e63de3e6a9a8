"""The disk of a project: what goes onto it and off it, and that nothing gets out of it by its path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobsphere.blob.incoming import open_draft
from jobsphere.blob.project_disk import ProjectDisk, disks_in, remove_disks
from jobsphere.domain.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)


@pytest.fixture
def disk(tmp_path: Path) -> ProjectDisk:
    return ProjectDisk(tmp_path / "data", "p1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with two files, one of them a program."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("aa")
    (folder / "sub" / "run.sh").write_text("run")
    (folder / "sub" / "run.sh").chmod(0o700)
    return folder


def paths(disk: ProjectDisk, path: str = "") -> list[tuple[str, int]]:
    return [(entry.path, entry.size_bytes) for entry in disk.list(path)]


def test_a_file_goes_under_a_name_or_into_a_folder(disk: ProjectDisk, source: Path) -> None:
    file = source / "a.txt"
    for path in ("", "b.txt", "new/", "new/c.txt", "/deep/er/./d.txt"):
        assert [e.size_bytes for e in disk.put(file, path)] == [2]
    assert paths(disk) == [("a.txt", 2), ("b.txt", 2), ("deep", 2), ("new", 4)]
    assert paths(disk, "new") == [("new/a.txt", 2), ("new/c.txt", 2)]
    assert paths(disk, "/deep/er/d.txt") == [("deep/er/d.txt", 2)]


def test_a_folder_goes_and_comes_with_all_that_is_in_it(disk: ProjectDisk, source: Path, tmp_path: Path) -> None:
    assert {e.path for e in disk.put(source)} == {"model/a.txt", "model/sub/run.sh"}
    (source / "a.txt").write_text("newer")
    disk.put(source)
    assert paths(disk, "model") == [("model/a.txt", 5), ("model/sub", 3)]
    assert [p.relative_to(tmp_path) for p in disk.get("model", tmp_path / "back")] == [
        Path("back/a.txt"),
        Path("back/sub/run.sh"),
    ]
    assert (tmp_path / "back" / "a.txt").read_text() == "newer"
    assert os.access(tmp_path / "back" / "sub" / "run.sh", os.X_OK)
    (tmp_path / "there").mkdir()
    disk.get("model/a.txt", tmp_path / "there")
    assert (tmp_path / "there" / "a.txt").read_text() == "newer"


def test_others_users_can_read_it_and_nobody_finds_it_by_its_parents(disk: ProjectDisk, source: Path) -> None:
    disk.put(source)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in disk.folder().rglob("*")}
    assert modes == {"model": "0o755", "a.txt": "0o644", "sub": "0o755", "run.sh": "0o755"}
    assert oct(disk.folder().parent.stat().st_mode & 0o777) == "0o700"


def test_a_reader_goes_on_with_the_file_that_is_replaced(disk: ProjectDisk, source: Path) -> None:
    disk.put(source / "a.txt")
    with (disk.folder() / "a.txt").open() as reader:
        (source / "a.txt").write_text("newer")
        disk.put(source / "a.txt")
        assert reader.read() == "aa"


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "a/..", "x\0y", "/../etc/passwd"])
def test_a_path_that_leads_out_is_refused(disk: ProjectDisk, source: Path, tmp_path: Path, path: str) -> None:
    disk.put(source, "a")
    for call in (
        lambda: disk.list(path),
        lambda: disk.put(source / "a.txt", path),
        lambda: disk.get(path, tmp_path / "x"),
        lambda: disk.remove(path, recursive=True),
    ):
        with pytest.raises(InvalidArgumentError, match="leads out of the project's disk"):
            call()
    assert not (disk.folder().parent / "x").exists()


def test_a_link_leads_nowhere(disk: ProjectDisk, source: Path, tmp_path: Path) -> None:
    (disk.folder() / "out").symlink_to(tmp_path)
    for path in ("out", "out/model"):
        with pytest.raises(InvalidArgumentError, match="by a link"):
            disk.put(source, path)
        with pytest.raises(InvalidArgumentError, match="by a link"):
            disk.remove(path, recursive=True)
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidArgumentError, match="link is neither a file nor a folder; leave it out"):
        disk.put(source)
    assert paths(disk) == [("out", len(str(tmp_path)))]


def test_removing(disk: ProjectDisk, source: Path) -> None:
    disk.put(source)
    with pytest.raises(FailedPreconditionError, match=r"model is a folder; remove it .* by --recursive"):
        disk.remove("model/", recursive=False)
    assert disk.remove("model/a.txt", recursive=False).size_bytes == 2
    assert disk.remove("model", recursive=True).size_bytes == 3
    assert paths(disk) == []
    with pytest.raises(InvalidArgumentError, match="the whole disk"):
        disk.remove("/", recursive=True)
    for call in (lambda: disk.remove("model", recursive=True), lambda: disk.list("x"), lambda: disk.put(source / "x")):
        with pytest.raises(NotFoundError):
            call()


def test_what_is_in_the_way_is_named_and_nothing_half_made_is_left(
    disk: ProjectDisk, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put(source / "a.txt")
    with pytest.raises(FailedPreconditionError, match=r"a\.txt.* is in the way"):
        disk.put(source / "a.txt", "a.txt/b")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceExhaustedError, match="No space left on device"):
        disk.put(source)
    assert [p.name for p in (disk.folder() / "model").iterdir()] == []


def test_the_disks_of_projects_that_are_gone_go(disk: ProjectDisk, source: Path, tmp_path: Path) -> None:
    other = ProjectDisk(tmp_path / "data", "p2")
    for one in (disk, other):
        one.put(source)
    assert disks_in(tmp_path / "data") == ["p1", "p2"]
    remove_disks(tmp_path / "data", {"p2", "p3"})
    assert {p.name for p in disk.folder().parent.iterdir()} == {".incoming", "p1"}
    assert paths(disk) == [("model", 5)]
    assert disks_in(tmp_path / "nowhere") == []


def test_the_half_of_a_killed_put_is_on_no_disk_and_goes(disk: ProjectDisk, source: Path, tmp_path: Path) -> None:
    disk.put(source)
    drafts = tmp_path / "data" / "disks" / ".incoming"
    for later in (lambda: disk.put(source), lambda: remove_disks(tmp_path / "data", ())):
        (drafts / ".of-a-killed-one").write_text("half")
        under_way = os.fdopen(open_draft(drafts / ".under-way"), "wb")
        later()
        assert os.listdir(drafts) == [".under-way"]
        under_way.close()
        (drafts / ".under-way").unlink()
