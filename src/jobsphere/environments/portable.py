"""A program of this host that runs in any image: with this host's loader and libraries, whatever the image has."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobsphere.domain.ports import EnvironmentBuildError, Workbench
from jobsphere.durable import Point, durable, locked

_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_PT_INTERP = 3
_NAME_SERVICE = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
"""Opened by older C libraries when a host's name is looked up; no program lists them."""


@dataclass(frozen=True, slots=True)
class Portable:
    """The words that start the program, and the files and folders that it needs to be seen by their own paths."""

    words: tuple[str, ...]
    files: tuple[Path, ...]


def make_portable(program: str, folder: Path, env: Mapping[str, str], bench: Workbench) -> Portable:
    """Copy what the program needs to ``folder``, unless it is there or the program needs nothing.

    Raises:
        EnvironmentBuildError: a library of the program is missing on this host.
    """
    loader = _loader(program)
    if loader is None:
        return Portable((program,), (Path(program),))
    needed = [Path(loader), *_libraries(loader, program, env, bench)]
    place = folder / _digest(needed)
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not place.is_dir():  # else another build was first
                _copy(needed, place)
    start = (str(place / needed[0].name), "--library-path", str(place), program)
    return Portable(start, (place, Path(program)))


def _loader(program: str) -> str | None:
    """The loader that the program asks for; None for one that is linked statically."""
    with open(program, "rb") as file:
        head = file.read(64)
        if not head.startswith(_ELF64_LITTLE_ENDIAN):
            return None
        (offset,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        for number in range(count):
            file.seek(offset + number * size)
            kind, start, length = struct.unpack("<I4xQ16xQ", file.read(40))
            if kind == _PT_INTERP:
                file.seek(start)
                return file.read(length).rstrip(b"\0").decode()
    return None


def _libraries(loader: str, program: str, env: Mapping[str, str], bench: Workbench) -> Iterator[Path]:
    lines: list[str] = []
    if bench.run([loader, "--list", program], env, lines.append):
        raise EnvironmentBuildError("\n".join([f"{program} does not run on this server:", *lines[-5:]]))
    found = [Path(at) for line in lines for at in re.findall(r"=> (/\S+) \(", line)]
    yield from found
    folder = next((path.parent for path in found if path.name.startswith("libc.so")), None)
    if folder is not None:
        yield from (folder / name for name in _NAME_SERVICE if (folder / name).exists())


def _digest(files: list[Path]) -> str:
    """Changes when this host's libraries do."""
    looked = ((path, path.stat()) for path in files)
    text = "\n".join(f"{path} {status.st_size} {status.st_mtime_ns}" for path, status in looked)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _copy(files: list[Path], place: Path) -> None:
    draft = place.with_name("draft")
    shutil.rmtree(draft, ignore_errors=True)  # of one that was killed at it
    draft.mkdir()
    for path in files:
        shutil.copyfile(path, draft / path.name)
        (draft / path.name).chmod(0o755)
    draft.chmod(0o755)
    with durable(Point.PORTABLE_MADE):
        draft.rename(place)
