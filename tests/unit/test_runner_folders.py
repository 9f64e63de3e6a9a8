"""Members of a job's folders, opened as they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsphere.runner.archive import remove_tree
from jobsphere.runner.folders import JobFolders, UnreachableError

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "plan.json").write_text("secret")
    return tmp_path


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("links", "location", "why"),
    [
        ({}, "plan.json", "leads out"),
        ({}, "work/../plan.json", "leads out"),
        ({}, "work/../../x", "leads out"),
        ({}, "", "all the job's folders"),
        ({"a": "../plan.json"}, "work/a", "leads out"),
        ({"a": "/job/plan.json"}, "work/a", "leads out"),
        ({"a": "/jobs/work"}, "work/a", "leads out"),
        ({"a": "b", "b": "/job/work/c", "c": "../logs"}, "work/a", "leads out"),
        ({"a": "a"}, "work/a", "each other"),
        ({"a": "/job/work/never"}, "work/a", "to nothing"),
        ({"a": "."}, "work" + "/a" * 41, "each other"),
        ({}, "work" + "/x" * 250, "deep"),
    ],
)
def test_what_is_not_in_the_jobs_folders_is_not_opened(
    root: Path, links: dict[str, str], location: str, why: str
) -> None:
    (root / "work" / "/".join("x" * 230)).mkdir(parents=True)
    for name, target in links.items():
        (root / "work" / name).symlink_to(target)
    before = open_files()
    with JobFolders(str(root), {"/job": ""}) as folders, pytest.raises(UnreachableError, match=why):
        folders.open(location)

    assert open_files() == before


def test_a_link_may_go_all_ways_inside(root: Path) -> None:
    (root / "outputs" / "0").mkdir(parents=True)
    (root / "outputs" / "0" / "file").write_text("here")
    (root / "work" / "a").symlink_to("../outputs/0/../0/./file")
    (root / "work" / "b").symlink_to("/job/work/a")
    before = open_files()
    with JobFolders(str(root), {"/job": ""}) as folders, folders.open("work/b") as member:
        assert member.names == ("outputs", "0", "file")
        assert Path(member.path).read_text() == "here"

    assert open_files() == before


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A job's root that belongs to a user without rights, where that user can reach it."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    place = Path(tempfile.mkdtemp(prefix="js-folders-"))
    os.chown(place, NOBODY, NOBODY)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_a_server_without_rights_reads_and_removes_what_a_program_took_its_own_from(of_nobody: Path) -> None:
    if pid := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert not (of_nobody / "work").exists()
        return
    code = 1
    try:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        (of_nobody / "work" / "a" / "b").mkdir(parents=True)
        (of_nobody / "work" / "a" / "b" / "file").write_text("1")
        for path in ("work/a/b/file", "work/a/b", "work/a"):
            (of_nobody / path).chmod(0)
        with JobFolders(str(of_nobody), {}) as folders:
            with folders.open("work/a/b/file") as member, os.fdopen(member.open()) as file:
                assert file.read() == "1"
            with folders.open("work/a") as member:
                assert member.member_names() == ["b"]
        for path in ("work/a/b", "work/a"):
            (of_nobody / path).chmod(0)
        remove_tree(str(of_nobody / "work"))
        code = 0
    finally:
        os._exit(code)
