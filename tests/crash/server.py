"""``jobsphere up`` that kills itself at a durable step: ``python -m tests.crash.server TRACE K WHEN up …``.

Every call that makes something durable is a step. Each is written to the file TRACE; the K-th kills the process by
SIGKILL, ``before`` it is done or ``after``. K = -1 kills at none. The product knows nothing of it.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from jobsphere.blob.local import LocalBlobStore
from jobsphere.cli.main import app
from jobsphere.runner.local import LocalRunner
from jobsphere.store.sqlite import SqliteJobStore

STEPS = (
    (SqliteJobStore, "add_job"),
    (SqliteJobStore, "update_job"),
    (SqliteJobStore, "delete_job"),
    (LocalBlobStore, "receive"),
    (LocalBlobStore, "adopt"),
    (LocalBlobStore, "remove"),
    (LocalRunner, "launch"),
    (LocalRunner, "stop"),
    (LocalRunner, "tidy"),
    (LocalRunner, "remove"),
)


def arm(trace: str, kill_at: int, when: str) -> None:
    """Make steps of the calls above."""
    numbers = itertools.count()
    fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def wrap(name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(call)
        async def step(*args: Any, **kwargs: Any) -> Any:
            number = next(numbers)
            os.write(fd, f"{name}\n".encode())
            if number == kill_at and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await call(*args, **kwargs)
            if number == kill_at and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    for owner, name in STEPS:
        setattr(owner, name, wrap(f"{owner.__name__}.{name}", getattr(owner, name)))


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    app(sys.argv[4:])
