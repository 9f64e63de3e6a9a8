"""The warm, lean parent that forks a supervisor for each attempt, and outlives the server.

It listens on a Unix socket of the data directory. A request is one line of JSON, ``{"launch": RUN_DIRECTORY, "environ":
{NAME: VALUE}}``; so is its answer, ``{"pid": N}`` or ``{"error": TEXT}``. The variables are for this one supervisor:
the server that asks is not always the one that started the spawner. Being a subreaper, it inherits the tree of a
supervisor that was killed, and ends it. It goes when no supervisor is at work and nobody has been connected for long.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from jobsphere.domain.attempt import AttemptPlan, Collected, Ended, Started, Step, StopOrder
from jobsphere.runner import records
from jobsphere.runner.crew import Crew, Member
from jobsphere.runner.processes import become_subreaper, kill_and_wait, seize_tree, set_process_name
from jobsphere.runner.rundir import boot_id

SOCKET, LOCK = "spawner.sock", "spawner.lock"
IDLE_S = 5.0
_KEPT_FOR_EACH_CPU = 4
_MAX_REQUEST = 64 * 1024


def serve(run_folder: str, supervise: Callable[[str], None], idle_s: float = IDLE_S, generation: str = "") -> bool:
    """Serve launches until idle.

    The calling process goes on in the background: its caller's :func:`os.fork` happens in here once the socket listens,
    and the process that was started exits with code 0 then, so that whoever waits for it knows.

    Args:
        run_folder: Where the socket and the spawner's lock are; made if it is not there.
        supervise: Carries the attempt of a run directory through; called in a process of its own.
        idle_s: How long to stay with nothing to do.
        generation: The code that this is; see :mod:`jobsphere.runner.generation`.

    Returns:
        False if another spawner of this generation serves this folder already.
    """
    Path(run_folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(os.path.join(run_folder, _of(LOCK, generation)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    listener = _listen(run_folder, _of(SOCKET, generation))
    if os.fork():
        os._exit(0)
    _Spawner(os.path.join(run_folder, _of(SOCKET, generation)), listener, supervise, idle_s).serve()
    return True


def connect(run_folder: str, generation: str = "") -> socket.socket:
    """A connection to the spawner of this folder and generation.

    Raises:
        OSError: nobody listens.
    """
    return _at_socket(run_folder, _of(SOCKET, generation), socket.socket.connect)


def _of(name: str, generation: str) -> str:
    """The name of a generation's own file."""
    stem, _, kind = name.partition(".")
    return f"{stem}-{generation}.{kind}" if generation else name


def _listen(run_folder: str, name: str) -> socket.socket:
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(run_folder, name))  # of a dead one: the lock is ours
    listener = _at_socket(run_folder, name, socket.socket.bind)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _at_socket(run_folder: str, name: str, act: Callable[[socket.socket, str], object]) -> socket.socket:
    """Bind or connect by way of the folder's descriptor: a socket's path holds 107 bytes, a folder's may be longer."""
    folder = os.open(run_folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        act(channel, f"/proc/self/fd/{folder}/{name}")
    except OSError:
        channel.close()
        raise
    finally:
        os.close(folder)
    return channel


class _Spawner:
    def __init__(self, path: str, listener: socket.socket, supervise: Callable[[str], None], idle_s: float) -> None:
        self._path, self._listener, self._idle_s = path, listener, idle_s
        self._buffers: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._crew = Crew(self._selector, supervise, _KEPT_FOR_EACH_CPU * (os.cpu_count() or 1))

    def serve(self) -> None:
        become_subreaper()
        set_process_name("js-spawner")
        os.umask(0o077)
        records.warm(AttemptPlan, Collected, Ended, Started, Step, StopOrder)
        boot_id()  # remembered, with all that reading it takes
        wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _reset_signals()
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_only)
        self._selector.register(wake, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # what is shared with the forked stays shared: a collection there touches none of it
        while self._serve_once(wake):
            pass
        os.unlink(self._path)

    def _serve_once(self, wake: int) -> bool:
        """One round; whether to go on."""
        busy = self._crew.busy or bool(self._buffers)
        ready = self._selector.select(None if busy and not self._crew.idle else self._idle_s)
        if not ready and not busy:
            return False
        for key, _ in ready:
            if isinstance(key.data, Member):
                self._crew.heard(key.data)
            elif key.fileobj is self._listener:
                self._accept()
            elif key.fd == wake:
                os.read(wake, 4096)
                self._reap()
            elif isinstance(key.fileobj, socket.socket):
                self._receive(key.fileobj)
        self._crew.rest(self._idle_s)
        return True

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            channel, _ = self._listener.accept()
            self._buffers[channel] = b""
            self._selector.register(channel, selectors.EVENT_READ)

    def _receive(self, channel: socket.socket) -> None:
        try:
            data = channel.recv(_MAX_REQUEST)
        except ConnectionError:
            data = b""
        *lines, rest = (self._buffers[channel] + data).split(b"\n")
        self._buffers[channel] = rest
        try:
            for line in lines:
                channel.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:  # gone, or does not read: what was launched is launched
            data = b""
        if not data or len(rest) > _MAX_REQUEST:
            del self._buffers[channel]
            self._selector.unregister(channel)
            channel.close()

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            return {"pid": self._launch(request["launch"], request.get("environ", {}))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _launch(self, run_directory: str, environ: dict[str, str]) -> int:
        self._reap()  # nothing of a killed supervisor is left when the next one looks
        return self._crew.launch(run_directory, environ)

    def _reap(self) -> None:
        """Collect the ended; end the trees that killed supervisors left behind."""
        crashed = False
        for pid, status in _ended_children():
            crashed |= not self._crew.ended(pid) or status != 0
        if crashed:
            self._end_orphans()

    def _end_orphans(self) -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until and (orphans := seize_tree(os.getpid(), self._crew.__contains__)):
            kill_and_wait(orphans)
            for pid, _ in _ended_children():
                self._crew.ended(pid)


def _ended_children() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(child)
    return ended


def _reset_signals() -> None:
    """What the starter ignored or blocked is not the programs' to inherit; the two that Python ignores it restores."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the C library keeps some for itself
                raise


def _wake_only(_: int, __: FrameType | None) -> None:
    """The wake-up descriptor tells."""
