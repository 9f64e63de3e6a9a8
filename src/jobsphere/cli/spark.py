"""``jobsphere spark``: the Sparks that the jobs of a project may use, whether the server runs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.resources import Resource, SparkConnector
from jobsphere.domain.spark import SparkMode

app = App(name="spark", help="Make Sparks known to jobs, which reach them by datasphere.SDK().connect_to_spark().")


@app.command
def add(
    name: str,
    host: str = "",
    *,
    mode: SparkMode = SparkMode.CONNECT,
    param: Annotated[list[str] | None, Parameter(negative="")] = None,
    secret_param: Annotated[list[str] | None, Parameter(negative="")] = None,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Add a Spark connector and print its id, for `spark: {connector: ID}` in a job's config.

    Parameters
    ----------
    name
        1 to 63 of 0-9, A-Z, a-z, ., _ and -.
    host
        The Spark Connect server as NAME:PORT, or the cluster's master; the mode local needs none.
    mode
        connect: a Spark Connect server. context: a driver in the job, on YARN or on what the parameter spark.master
        names. local: all of it in the job.
    param
        A session parameter as KEY=VALUE, e.g. spark.sql.shuffle.partitions=8; may be repeated.
    secret_param
        One whose value is that of a secret of the project, as KEY=SECRET; may be repeated.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    body = SparkConnector(mode, host, _pairs("param", "VALUE", param), _pairs("secret-param", "SECRET", secret_param))
    added = asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere spark add",
            project,
            name,
            lambda op, who, p: op.sparks.add(who, p, name, body),
        )
    )
    print(added.id)  # noqa: T201


@app.command(name="list")
def list_(
    *, project: ProjectId = "", data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """List the Spark connectors of a project.

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

    found = asyncio.run(resources.read(data_dir_of(data_dir), project, lambda op, who, p: op.sparks.all(who, p)))
    show_all(found, _fields, ("ID", "Name", "Mode", "Host", "Parameters"), _row, as_json=json_)


@app.command
def show(connector: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Print a Spark connector as JSON, with its parameters; of secrets it has the names only.

    Parameters
    ----------
    connector
        Its id or its name.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    found = asyncio.run(
        resources.read(data_dir_of(data_dir), project, lambda op, who, p: op.sparks.find(who, p, connector))
    )
    print(json.dumps(_fields(found), indent=2))  # noqa: T201


@app.command
def delete(connector: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Delete a Spark connector; refused while jobs that are under way use it.

    Parameters
    ----------
    connector
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
            "jobsphere spark delete",
            project,
            connector,
            lambda op, who, p: op.sparks.delete(who, p, connector),
        )
    )


def _pairs(option: str, what: str, texts: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """The value is not repeated in the error: somebody may have given a secret there."""
    pairs = [text.partition("=") for text in texts or ()]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise InvalidArgumentError(f"{option}: {key[:40]!r} is not followed by ={what}; write KEY={what}")
    return tuple((key, value) for key, _, value in pairs)


def _fields(connector: Resource[SparkConnector]) -> dict[str, object]:
    body = connector.body
    return {
        "id": connector.id,
        "name": connector.name,
        "project_id": connector.project_id,
        "mode": body.mode.value,
        "host": body.host,
        "params": dict(body.params),
        "secret_params": dict(body.secret_params),
        "created_at": connector.created_at.isoformat(),
        "created_by_id": connector.created_by_id,
    }


def _row(connector: Resource[SparkConnector]) -> tuple[str, ...]:
    body = connector.body
    params = ", ".join(name for name, _ in (*body.params, *body.secret_params))
    return connector.id, connector.name, body.mode.value, body.host, params
