"""Archives that ask for more memory or disk than they could fill are refused before they get it."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobsphere import archives
from jobsphere.archives import largest, open_tar, open_zip
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.runner.archive import ArchiveError, unpack

MIB = 1 << 20


def listing(count: int, length: int | None = None) -> bytes:
    """A ZIP of one file that is listed ``count`` times; ``length``: what it says of its list."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a", b"x")
    data = made.getvalue()
    at = data.index(b"PK\x01\x02")
    entry = data[at : data.index(b"PK\x05\x06")]
    entries = entry * count
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, length or len(entries), at, 0)
    return data[:at] + entries + end


def peak_of(act: Callable[[], object], error: type[Exception], match: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(error, match=match):
            act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_list_of_too_many_files_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "z").write_bytes(listing(archives.MAX_ENTRIES + 1))
    peak = peak_of(lambda: unpack(str(tmp_path / "z"), str(tmp_path), lambda: None), ArchiveError, "more than 1000000")
    assert peak < 64 * MIB  # the list itself, and nothing made of it


def test_a_list_that_says_to_be_huge_is_not_read(tmp_path: Path) -> None:
    """Sparse: it costs who sends it nothing."""
    size = 1 << 31
    with (tmp_path / "z").open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0))
    peak = peak_of(lambda: unpack(str(tmp_path / "z"), str(tmp_path), lambda: None), ArchiveError, "2147483648 bytes")
    assert peak < MIB


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_tar_header_that_is_huge_is_not_read(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 30
    with gzip.open(tmp_path / "t.tar.gz", "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        for _ in range(40):
            file.write(bytes(MIB))

    def read() -> None:
        with open_tar(str(tmp_path / "t.tar.gz")) as archive:
            list(archive)

    assert peak_of(read, tarfile.TarError, "1073741824 bytes") < 8 * MIB


@pytest.mark.parametrize("packing", ["", "gz", "bz2", "xz"])
def test_good_archives_are_read_whatever_they_are_called(tmp_path: Path, packing: str) -> None:
    with tarfile.open(tmp_path / "t.tar", f"w:{packing}") as archive:  # type: ignore[call-overload]
        archive.add(__file__, "n" * 200)
    with open_tar(str(tmp_path / "t.tar")) as archive:
        (entry,) = archive
        content = archive.extractfile(entry)
        assert (entry.name, content and content.read()) == ("n" * 200, Path(__file__).read_bytes())
    (tmp_path / "z").write_bytes(listing(3))
    with open_zip(str(tmp_path / "z")) as zip_:
        assert len(zip_.infolist()) == 3


def bomb(folder: Path, kind: str) -> Path:
    """A file of a few bytes that says to be a hundred TiB."""
    if kind == "zip":
        data = bytearray(listing(1))
        at = data.index(b"PK\x01\x02")
        data[at + 24 : at + 28] = struct.pack("<L", 0xFFFFFFFE)
        entry = bytes(data[at : data.index(b"PK\x05\x06")])
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 100, 100, len(entry) * 100, at, 0)
        (folder / "b.zip").write_bytes(data[:at] + entry * 100 + end)
        return folder / "b.zip"
    info = tarfile.TarInfo("x")
    info.size = 100 << 40
    (folder / "b.tar").write_bytes(info.tobuf() + bytes(2048))
    return folder / "b.tar"


@pytest.mark.parametrize("kind", ["zip", "tar"])
async def test_a_bomb_makes_no_dataset(tmp_path: Path, kind: str) -> None:
    files = LocalDatasets(tmp_path / "datasets")
    with pytest.raises(InvalidArgumentError, match="would unpack to"):
        await files.take("p", "d", [bomb(tmp_path, kind)])
    assert [p for p in (tmp_path / "datasets").rglob("*") if p.is_file()] == []


def test_a_bomb_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="would unpack to"):
        unpack(str(bomb(tmp_path, "zip")), str(tmp_path), lambda: None)
    assert largest(10) == 1 << 30
