"""The keeper of Ray's nodes, as a child of the server that leads."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec

import structlog

from jobsphere.config import Settings
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.ray_nodes.intentions import Intentions
from jobsphere.wiring.cluster import is_cluster

_FOR_AGENTS = (
    "working_storage", "container_engine", "container_engine_args", "python_search_path", "conda_channel_alias",
    "environment_cache_gb", "image_cache_gb", "blobs", "blobs_endpoint", "blobs_region", "blobs_key_file",
    "blob_cache_gb", "secret_key_file", "log_format",
)  # fmt: skip
"""What agents do as their servers; all else is of the server or of the node."""
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
log = structlog.get_logger()


def agent_settings(settings: Settings) -> str:
    """What every agent is set to, as TOML: what the server was told, of that which nodes do. Nothing secret."""
    told = settings.model_dump(mode="json", include=set(_FOR_AGENTS), exclude_defaults=True, exclude_none=True)
    # A string, a number or a list of strings is in TOML what it is in JSON.
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in sorted(told.items()))


def check_ray(settings: Settings) -> None:
    """See whether Ray's nodes can be kept, where there are any.

    Raises:
        FailedPreconditionError: servers and nodes share no folder, or Ray is not installed.
    """
    if not settings.ray_address:
        return
    if not is_cluster(settings):
        raise FailedPreconditionError(
            "setting ray_address: jobs on other machines take a folder that all of them see; name it by shared_dir"
        )
    if find_spec("ray") is None:
        raise FailedPreconditionError("setting ray_address: Ray is not installed; install jobsphere[ray]")


@asynccontextmanager
async def ray_nodes_kept(settings: Settings) -> AsyncGenerator[None]:
    """Keep an agent on each node of Ray meanwhile, where there is one. The agents stay."""
    if not settings.ray_address:
        yield
        return
    await asyncio.to_thread(lambda: Intentions(settings.shared).configure(agent_settings(settings)))
    keeping = asyncio.create_task(_keep(settings))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(settings: Settings) -> None:
    """It ends whenever Ray's library wants it to, and is started again: less and less often where it is of no use."""
    pause_s, last = _PAUSE_S, ""
    while True:
        well = False
        try:
            well, last = await _keep_once(settings, last)
        except (OSError, ValueError) as error:
            log.error("the keeper of Ray's nodes cannot be run", reason=str(error))
        pause_s = _PAUSE_S if well else min(2 * pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)


async def _keep_once(settings: Settings, last: str) -> tuple[bool, str]:
    """Run it to its end; what :func:`_relay` says of it."""
    with (settings.data_dir.expanduser().absolute() / "ray-keeper.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *_command(settings), stdin=PIPE, stdout=PIPE, stderr=errors, start_new_session=True
        )
    try:
        return await _relay(process, last)
    finally:  # whatever it is at: the next one begins with a look
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _command(settings: Settings) -> list[str]:
    return [
        sys.executable, "-I", "-m", "jobsphere.ray_nodes", "--address", settings.ray_address,
        "--shared-dir", str(settings.shared), "--data-dir", str(settings.ray_data_dir),
    ]  # fmt: skip


async def _relay(process: Process, last: str) -> tuple[bool, str]:
    """Log what it says until it ends. Whether it was of use, and the last misfortune, which is told of once."""
    assert process.stdout is not None
    well = False
    async for line in process.stdout:
        said: Mapping[str, str] = json.loads(line)
        level, event = said["level"], said["event"]
        if level == "error" and event == last:
            continue
        facts = {name: value for name, value in said.items() if name not in {"level", "event"}}
        getattr(log, level)(event, **facts)
        well = well or level != "error"
        last = event if level == "error" else ""
    await process.wait()
    return well, last
