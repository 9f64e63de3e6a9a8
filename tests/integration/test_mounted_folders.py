"""What removes a job's files never removes what is mounted among them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobsphere.runner.archive import remove_tree
from jobsphere.runner.mounts import end_mounts, is_mounted, mounts_folder, unmount

Mounting = Callable[[Path], Path]


@pytest.fixture
def mounting() -> Iterator[Mounting]:
    """Mounts a disk of its own with a file in it."""
    mounted: list[Path] = []

    def mount(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "t", str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        (folder / "kept").write_text("kept")
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("below", [".", "one", "one/two/three"])
def test_a_tree_with_a_mount_in_it_is_not_removed_across_it(tmp_path: Path, mounting: Mounting, below: str) -> None:
    top = tmp_path / "top"
    folder = mounting(top / below)
    with pytest.raises(OSError, match=r"busy|mounted"):
        remove_tree(str(top))
    found = list(tmp_path.rglob("kept"))
    assert [path.read_text() for path in found] == ["kept"]
    subprocess.run(["umount", "-l", str(found[0].parent)], check=True)
    remove_tree(str(top))
    assert not folder.exists()


def test_what_is_in_use_goes_out_of_sight(tmp_path: Path, mounting: Mounting) -> None:
    folder = mounting(tmp_path / "a folder")
    assert is_mounted(str(folder))
    with (folder / "kept").open():
        assert unmount(str(folder), 0) is False
    assert not is_mounted(str(folder))
    assert unmount(str(folder), 0) is True


def test_all_mounts_of_an_attempt_are_ended(tmp_path: Path, mounting: Mounting) -> None:
    run = tmp_path / "attempts" / "a1"
    run.mkdir(parents=True)
    top = Path(mounts_folder(str(run)))
    assert top == tmp_path / "mounts" / "a1"
    mounting(top / "b1")
    (top / "b2").mkdir()
    end_mounts(str(run))
    assert not top.exists()
    end_mounts(str(run))
