"""Folders in and out of ZIP archives: everything that is a folder or a file, and nothing that leads elsewhere."""

import contextlib
import os
import stat
import zipfile

import pytest

from jobsphere.runner import archive
from jobsphere.runner.archive import ArchiveError, FolderPacker, remove_tree, unpack
from jobsphere.runner.folders import JobFolders


def nothing():
    pass


def pack(root, location, target, limit=1 << 30):
    """Pack a folder below the job's root as ``o``: what was left out."""
    with JobFolders(str(root), {}) as folders, folders.open(location) as folder:
        return FolderPacker(folders, limit).pack(folder, "o", str(target))


def make_zip(path, entries):
    with zipfile.ZipFile(path, "w") as target:
        for name, mode, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            target.writestr(info, data)
    return str(path)


@pytest.fixture
def parent(tmp_path):
    folder = tmp_path / "root" / "work"
    folder.mkdir(parents=True)
    return folder


def test_files_keep_their_content_and_executable_bits(tmp_path, parent):
    entries = [("o/", 0o40755, b""), ("o/run.sh", 0o100755, b"#!/bin/sh\n"), ("o/deep/er/x", 0o100644, b"x")]
    assert unpack(make_zip(tmp_path / "z", entries), str(parent), nothing) == 3
    assert (parent / "o/deep/er/x").read_bytes() == b"x"
    assert os.access(parent / "o/run.sh", os.X_OK)
    assert (parent / "o/deep/er/x").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../x", 0o100644),
        ("o/../../x", 0o100644),
        ("/tmp/jobsphere-test-x", 0o100644),
        ("o/link", stat.S_IFLNK | 0o777),
        ("o/device", stat.S_IFCHR | 0o600),
        ("o/fifo", stat.S_IFIFO | 0o600),
    ],
)
def test_an_entry_that_leads_elsewhere_is_refused(tmp_path, parent, name, mode):
    before = sorted(tmp_path.rglob("*"))
    packed = make_zip(tmp_path / "z", [(name, mode, b"/etc")])
    with pytest.raises(ArchiveError, match=r"leave|neither"):
        unpack(packed, str(parent), nothing)
    assert sorted(set(tmp_path.rglob("*")) - {tmp_path / "z"}) == before


@pytest.mark.parametrize("names", [("o", "o/x"), ("o/x", "o"), ("o/x", "o/x")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_in_each_others_way_are_named(tmp_path, parent, names):
    packed = make_zip(tmp_path / "z", [(n, 0o100644, b"1") for n in names])
    with pytest.raises(ArchiveError, match=repr(names[1])):
        unpack(packed, str(parent), nothing)


def test_what_would_unpack_to_too_much_is_refused_before_anything_is_written(tmp_path, parent, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1000)
    packed = make_zip(tmp_path / "z", [("o/a", 0o100644, b"0" * 600), ("o/b", 0o100644, b"0" * 600)])
    with pytest.raises(ArchiveError, match="would unpack to"):
        unpack(packed, str(parent), nothing)
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04" + b"0" * 100])
def test_what_is_no_zip_is_refused(tmp_path, parent, data):
    (tmp_path / "z").write_bytes(data)
    with pytest.raises(ArchiveError, match="not a ZIP"):
        unpack(str(tmp_path / "z"), str(parent), nothing)


def test_a_packed_folder_unpacks_to_the_same(tmp_path, parent):
    (parent / "o/empty").mkdir(parents=True)
    (parent / "o/sub").mkdir()
    (parent / "o/sub/run").write_bytes(b"run")
    (parent / "o/sub/run").chmod(0o755)
    (parent / "data").write_bytes(b"shared")
    (parent / "o/inside").symlink_to("../data")
    assert pack(tmp_path / "root", "work/o", tmp_path / "z") == []
    other = tmp_path / "other"
    unpack(str(tmp_path / "z"), str(other), nothing)
    assert sorted(str(p.relative_to(other)) for p in other.rglob("*")) == [
        "o", "o/empty", "o/inside", "o/sub", "o/sub/run",
    ]  # fmt: skip
    assert (other / "o/inside").read_bytes() == b"shared"
    assert os.access(other / "o/sub/run", os.X_OK)


def test_equal_folders_give_equal_archives(tmp_path, parent):
    for name, when in (("a", 1_000_000_000), ("b", 1_700_000_000)):
        (parent / name).mkdir()
        for file in ("2", "1") if name == "a" else ("1", "2"):
            (parent / name / file).write_text(file)
            os.utime(parent / name / file, (when, when))
        pack(tmp_path / "root", f"work/{name}", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_cannot_travel_is_left_out_and_named(tmp_path, parent):
    folder = parent / "o"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "fifo")
    problems = pack(tmp_path / "root", "work/o", tmp_path / "z")
    assert zipfile.ZipFile(tmp_path / "z").namelist() == ["o/", "o/kept"]
    assert [p.split(":")[0] for p in problems] == ["'o/broken'", "'o/fifo'", "'o/loop'", "'o/out'"]


def test_an_archive_stops_at_its_limit(tmp_path, parent):
    (parent / "big").write_bytes(os.urandom(3 << 20))
    with pytest.raises(ArchiveError, match=r"1\.0 MiB"):
        pack(tmp_path / "root", "work", tmp_path / "z", 1 << 20)


def test_more_files_than_anybody_could_unpack_are_refused(tmp_path, parent, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    for name in "abc":
        (parent / name).touch()
    with pytest.raises(ArchiveError, match="more than 3 files"):
        pack(tmp_path / "root", "work", tmp_path / "z")


def test_a_folder_without_permissions_can_be_removed(tmp_path):
    locked = tmp_path / "a/b/c"
    locked.mkdir(parents=True)
    (locked / "x").write_text("x")
    locked.chmod(0)
    locked.parent.chmod(0o500)
    remove_tree(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_a_link_is_removed_and_not_what_it_points_at(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").touch()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "link").symlink_to("../../kept")
    for name in ("link", "a", "never"):
        remove_tree(str(tmp_path / name))
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "x").exists()


def test_folders_of_one_job_share_what_may_be_packed(tmp_path, parent, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1000)
    for name, size in (("a", 600), ("b", 600), ("c", 400)):
        (parent / name).mkdir()
        (parent / name / "x").write_bytes(b"0" * size)
    with JobFolders(str(tmp_path / "root"), {}) as folders:
        packer = FolderPacker(folders, 1 << 30)
        for name in "abc":
            with folders.open(f"work/{name}") as folder, contextlib.suppress(ArchiveError):
                packer.pack(folder, name, str(tmp_path / name))
    assert [len(zipfile.ZipFile(tmp_path / name).namelist()) for name in "abc"] == [2, 1, 2]
