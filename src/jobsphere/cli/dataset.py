"""``jobsphere dataset``: the datasets of a project, whether the server runs or not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.limits import human_size
from jobsphere.domain.resources import Dataset, Resource

_COLUMNS = ("ID", "Name", "Size", "Files", "Made by job", "Created at (UTC)", "Description")
app = App(name="dataset", help="Make files into datasets, which jobs read at /job/datasets/ID.")


@app.command
def create(
    name: str,
    sources: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    description: str = "",
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Make a dataset and print its id, for `datasets:` in a job's config. It never changes after that.

    Parameters
    ----------
    name
        1 to 63 of 0-9, A-Z, a-z, ., _ and -.
    sources
        One folder or one archive (.zip, .tar, .tar.gz …), of which the content counts; or several files and folders.
    description
        What it is.
    label
        A label as KEY=VALUE; may be repeated.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    labels = tuple(_label(text) for text in label or ())
    made = asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere dataset create",
            project,
            name,
            lambda op, who, p: op.datasets.create(who, p, name, sources, description, labels),
        )
    )
    print(made.id)  # noqa: T201


@app.command(name="list")
def list_(
    *, project: ProjectId = "", data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """List the datasets of a project, those that jobs made among them.

    Parameters
    ----------
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import resources

    datasets = asyncio.run(resources.read(data_dir_of(data_dir), project, lambda op, who, p: op.datasets.all(who, p)))
    show_all(datasets, _fields, _COLUMNS, _row, as_json=json_)


@app.command
def show(dataset: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Print a dataset as JSON: also where its files are on this machine.

    Parameters
    ----------
    dataset
        Its id or its name.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    found, folder = asyncio.run(resources.show_dataset(data_dir_of(data_dir), project, dataset))
    print(json.dumps({**_fields(found), "folder": str(folder)}, indent=2))  # noqa: T201


@app.command
def delete(dataset: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Delete a dataset with its files; refused while jobs that are under way use it.

    Parameters
    ----------
    dataset
        Its id or its name.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere dataset delete",
            project,
            dataset,
            lambda op, who, p: op.datasets.delete(who, p, dataset),
        )
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidArgumentError(f"label: {text!r} is not written as KEY=VALUE")
    return key, value


def _fields(dataset: Resource[Dataset]) -> dict[str, object]:
    body = dataset.body
    return {
        "id": dataset.id,
        "name": dataset.name,
        "project_id": dataset.project_id,
        "size_bytes": body.size_bytes,
        "files": body.files,
        "description": body.description,
        "labels": dict(body.labels),
        "job_id": body.job_id,
        "created_at": dataset.created_at.isoformat(),
        "created_by_id": dataset.created_by_id,
    }


def _row(dataset: Resource[Dataset]) -> tuple[str, ...]:
    body, made = dataset.body, f"{dataset.created_at:%Y-%m-%d %H:%M}"
    size = human_size(body.size_bytes)
    return dataset.id, dataset.name, size, str(body.files), body.job_id, made, body.description
