"""``jobsphere project disk``: the files that all jobs of a project can read, whether the server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of
from jobsphere.domain.limits import human_size
from jobsphere.domain.text import one_line

if TYPE_CHECKING:
    from jobsphere.blob.project_disk import Entry, ProjectDisk

T = TypeVar("T")
app = App(
    name="disk", help="Put files on a project's disk, which jobs with attach-project-disk read at $DS_PROJECT_HOME."
)


@app.command
def ls(
    path: str = "",
    *,
    project: ProjectId = "",
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """List a folder with sizes; that of a folder counts all files in it.

    Parameters
    ----------
    path
        A folder or a file of the disk; by default its top.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    entries = _read(data_dir, project, lambda disk: disk.list(path))
    caption = f"In all: {human_size(sum(e.size_bytes for e in entries))}"
    show_all(entries, _fields, ("Path", "Size", "Modified at (UTC)"), _row, as_json=json_, caption=caption)


@app.command
def put(source: Path, path: str = "", *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Copy a file or a folder of this machine to the disk.

    Parameters
    ----------
    source
        What to copy.
    path
        Where to: a new name, or a folder (one that is there, or one written with a / at its end). By default the top.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    files = asyncio.run(resources.put_on_disk(data_dir_of(data_dir), project, source, path))
    print(f"{_count(len(files))} ({human_size(sum(f.size_bytes for f in files))}) on the disk now")  # noqa: T201


@app.command
def get(path: str, target: Path = Path(), *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Copy a file or a folder of the disk to this machine.

    Parameters
    ----------
    path
        What to copy.
    target
        Where to; by default here.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    files = _read(data_dir, project, lambda disk: disk.get(path, target))
    print(f"{_count(len(files))} ({human_size(sum(f.stat().st_size for f in files))}) copied")  # noqa: T201


@app.command
def rm(
    path: str,
    *,
    recursive: Annotated[bool, Parameter(negative="")] = False,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Remove a file from the disk, or a folder.

    Parameters
    ----------
    path
        What to remove.
    recursive
        Also a folder, with all that is in it.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    gone = _change(data_dir, project, "rm", path, lambda disk: disk.remove(path, recursive=recursive))
    print(f"{one_line(gone.path)} ({human_size(gone.size_bytes)}) is removed")  # noqa: T201


def _read(data_dir: Path | None, project: str, work: Callable[[ProjectDisk], T]) -> T:
    from jobsphere.wiring import resources

    return asyncio.run(resources.read_disk(data_dir_of(data_dir), project, work))


def _change(data_dir: Path | None, project: str, verb: str, path: str, work: Callable[[ProjectDisk], T]) -> T:
    from jobsphere.wiring import resources

    return asyncio.run(resources.change_disk(data_dir_of(data_dir), project, verb, path, work))


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _fields(entry: Entry) -> dict[str, object]:
    return {
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "modified_at": entry.modified_at.isoformat(),
        "is_folder": entry.is_folder,
    }


def _row(entry: Entry) -> tuple[str, ...]:
    return entry.path + "/" * entry.is_folder, human_size(entry.size_bytes), f"{entry.modified_at:%Y-%m-%d %H:%M}"
