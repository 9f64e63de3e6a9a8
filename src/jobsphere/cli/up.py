"""``jobsphere up``: the server."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jobsphere.cli.options import DataDir
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.serverfile import ServerInfo

if TYPE_CHECKING:
    from jobsphere.config import Settings


def up(
    *,
    data_dir: DataDir = None,
    host: str | None = None,
    grpc_port: int | None = None,
    proxy_port: int | None = None,
    http_port: int | None = None,
    public_host: str | None = None,
    require_tokens: bool | None = None,
    jobs_at_once: int | None = None,
    sandbox: Literal["auto", "bubblewrap", "none"] | None = None,
    network: bool | None = None,
    log_format: Literal["console", "json"] | None = None,
    config_file: Annotated[Path | None, Parameter(name="--config")] = None,
) -> None:
    """Start the server; it prints one line when it is ready and runs until Ctrl-C or SIGTERM.

    Every option can also be set as a variable (`JOBSPHERE_GRPC_PORT`) or in `jobsphere.toml` in the data directory
    (`grpc_port = 9443`). Jobs that run go on when the server stops; the next start takes them up again.

    Parameters
    ----------
    data_dir
        Where everything lives; it can be copied as a whole while the server is stopped.
    host
        The address to listen on. Off loopback, every call needs a token.
    grpc_port
        gRPC over TLS, for the vendor's SDK and other clients. Default 9443; 0 picks a free port.
    proxy_port
        The CONNECT proxy by which the vendor's CLI finds this server. Default 9444; 0 picks a free port.
    http_port
        Files of jobs and health checks. Default 9080; 0 picks a free port.
    public_host
        The name under which clients reach this server, if it is not the host.
    require_tokens
        Ask every call for a token, or none. Default: only off loopback.
    jobs_at_once
        How many jobs of the smallest instance type fit at a time on this machine. Default 4; 1 gives a job all of it.
    sandbox
        How jobs are fenced in. auto (default): by bubblewrap where it works, with a warning where it does not.
    network
        Whether jobs in a sandbox reach the network. Default: yes.
    log_format
        How to write the server's log on stderr: console or json.
    config_file
        A settings file to use instead of the data directory's own.
    """
    from jobsphere import config
    from jobsphere.telemetry import configure_logging

    options = {
        "data_dir": data_dir,
        "host": host,
        "grpc_port": grpc_port,
        "proxy_port": proxy_port,
        "http_port": http_port,
        "public_host": public_host,
        "require_tokens": require_tokens,
        "jobs_at_once": jobs_at_once,
        "sandbox": sandbox,
        "network": network,
        "log_format": log_format,
    }
    settings = config.load(options, config_file)
    configure_logging(settings.log_format)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from jobsphere.config import is_loopback
    from jobsphere.wiring.server import Server

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if not is_loopback(settings.host) and not settings.tokens_required:
        _warn(settings, f"ANYBODY who can reach {settings.host} can run programs here: tokens are switched off.")
    try:
        async with Server(settings) as server:
            _ready(settings, server.info)
            await stopped.wait()
            left = server.running_jobs
        _stopped(settings, left)
    except OSError as e:
        if e.filename is not None:
            raise FailedPreconditionError(
                f"cannot use {e.filename}: {e.strerror}; see that its disk can be written and has room, "
                "or name another --data-dir"
            ) from e
        raise FailedPreconditionError(
            f"cannot listen: {e.strerror or e}; choose another port (0 picks a free one), or stop who has it"
        ) from e


def _ready(settings: Settings, info: ServerInfo) -> None:
    if not settings.tokens_required:
        _warn(
            settings,
            "no tokens are asked for: every user of this machine can run jobs as you. --require-tokens changes that.",
        )
    print(  # noqa: T201
        f"jobsphere is ready: gRPC {info.host}:{info.grpc_port}, proxy {info.host}:{info.proxy_port}, "
        f"HTTP {info.host}:{info.http_port}, data {settings.data_dir}. "
        'Next, in another terminal: eval "$(jobsphere client-env)"',
        flush=True,
    )


def _stopped(settings: Settings, left: int) -> None:
    goes_on = "1 job goes on" if left == 1 else f"{left} jobs go on"
    after = f"; {goes_on} without it, and the next start takes that up" if left else ""
    words = f"jobsphere has stopped{after}."
    if settings.log_format == "json":
        _log(logging.INFO, words)
    else:
        print(words, file=sys.stderr)  # noqa: T201


def _warn(settings: Settings, text: str) -> None:
    if settings.log_format == "json":
        _log(logging.WARNING, text)
        return
    from rich.console import Console

    Console(stderr=True).print(f"[bold yellow]Warning:[/] {text}")


def _log(level: int, text: str) -> None:
    import structlog

    structlog.get_logger().log(level, text)
