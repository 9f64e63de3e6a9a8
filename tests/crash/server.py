"""``jobsphere up`` that can be killed at a durable step: ``python -m tests.crash.server FOLDER up …``.

FOLDER: see :mod:`tests.crash.killing`. Looks and sweeps come soon after each other, for a test waits for them; and
``evict`` in it names what nothing is kept of that nobody uses: ``environments``, ``images`` or ``datasets``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jobsphere import durable
from jobsphere.cli.main import app
from jobsphere.engine import reconciler
from jobsphere.service import logs
from jobsphere.wiring import leading, parts, server, usecases
from tests.crash.killing import EVICT, Killer

SOONER: tuple[tuple[ModuleType, str, float], ...] = (
    (usecases, "_LOOK_AGAIN_S", 0.3),
    (usecases, "_RETENTION_S", 0.1),
    (server, "_UPKEEP_S", 1.0),
    (leading, "_EXPIRY_S", 1.0),
    (leading, "SWEEP_S", 1.0),
    (reconciler, "_LAUNCH_AGAIN_S", 0.5),
    (logs, "_RECONNECT_S", 0.1),
)


def main() -> None:
    folder = Path(sys.argv[1])
    for module, name, seconds in SOONER:
        getattr(module, name)  # one that has moved elsewhere would leave all tests waiting for the real period
        setattr(module, name, seconds)
    real = parts.node_command

    def node_command(*args: object) -> list[str]:
        python, _, _, module, *rest = real(*args)  # type: ignore[arg-type]
        assert module == "jobsphere.node"
        return [python, "-m", "tests.crash.node", str(folder), *rest]

    parts.node_command = node_command
    keep_what_is_said(folder)
    durable.observe(Killer(folder, "server"))
    app(sys.argv[2:])


def keep_what_is_said(folder: Path) -> None:
    """Have budgets and times set by ``evict``, whenever they are looked at."""

    def kept(what: str, keep: Callable[..., Any]) -> Callable[..., Any]:
        def keep_none(data_dir: Path, settings: Any) -> Any:
            none = {f"{what.removesuffix('s')}_cache_gb": 0}
            return keep(data_dir, settings.model_copy(update=none if evicts(what) else {}))

        return keep_none

    def evicts(what: str) -> bool:
        path = folder / EVICT
        return path.exists() and path.read_text() == what

    real = leading.keep_datasets
    server.keep_environments = kept("environments", server.keep_environments)
    server.keep_images = kept("images", server.keep_images)
    leading.keep_datasets = lambda _, cases: real(0 if evicts("datasets") else None, cases)


if __name__ == "__main__":
    main()
