"""``jobsphere environments``: the built environments of a data directory, whether its server runs or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.limits import human_size
from jobsphere.environments.eviction import StoredEnvironment

app = App(name="environments", help="List and remove the environments that were built for jobs.")


@app.command(name="list")
def list_(*, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False) -> None:
    """List the environments, the one least lately used first.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import environments as built

    _show(built.list_environments(data_dir_of(data_dir)), json_)


@app.command
def prune(
    *,
    max_gb: float | None = None,
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Remove environments that no job uses, the one least lately used first, until the rest fits; print what went.

    Parameters
    ----------
    max_gb
        How much may stay, in GiB; by default the server's setting environment_cache_gb. 0 removes all that are unused.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from rich.console import Console

    from jobsphere.wiring import environments as built

    trimmed = built.prune_environments(data_dir_of(data_dir), max_gb)
    _show(trimmed.environments, json_)
    if not json_ and trimmed.cache_bytes:
        Console().print(f"Also removed: {human_size(trimmed.cache_bytes)} of downloads")


def _show(environments: Sequence[StoredEnvironment], as_json: bool) -> None:
    columns = ("Environment", "What", "Size", "Last used (UTC)", "Built in", "In use")
    show_all(environments, _fields, columns, _row, as_json=as_json)


def _fields(environment: StoredEnvironment) -> dict[str, object]:
    return {
        "fingerprint": environment.fingerprint,
        "what": environment.what,
        "size_bytes": environment.size_bytes,
        "last_used": environment.last_used.isoformat(),
        "build_seconds": environment.build_seconds,
        "in_use": environment.in_use,
        "complete": environment.complete,
    }


def _row(environment: StoredEnvironment) -> tuple[str, ...]:
    e = environment
    used, built = f"{e.last_used:%Y-%m-%d %H:%M}", f"{e.build_seconds:.1f} s"
    return e.fingerprint[:12], e.what, human_size(e.size_bytes), used, built, "yes" if e.in_use else "no"
