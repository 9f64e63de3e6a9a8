"""The keeper as a process of the leading server: ``python -m jobsphere.ray_nodes --address …``.

A process of its own, for Ray's library ends the one that it is in where it sees fit. It ends when its standard input
does: with its server. What the server is to log are lines of JSON on its standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobsphere.domain.errors import JobsphereError
from jobsphere.ray_nodes.cluster import RayCluster
from jobsphere.ray_nodes.keeper import Keeper

LOOK_S = 1.0
"""How often Ray is asked."""
SILENT_S = 10.0
"""An answer that takes longer is told of."""


def main(argv: list[str] | None = None) -> int:
    """Keep the agents until told to stop, or until Ray cannot be asked any more."""
    parser = argparse.ArgumentParser(prog="python -m jobsphere.ray_nodes", description="Keeps agents on Ray's nodes.")
    parser.add_argument("--address", required=True, help="auto, or host:port of Ray's head")
    parser.add_argument("--shared-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder of agents on the nodes")
    options = parser.parse_args(argv)
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        cluster = RayCluster(options.address)
        say("info", "Ray's nodes are kept", address=options.address)
        _keep(Keeper(cluster, options.shared_dir, options.data_dir, say))
    except JobsphereError as error:
        say("error", "Ray's nodes are not kept", reason=error.public)
    except Exception as error:  # noqa: BLE001  Ray's library has many ways to say that the head is gone
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        say("error", "Ray's nodes are not kept", reason=reason)
    return 1


def say(level: str, event: str, **facts: str) -> None:
    """A line for the server's log."""
    sys.stdout.write(json.dumps({"level": level, "event": event, **facts}) + "\n")
    sys.stdout.flush()


def _keep(keeper: Keeper) -> None:
    with ThreadPoolExecutor(1) as pool:
        while True:
            looking = pool.submit(keeper.look)
            try:
                looking.result(SILENT_S)
            except TimeoutError:
                if looking.done():
                    raise
                say("warning", "Ray's head does not answer; jobs go on, and no node is given up meanwhile")
                looking.result()
                say("info", "Ray's head answers again")
            time.sleep(LOOK_S)


def _end_with_server() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
