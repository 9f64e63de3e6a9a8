"""What Ray runs on each node: the one that holds the node's resources and carries its agent.

The standard library only: Ray's worker imports it on the node. No job goes through it: servers speak to the agent, so
that neither this actor's end nor Ray's disturbs one.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_WELL_S = 30.0
"""An agent that lived so long was well: what happens to it next is its first misfortune."""
_PR_SET_PDEATHSIG = 1
_VISIBLE = "CUDA_VISIBLE_DEVICES"
log = logging.getLogger(__name__)


class AgentActor:
    """Keeps one agent running for as long as it lives itself; its end is the agent's too, whatever way it comes.

    Args:
        arguments: Of ``jobsphere``.
        variables: More environment for it; nothing secret, for Ray keeps and shows them.
    """

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", __name__, str(os.getpid()), *arguments]
        environ = {**_without_ray(os.environ), **_gpus(os.environ), **variables}
        # The kernel ends the agent with the thread that started it, so that is one which never ends.
        threading.Thread(target=_carry, args=(command, environ), name="agent", daemon=True).start()

    def process(self) -> int:
        """Its own process id; answered as soon as Ray has found room for it."""
        return os.getpid()


def become_agent(parent: int, arguments: Sequence[str]) -> None:
    """Turn this process into an agent that ends at once with its parent: another is started in its place elsewhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the end of the parent cannot be followed")
    if os.getppid() != parent:  # it came before
        sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-c", "from jobsphere.cli.main import main; main()", *arguments])  # noqa: S606


def _carry(command: Sequence[str], environ: Mapping[str, str]) -> None:
    pause_s = _PAUSE_S
    while True:
        started = time.monotonic()
        code = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, check=False).returncode
        pause_s = _PAUSE_S if time.monotonic() - started > _WELL_S else min(2 * pause_s, _LONGEST_PAUSE_S)
        log.warning("the agent ended with %s; it is started again", code)
        time.sleep(pause_s)


def _gpus(environ: Mapping[str, str]) -> dict[str, str]:
    """The GPUs that Ray has given, as the agent's setting has them. By anything but indices it finds them itself."""
    given = [part for part in environ.get(_VISIBLE, "").split(",") if part]
    return {"JOBSPHERE_NODE_GPUS": json.dumps([int(part) for part in given])} if all(map(str.isdigit, given)) else {}


def _without_ray(environ: Mapping[str, str]) -> dict[str, str]:
    """What the node has set itself: Ray's own variables and its choice of GPUs are for programs of Ray."""
    return {k: v for k, v in environ.items() if not k.startswith("RAY_") and k != _VISIBLE}


if __name__ == "__main__":
    become_agent(int(sys.argv[1]), sys.argv[2:])
