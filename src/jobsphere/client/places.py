"""Where downloaded files go: below the folder that the user has named, whatever the server says."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from jobsphere.domain.errors import CorruptedError


def place_of(folder: Path, path: str) -> Path:
    """The place of a job's file: its path below ``folder``; of one outside the job's directory, its name there.

    Raises:
        CorruptedError: it has no name.
    """
    parts = [part for part in Path(os.path.normpath(path)).parts if part != os.sep]
    if Path(path).is_absolute() or ".." in parts:
        parts = parts[-1:]
    if not parts or parts[-1] in ("..", "."):
        raise CorruptedError(f"the server names a file without a name: {path!r}")
    return folder.joinpath(*parts)


def unpack(file: Any, part: Path, place: Path) -> Path:
    """Put what came at its place; a folder's files go beside and over those that are there.

    Args:
        file: The API's ``File``.
        part: What came; it is moved, or left for the caller to remove.
        place: Where to.

    Raises:
        CorruptedError: a folder's archive is none, or holds files of another folder.
    """
    if file.compression_type != pb.ZIP:
        part.replace(place)
        return place
    try:
        with zipfile.ZipFile(part) as archive:
            strange = [name for name in archive.namelist() if Path(name).parts[:1] != (place.name,)]
            if strange:
                raise CorruptedError(f"{file.desc.path}: the archive holds {strange[0]!r}, which is not of this folder")
            archive.extractall(place.parent)  # it takes no member outside of the folder
    except zipfile.BadZipFile as error:
        raise CorruptedError(f"{file.desc.path} is no archive: {error}") from error
    place.mkdir(exist_ok=True)
    return place
