"""What every step of a supervisor works with: the system log, the step that users see, and the ear for stop orders."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from jobsphere.domain.attempt import SYSTEM_LOG, AttemptPlan, Entered, LogStream, Step, StopOrder
from jobsphere.domain.job import Phase
from jobsphere.runner.frames import MAX_CONTENT, LogWriter
from jobsphere.runner.lines import character_boundary
from jobsphere.runner.processes import ATTEMPT_VARIABLE, Reaper, attempt_mark, start
from jobsphere.runner.room import suppress_full
from jobsphere.runner.rundir import CONTROL, LOGS, STEP, STOP, RunDirectory


class StoppedError(Exception):
    """A stop was asked for: the step that was under way ends here."""


class StepError(Exception):
    """A step failed in a way that the user can understand; the text is for them."""

    def __init__(self, phase: Phase, message: str) -> None:
        super().__init__(message)
        self.phase = phase


class Orders:
    """The stop orders of one attempt. ``fd`` becomes readable when there may be a new one."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        # Both ends are ours: so it never reports a hang-up, and a server that writes finds a reader.
        self.fd = os.open(run.at(CONTROL), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._order = run.glance(STOP, StopOrder)

    def current(self) -> StopOrder | None:
        """The last order that was given; None while there is none."""
        with suppress(BlockingIOError):
            if os.read(self.fd, 4096):
                self._order = self._run.glance(STOP, StopOrder)
        return self._order

    def close(self) -> None:
        """Let go of the FIFO."""
        os.close(self.fd)


class Bench:
    """One attempt's tools. Opened with the lock held; a :class:`jobsphere.domain.ports.Workbench` for builders."""

    def __init__(self, run: RunDirectory, plan: AttemptPlan) -> None:
        self.run_directory = run
        self.plan = plan
        self.mark = attempt_mark(run.path)
        self.orders = Orders(run)
        self.logs = LogWriter(run.at(LOGS))
        self.reaper = Reaper()
        self.entered: list[Entered] = []

    def close(self) -> None:
        """Let go of the log and the orders."""
        self.logs.close()
        self.orders.close()

    def log(self, line: str) -> None:
        """Write one line to the system log, if the disk has room for it."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = f"{stamp} {line}\n".encode(errors="replace")
        while content:
            cut = len(content) if len(content) <= MAX_CONTENT else character_boundary(content, MAX_CONTENT)
            with suppress_full():  # what happened is told by a record too, which has room of its own
                self.logs.append(LogStream.FILE, [content[:cut]], SYSTEM_LOG)
            content = content[cut:]

    def enter(self, phase: Phase) -> Phase:
        """Note that a phase begins."""
        self.entered.append(Entered(phase, datetime.now(UTC)))
        return phase

    def step(self, message: str, percent: int) -> None:
        """Tell the user what is being done."""
        self.run_directory.write(STEP, Step(message, percent))

    def check(self) -> None:
        """Go on only if nobody asked for a stop.

        Raises:
            StoppedError: somebody did.
        """
        if self.orders.current() is not None:
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Wait, but not for longer than it takes somebody to ask for a stop."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.orders.fd, select.POLLIN)
        self.check()
        while (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self.check()

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> Bench:  # noqa: ARG002 - as the port has it
        """Itself: an attempt without a sandbox has no fence for its build either."""
        return self

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        """Run a program to its end, both of its outputs as lines to ``on_line``; its exit code.

        Raises:
            StoppedError: a stop was asked for; the program and all below it are gone.
            OSError: it cannot be started.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            marked = {**env, ATTEMPT_VARIABLE: self.mark}
            pid = start(argv, marked, self.run_directory.at("tmp"), writer, writer)
            self.reaper.remember(pid)
            os.close(writer)
            writer = -1
            self._read_lines(reader, on_line)
            return self._end_of(pid)
        finally:
            self.reaper.end_all()
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)

    def _read_lines(self, reader: int, on_line: Callable[[str], None]) -> None:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(self.orders.fd, select.POLLIN)
        held = b""
        while True:
            ready = {fd for fd, _ in poll.poll()}
            self.check()
            if reader not in ready:
                continue
            data = os.read(reader, MAX_CONTENT)
            *lines, held = (held + data).split(b"\n")
            for line in lines if data else filter(None, [held]):
                on_line(line.decode(errors="replace").rstrip("\r"))
            if not data:
                return

    def _end_of(self, pid: int) -> int:
        while (end := self.reaper.ended(pid)) is None:
            self.pause(0.005)  # its outputs are closed: it ends at any moment
            self.reaper.reap()
        return end[0]
