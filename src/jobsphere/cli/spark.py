"""``jobsphere spark``: the Sparks that the jobs of a project may use, whether the server runs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.resources import Resource, SparkConnector
from jobsphere.domain.spark import mode_named

app = App(name="spark", help="Make Sparks known to jobs, for `datasphere.SDK().connect_to_spark()`.")
Texts = Annotated[list[str] | None, Parameter(negative="")]


@app.command
def create(
    name: str,
    mode: str,
    master: str = "",
    *,
    param: Texts = None,
    secret_param: Texts = None,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Create a Spark connector and print its id, for `spark: {connector: ID}` in a job's config.

    Parameters
    ----------
    name
        1 to 63 of 0-9, A-Z, a-z, ., _ and -.
    mode
        connect (a Spark Connect server), context (a cluster's master) or local (Spark in the job itself).
    master
        HOST or HOST:PORT of the Spark Connect server; HOST of YARN, or spark://HOST:PORT; none for local.
    param
        A parameter of the session as KEY=VALUE; may be repeated.
    secret_param
        One whose value is that of a secret of the project, as KEY=SECRET; may be repeated.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    body = SparkConnector(mode_named(mode), master, _pairs(param), _pairs(secret_param))
    created = asyncio.run(resources.create_spark(data_dir_of(data_dir), project, name, body))
    print(created.id)  # noqa: T201


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

    connectors = asyncio.run(resources.list_sparks(data_dir_of(data_dir), project))
    show_all(connectors, _fields, ("ID", "Name", "Mode", "Master"), _row, as_json=json_)


@app.command
def show(connector: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Print a Spark connector as JSON; of secret parameters the names of their secrets.

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

    found = asyncio.run(resources.show_spark(data_dir_of(data_dir), project, connector))
    print(json.dumps(_fields(found), indent=2))  # noqa: T201


@app.command
def update(
    connector: str,
    *,
    mode: str | None = None,
    master: str | None = None,
    param: Texts = None,
    secret_param: Texts = None,
    remove_param: Texts = None,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Change a Spark connector, for jobs that start from now on; what is not given stays.

    Parameters
    ----------
    connector
        Its id or its name.
    mode
        connect, context or local.
    master
        As for create.
    param
        Another parameter, or another value of one, as KEY=VALUE; may be repeated.
    secret_param
        The same by a secret of the project, as KEY=SECRET; may be repeated.
    remove_param
        The KEY of a parameter to take away; may be repeated.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    params, secret_params = _pairs(param), _pairs(secret_param)
    replaced = {key for key, _ in (*params, *secret_params)} | set(remove_param or ())

    def change(was: SparkConnector) -> SparkConnector:
        return replace(
            was,
            mode=was.mode if mode is None else mode_named(mode),
            master=was.master if master is None else master,
            params=(*(p for p in was.params if p[0] not in replaced), *params),
            secret_params=(*(p for p in was.secret_params if p[0] not in replaced), *secret_params),
        )

    asyncio.run(resources.update_spark(data_dir_of(data_dir), project, connector, change))


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

    asyncio.run(resources.delete_spark(data_dir_of(data_dir), project, connector))


def _pairs(texts: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """``KEY=VALUE`` each. What is none is not shown: it may be a secret that was to be named."""
    found: list[tuple[str, str]] = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidArgumentError("a parameter is not written as KEY=VALUE")
        found.append((key, value))
    return tuple(found)


def _fields(connector: Resource[SparkConnector]) -> dict[str, object]:
    body = connector.body
    return {
        "id": connector.id,
        "name": connector.name,
        "project_id": connector.project_id,
        "mode": body.mode.value,
        "master": body.master,
        "params": dict(body.params),
        "secret_params": dict(body.secret_params),
        "created_at": connector.created_at.isoformat(),
        "created_by_id": connector.created_by_id,
    }


def _row(connector: Resource[SparkConnector]) -> tuple[str, ...]:
    return connector.id, connector.name, connector.body.mode.value, connector.body.master
