"""What a running server tells the commands beside it: ``run/server.json`` under its data directory.

The file is true only while the server holds ``run/server.lock``: whoever reads it looks at the lock first, never at the
process id, which is there for people.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from jobsphere.domain.errors import AlreadyExistsError, FailedPreconditionError
from jobsphere.durable import Point, durable


def default_data_dir() -> Path:
    """Where everything lives if nothing else is said: ``$XDG_DATA_HOME/jobsphere``, or ``~/.local/share/jobsphere``."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "jobsphere"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Where a running server listens, and its first project. ``host`` is the one for clients."""

    pid: int
    host: str
    grpc_port: int
    proxy_port: int
    http_port: int
    tokens_required: bool
    project_id: str = ""


def run_dir(data_dir: Path) -> Path:
    """The folder for what is true only while something runs; made if it is not there."""
    path = data_dir / "run"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@contextmanager
def only_server(data_dir: Path) -> Generator[None]:
    """Hold the data directory for one server, or for one agent.

    Raises:
        AlreadyExistsError: another one holds it.
    """
    fd = os.open(run_dir(data_dir) / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyExistsError(
            f"a server or an agent is already running on {data_dir}; stop it first, or name another --data-dir"
        ) from None
    try:
        yield
    finally:
        (data_dir / "run" / "server.json").unlink(missing_ok=True)
        os.close(fd)


def publish(data_dir: Path, info: ServerInfo) -> None:
    """Say where the server listens. Called by the holder of the lock, once all ports are bound."""
    path = run_dir(data_dir) / "server.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(info)))
    with durable(Point.SERVER_INFO):
        temporary.replace(path)


def is_held(data_dir: Path) -> bool:
    """Whether a server has the data directory, or is about to have it."""
    try:
        with (data_dir / "run" / "server.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def running_server(data_dir: Path) -> ServerInfo:
    """Where the server of a data directory listens.

    Raises:
        FailedPreconditionError: none is running.
    """
    if is_held(data_dir):
        path = data_dir / "run" / "server.json"
        if path.exists():
            return ServerInfo(**json.loads(path.read_text()))
        raise FailedPreconditionError("the server is still starting; try again in a moment")
    raise FailedPreconditionError(
        f"no server is running on {data_dir}; start one with `jobsphere up` (and the same --data-dir, if you named one)"
    )
