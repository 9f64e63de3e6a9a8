"""``jobsphere up`` that can be killed at a durable step: ``python -m tests.crash.server FOLDER up …``.

FOLDER: see :mod:`tests.crash.killing`. Looks and sweeps come soon after each other, for a test waits for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from jobsphere import durable
from jobsphere.cli.main import app
from jobsphere.engine import reconciler
from jobsphere.service import logs
from jobsphere.wiring import parts, server, usecases
from tests.crash.killing import Killer

SOONER: tuple[tuple[ModuleType, str, float], ...] = (
    (usecases, "_LOOK_AGAIN_S", 0.3),
    (usecases, "_RETENTION_S", 0.1),
    (server, "_UPKEEP_S", 1.5),
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
    durable.observe(Killer(folder, "server"))
    app(sys.argv[2:])


if __name__ == "__main__":
    main()
