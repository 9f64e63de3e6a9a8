"""``jobsphere s3``: the buckets that the jobs of a project may use, whether the server runs or not."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, ProjectId, data_dir_of
from jobsphere.domain.resources import Resource, S3Connector

app = App(name="s3", help="Make buckets known to jobs, which find them at /job/s3/ID.")


@app.command
def add(
    name: str,
    bucket: str,
    *,
    endpoint: str = "",
    region: str = "",
    prefix: str = "",
    access_key_secret: str = "",
    secret_key_secret: str = "",
    read_write: Annotated[bool, Parameter(negative="")] = False,
    project: ProjectId = "",
    data_dir: DataDir = None,
) -> None:
    """Add an S3 connector and print its id, for `s3-mounts:` in a job's config.

    Parameters
    ----------
    name
        1 to 63 of 0-9, A-Z, a-z, ., _ and -.
    bucket
        The bucket.
    endpoint
        The URL of the S3 service; by default that of AWS.
    region
        The region; by default us-east-1.
    prefix
        Only what is below it, as a/b/c; by default the whole bucket.
    access_key_secret
        The secret of the project that holds the id of the access key. Without both keys requests are not signed.
    secret_key_secret
        The secret of the project that holds the secret key.
    read_write
        Write back what jobs change; by default they only read.
    project
        The id of the project; by default the first one.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import resources

    body = S3Connector(bucket, endpoint, region, prefix, access_key_secret, secret_key_secret, not read_write)
    added = asyncio.run(
        resources.change(
            data_dir_of(data_dir),
            "jobsphere s3 add",
            project,
            name,
            lambda op, who, p: op.connectors.add(who, p, name, body),
        )
    )
    print(added.id)  # noqa: T201


@app.command(name="list")
def list_(
    *, project: ProjectId = "", data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """List the S3 connectors of a project.

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

    connectors = asyncio.run(
        resources.read(data_dir_of(data_dir), project, lambda op, who, p: op.connectors.all(who, p))
    )
    show_all(connectors, _fields, ("ID", "Name", "Bucket", "Prefix", "Endpoint", "Mode"), _row, as_json=json_)


@app.command
def activate(connector: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Let jobs use an S3 connector that was deactivated.

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
            "jobsphere s3 activate",
            project,
            connector,
            lambda op, who, p: op.connectors.activate(who, p, connector),
        )
    )


@app.command
def deactivate(connector: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Let no job use an S3 connector, without forgetting it; refused while jobs that are under way use it.

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
            "jobsphere s3 deactivate",
            project,
            connector,
            lambda op, who, p: op.connectors.deactivate(who, p, connector),
        )
    )


@app.command
def delete(connector: str, *, project: ProjectId = "", data_dir: DataDir = None) -> None:
    """Delete an S3 connector; refused while jobs that are under way use it. The bucket stays as it is.

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
            "jobsphere s3 delete",
            project,
            connector,
            lambda op, who, p: op.connectors.delete(who, p, connector),
        )
    )


def _fields(connector: Resource[S3Connector]) -> dict[str, object]:
    return {
        "id": connector.id,
        "name": connector.name,
        "project_id": connector.project_id,
        **asdict(connector.body),
        "created_at": connector.created_at.isoformat(),
        "created_by_id": connector.created_by_id,
    }


def _row(connector: Resource[S3Connector]) -> tuple[str, ...]:
    body, mode = connector.body, "read" if connector.body.read_only else "read, write"
    mode += "" if body.active else " (not active)"
    return connector.id, connector.name, body.bucket, body.prefix, body.endpoint, mode
