"""Inputs that were checked not long ago: they are not hashed again, and what was written to since is found."""

import errno
import io
import os
import zipfile
from pathlib import Path

import pytest
from supervisors import open_node

from jobsphere.domain.attempt import EndReason
from jobsphere.runner import checked, staging


@pytest.fixture
async def node(tmp_path):
    async with open_node(tmp_path) as node:
        yield node


def stored(node, placement):
    return node.data / "blobs/p1" / placement.file.sha256[:2] / placement.file.sha256


def zipped() -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/b", "b")
        return file.getvalue()


def spoil(path: Path) -> None:
    """Change bytes as a disk does that rots: nobody has written."""
    status = path.stat()
    path.write_bytes(b"wrong"[: status.st_size])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_what_was_checked_is_copied_and_not_read_for_its_hash_again(node):
    placement = node.input(b"right", "work/a")
    await node.run("cat a", inputs=(placement,))
    spoil(stored(node, placement))
    await node.run("cat a", "a2", inputs=(placement,))
    assert (await node.text(), await node.text(name="a2")) == ("right", "wrong")


async def test_the_check_holds_for_a_day(node):
    placement = node.input(b"right", "work/a")
    await node.run("cat a", inputs=(placement,))
    path = stored(node, placement)
    spoil(path)
    *what, at = os.getxattr(path, checked.ATTRIBUTE).decode().split()
    os.setxattr(path, checked.ATTRIBUTE, " ".join([*what, str(int(at) - checked.HOLDS_S)]).encode())
    assert (await node.run("cat a", "a2", inputs=(placement,))).ended.reason is EndReason.FAILED


@pytest.mark.parametrize("unpack", [False, True])
async def test_what_was_written_to_since_is_found(node, unpack):
    content = zipped() if unpack else b"right"
    placement = node.input(content, "work/a", unpack=unpack)
    assert (await node.run("true", inputs=(placement,))).ended.code == 0
    assert os.getxattr(stored(node, placement), checked.ATTRIBUTE)
    stored(node, placement).write_bytes(content[:-1] + b"x")
    seen = await node.run("true", "a2", inputs=(placement,))
    assert "is corrupted" in seen.ended.message


def test_an_attribute_that_is_none_of_ours_counts_for_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"right")
    with path.open("rb") as file:
        for value in (b"", b"a b c d", b"\xff", b"1 2 3 nan"):
            os.setxattr(path, checked.ATTRIBUTE, value)
            assert not checked.is_checked(file.fileno(), "1")
        checked.remember(file.fileno(), "1", checked.looks(file.fileno()))
        assert checked.is_checked(file.fileno(), "1")
        assert not checked.is_checked(file.fileno(), "2")


class Unhurried:
    """Nobody asks for a stop."""

    def check(self) -> None:
        pass


@pytest.mark.parametrize("kernel", ["all", "none", "some", "full"])
def test_a_copy_is_whole_whatever_the_kernel_does_of_it(tmp_path, monkeypatch, kernel):
    data = os.urandom(5_000_001)
    (tmp_path / "from").write_bytes(data)
    copy, calls = os.copy_file_range, 0

    def ranges(source, target, count):
        nonlocal calls
        calls += 1
        if kernel == "full":
            raise OSError(errno.ENOSPC, "full")
        if kernel == "none" or (kernel == "some" and calls > 2):
            raise OSError(errno.EXDEV, "another file system")
        return copy(source, target, min(count, 1_000_000))

    monkeypatch.setattr(os, "copy_file_range", ranges)
    with (tmp_path / "from").open("rb", 0) as reader, (tmp_path / "to").open("wb", 0) as writer:
        if kernel == "full":
            with pytest.raises(OSError, match="full"):
                staging._copy_all(Unhurried(), reader, writer)
            return
        staging._copy_all(Unhurried(), reader, writer)
    assert (tmp_path / "to").read_bytes() == data
    assert calls == {"all": 7, "none": 1, "some": 3}[kernel]
