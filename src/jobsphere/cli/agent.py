"""``jobsphere agent``: this machine as a node of a cluster."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jobsphere.cli.options import DataDir
from jobsphere.domain.errors import FailedPreconditionError

if TYPE_CHECKING:
    from jobsphere.config import Settings


def agent(
    *,
    data_dir: DataDir = None,
    shared_dir: Path | None = None,
    name: str = "",
    host: str | None = None,
    port: int = 0,
    public_host: str | None = None,
    log_format: Literal["console", "json"] | None = None,
    config_file: Annotated[Path | None, Parameter(name="--config")] = None,
) -> None:
    """Carry the jobs of a cluster's servers on this machine; print one line when ready and run until Ctrl-C or SIGTERM.

    Settings come from `jobsphere.toml` in the data directory or from variables, as for `jobsphere up`. Jobs that run
    go on when the agent stops; the next start takes them up again.

    Parameters
    ----------
    data_dir
        What is this node's own: run directories, environments, copies of files. On a local disk.
    shared_dir
        The folder that all servers and nodes see under the same path.
    name
        The name of the node. Default: that of the host.
    host
        The address to listen on. Default: 127.0.0.1, for servers on this machine only.
    port
        The port to listen on. Default: a free one; servers are told of it.
    public_host
        The name under which servers reach this node, if it is not the host.
    log_format
        How to write the agent's log on stderr: console or json.
    config_file
        A settings file to use instead of the data directory's own.
    """
    from jobsphere import config
    from jobsphere.telemetry import configure_logging

    options = {
        "data_dir": data_dir,
        "shared_dir": shared_dir,
        "host": host,
        "public_host": public_host,
        "log_format": log_format,
    }
    settings = config.load(options, config_file)
    configure_logging(settings.log_format)
    asyncio.run(_carry(settings, name, port))


async def _carry(settings: Settings, name: str, port: int) -> None:
    from jobsphere.wiring.agent import Agent

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with Agent(settings, name, port) as running:
            told = running.registration
            print(f"jobsphere agent is ready: node {told.name}, {told.url}, data {settings.data_dir}", flush=True)  # noqa: T201
            await stopped.wait()
    except OSError as error:
        if error.filename is not None:
            raise FailedPreconditionError(
                f"cannot use {error.filename}: {error.strerror}; see that it can be written, or name another folder"
            ) from error
        raise FailedPreconditionError(
            f"cannot listen: {error.strerror or error}; choose another port or host"
        ) from error
