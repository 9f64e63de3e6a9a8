"""ZIP and tar archives of strangers, opened so that no few bytes of one become much memory. Standard library only.

Both formats say how long their own lists and headers are, and the library reads these at once: a thousandth of that,
packed, is enough to ask for gigabytes. Here such a read has an end.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO, cast

MAX_ENTRIES = 1_000_000
"""Files and folders in one archive: each costs memory until it is written."""
MAX_LIST_BYTES = 256 << 20
"""The list at the end of a ZIP, which names every entry."""
MAX_HEADER_BYTES = 1 << 20
"""A header of a tar: a long name, attributes."""
MAX_RATIO = 1100
"""Deflate cannot pack better than 1032 to 1: more means that entries overlap."""
RATIO_APPLIES_FROM = 1 << 30
_ENTRY = b"PK\x01\x02"
_PACKERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


class _Bounded(io.BufferedReader):
    """A file of which not too much is read at once. ``error``: what says so."""

    most = MAX_LIST_BYTES
    error: type[Exception] = zipfile.BadZipFile

    def read(self, size: int | None = -1, /) -> bytes:
        """As every file's."""
        if size is not None and size > self.most:
            raise self.error(f"a part of it says to have {size} bytes")
        return super().read(size)


class _ZipFile(_Bounded):
    def read(self, size: int | None = -1, /) -> bytes:
        """The list is read at once: count before anything is made of it."""
        data = super().read(size)
        if len(data) > MAX_ENTRIES and data.count(_ENTRY) > MAX_ENTRIES:
            raise self.error(f"it has more than {MAX_ENTRIES} files and folders")
        return data


class _TarFile(_Bounded):
    most = MAX_HEADER_BYTES
    error = tarfile.ReadError


@contextmanager
def open_zip(path: str) -> Generator[zipfile.ZipFile]:
    """A ZIP to be read.

    Raises:
        zipfile.BadZipFile: it is none, or one with endless lists. Reading entries may raise it, EOFError, RuntimeError
            and NotImplementedError too.
    """
    with _ZipFile(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        yield archive


@contextmanager
def open_tar(path: str) -> Generator[tarfile.TarFile]:
    """A tar to be read, packed by gzip, bzip2 or xz, or not. What it holds is known entry by entry.

    Raises:
        tarfile.TarError: it is none, or one with endless headers. Reading entries may raise it, EOFError, OSError,
            lzma.LZMAError and zlib.error too.
    """
    with io.FileIO(path) as packed:
        opener = _PACKERS.get(packed.read(2))
        packed.seek(0)
        raw = cast("io.RawIOBase", opener(packed) if opener else packed)
        with _TarFile(raw) as file, tarfile.open(fileobj=cast("BinaryIO", file), mode="r:") as archive:
            yield archive


def largest(packed: int) -> int:
    """The most bytes that an honest ZIP of ``packed`` bytes unpacks to."""
    return max(RATIO_APPLIES_FROM, packed * MAX_RATIO)
