"""The user's program: its start, its output into the log, stop orders, its end and the end of all that it started."""

from __future__ import annotations

import fcntl
import mmap
import os
import posixpath
import select
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from jobsphere.domain.attempt import DOCKER_STATS, GPU_STATS, Ended, EndReason, LogStream, Started, StopOrder
from jobsphere.domain.command import WORK
from jobsphere.domain.job import Phase
from jobsphere.durable import Point, durable
from jobsphere.runner.bench import Bench, StepError
from jobsphere.runner.cgroups import Group, Memory
from jobsphere.runner.command_line import SYSTEM_PATH, program_argv, program_environment
from jobsphere.runner.confinement import Command, Confinement
from jobsphere.runner.group import end_group, out_of_memory
from jobsphere.runner.lines import LineCutter
from jobsphere.runner.processes import ATTEMPT_VARIABLE, start
from jobsphere.runner.room import FULL, blame, is_full, suppress_full
from jobsphere.runner.rundir import STARTED
from jobsphere.runner.secrets import Masker
from jobsphere.runner.stats import INTERVAL_S, TreeSampler, gpu_command
from jobsphere.runner.storage import Quota

TAIL_BYTES, TAIL_LINES = 2048, 20
DEFAULT_GRACE_S = 30.0
"""How long a signalled program may take when its order names no deadline."""
_SIGNAL_AGAIN_S = 0.01
_PIPE_BYTES = 1 << 20
_CALM_MS = 2
"""A pipe that gave little is left alone for so long: fewer, larger reads, and the program is not slowed."""
_LITTLE = 32 * 1024
_ROOM_S, _ROOM_AGAIN_S = 10.0, 0.1
"""How long the log waits on a full disk for the job that fills it to be ended."""
_BLAME_S = 5.0


class _Pipe:
    """One output of the program on its way into the log."""

    __slots__ = ("cutter", "fd", "masker", "path", "stream", "tail")

    def __init__(self, fd: int, stream: LogStream, path: str = "", masker: Masker | None = None) -> None:
        os.set_blocking(fd, False)
        with suppress(OSError):  # the user's share of pipe memory is used up: the default size does
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.fd, self.stream, self.path = fd, stream, path
        self.cutter = LineCutter()
        self.masker = masker
        self.tail = b""


class Program:
    """The program of one attempt, from its start to the end of its whole tree.

    ``secrets`` are variables of it, ``hidden`` more values that a masked log does not show.

    Raises (making one):
        StepError: it could not be started.
    """

    def __init__(
        self,
        bench: Bench,
        prefix: str | None,
        confinement: Confinement,
        group: Group,
        secrets: Mapping[str, str] | None = None,
        hidden: Sequence[str] = (),
    ) -> None:
        self._bench = bench
        self._secrets = secrets or {}
        self._hidden = (*self._secrets.values(), *hidden)
        self._confinement = confinement
        self._group = group
        self._poll, self._calm = select.poll(), select.poll()
        self._pipes: dict[int, _Pipe] = {}
        self._buffer = memoryview(mmap.mmap(-1, _PIPE_BYTES))  # costs memory only as far as it is filled
        self._sampler = TreeSampler(group.pids)
        self._sampler.spared |= bench.reaper.spared
        self._obeyed: StopOrder | None = None
        self._kill_at: float | None = None
        self._unsent = 0
        self._next_blame = 0.0
        self._quota = Quota(bench)
        self._gpu = gpu_command(bench.plan.limits.gpus if bench.plan.limits else None)
        try:
            self._pid = self._begin(self._command(prefix))
        except BaseException:
            end_group(bench.run_directory)
            bench.reaper.end_all()
            raise
        self._pidfd = os.pidfd_open(self._pid)
        for fd in (self._pidfd, bench.orders.fd):
            self._poll.register(fd, select.POLLIN)
            self._calm.register(fd, select.POLLIN)
        self._next_sample = time.monotonic() + INTERVAL_S
        bench.logs.append(LogStream.FILE, [self._sampler.header()], DOCKER_STATS)

    def finish(self) -> Ended:
        """Carry it to its end. When this returns or raises, no process of the tree is left.

        Raises:
            OSError: the log cannot be written.
            NoRoomError: the disk is full of this job's files.
            StepError: its working directory outgrew its quota.
        """
        stopped = True
        try:
            stopped = self._carry()
        finally:
            if stopped:  # what it has not closed may be on its way to a bucket for minutes: nobody waits for that
                self._bench.reaper.end_spared()
            self._quota.close()
            memory = self._group.memory()
            end_group(self._bench.run_directory)
            self._bench.reaper.end_all()
            self._confinement.end()
        self._drain()
        ended = self._bench.reaper.ended(self._pid)
        code, usage = ended or (0, None)
        last = self._sampler.last(usage.ru_maxrss * 1024 if usage else 0)
        with suppress_full():
            self._bench.logs.append(LogStream.FILE, [last], DOCKER_STATS)
        os.close(self._pidfd)
        return self._ended(code, memory, stopped=stopped)

    def _append(self, stream: LogStream, contents: Sequence[bytes], path: str = "") -> None:
        """Write to the log; on a full disk wait for room, unless it is this job that takes it all.

        Raises:
            NoRoomError: it is.
            OSError: no room has come, or the log cannot be written for another reason.
        """
        until = time.monotonic() + _ROOM_S
        while True:
            try:
                return self._bench.logs.append(stream, contents, path)
            except OSError as error:
                if error.errno not in FULL or time.monotonic() > until:
                    raise
            self._blame()
            time.sleep(_ROOM_AGAIN_S)

    def _blame(self) -> None:
        now = time.monotonic()
        if now >= self._next_blame:
            blame(self._bench.run_directory.path)
            self._next_blame = now + _BLAME_S

    def _ended(self, code: int, memory: Memory, *, stopped: bool) -> Ended:
        now = datetime.now(UTC)
        if stopped:
            self._bench.log(f"The program was stopped (code {code}); no process of it is left")
            return Ended(now, EndReason.STOPPED, code, Phase.RUN, "The program was stopped")
        self._bench.log(f"The program ended with code {code}")
        why = out_of_memory(self._bench, memory) or (self._confinement.verdict() if code else "")
        if why:
            self._bench.log(why)
        if not code:
            return Ended(now, EndReason.EXITED, code)
        return Ended(now, EndReason.EXITED, code, Phase.RUN, "\n".join(t for t in (why, self._tail()) if t))

    def _tail(self) -> str:
        errors = next((p for p in self._pipes.values() if p.stream is LogStream.ERR), None)
        text = errors.tail.decode(errors="replace") if errors else ""
        return "\n".join(text.lstrip("\ufffd").splitlines()[-TAIL_LINES:])

    def _command(self, prefix: str | None) -> Command:
        bench, root = self._bench, self._confinement.root
        mounted = {mount: self._confinement.seen(mount) for mount in bench.plan.mounts}
        places = {mount.variable: place for mount, place in mounted.items() if mount.variable}
        try:
            environment = program_environment(bench.plan, root, prefix, bench.mark, {**self._secrets, **places})
            argv = program_argv(bench.plan, root, prefix, mounted)
            return self._confinement.command(argv, environment, posixpath.join(root, WORK))
        except (OSError, ValueError) as error:
            raise self._not_started(error) from error

    def _begin(self, command: Command) -> int:
        """Start the program, and not before its ``started`` record is durable; its process id.

        Where the command has a gate, the record is written while what the program runs in is being made.
        """
        if command.gate is None:
            self._record()
            return self._start(command, command.descriptors)
        try:
            pid = self._start(command, (*command.descriptors, command.gate))
            self._record()
            os.write(command.gate, b"!")
        finally:
            os.close(command.gate)
        return pid

    def _record(self) -> None:
        self._bench.run_directory.record(STARTED, Started(datetime.now(UTC)))

    def _start(self, command: Command, descriptors: Sequence[int]) -> int:
        out, out_writer = os.pipe2(os.O_CLOEXEC)
        err, err_writer = os.pipe2(os.O_CLOEXEC)
        try:
            with self._group.joined(), durable(Point.PROGRAM_START):
                pid = start(command.argv, command.environment, command.cwd, out_writer, err_writer, descriptors)
        except (OSError, ValueError) as error:
            os.close(out)
            os.close(err)
            raise self._not_started(error) from error
        finally:
            for fd in (out_writer, err_writer, *command.descriptors):
                os.close(fd)
        self._bench.reaper.remember(pid)
        self._add(_Pipe(out, LogStream.OUT, masker=self._masker()))
        self._add(_Pipe(err, LogStream.ERR, masker=self._masker()))
        return pid

    def _not_started(self, error: OSError | ValueError) -> StepError:
        with suppress(OSError):  # why it did not start is the word that counts
            self._confinement.end()
        what = getattr(error, "strerror", None) or str(error)
        return StepError(Phase.RUN, f"The program could not be started: {what}")

    def _masker(self) -> Masker | None:
        return Masker(self._hidden) if self._hidden and self._bench.plan.mask_secrets else None

    def _add(self, pipe: _Pipe) -> None:
        self._pipes[pipe.fd] = pipe
        self._poll.register(pipe.fd, select.POLLIN)

    def _carry(self) -> bool:
        """Until the program ends (False) or is to be killed (True); a graceful stop counts once it has been obeyed."""
        if self._obey():
            return True
        little = False
        while True:
            if little and any(fd == self._pidfd for fd, _ in self._calm.poll(_CALM_MS)):
                return self._obeyed is not None
            ready = [fd for fd, _ in self._poll.poll(self._patience_ms())]
            read = sum(self._pump(self._pipes[fd]) for fd in ready if fd in self._pipes)
            little = 0 < read < _LITTLE
            if self._pidfd in ready:
                return self._obeyed is not None
            if (self._bench.orders.fd in ready and self._obey()) or self._tick():
                return True

    def _patience_ms(self) -> float:
        moments = [self._next_sample, *(d for p in self._pipes.values() if (d := p.cutter.due()) is not None)]
        left = min(moments) - time.monotonic()
        if self._kill_at is not None:
            left = min(left, self._kill_at - time.time())
        if self._unsent:
            left = min(left, _SIGNAL_AGAIN_S)
        return max(left * 1000, 0) + 0.5

    def _obey(self) -> bool:
        """Act on a new stop order; whether the tree is to be killed now."""
        order = self._bench.orders.current()
        if order is None or order == self._obeyed:
            return False
        self._obeyed = order
        if order.signal == 0:
            self._bench.log("A stop was asked for: killing the program")
            return True
        self._kill_at = order.deadline.timestamp() if order.deadline else time.time() + DEFAULT_GRACE_S
        left = self._kill_at - time.time()
        self._bench.log(f"A stop was asked for: sending signal {order.signal}, killing the program in {left:.0f} s")
        self._signal(order.signal)
        return False

    def _signal(self, number: int) -> None:
        """Pass a stop order's signal on; one that finds no program yet is due again in a moment."""
        self._unsent = 0
        if self._bench.reaper.ended(self._pid) is None:
            try:
                self._confinement.signal(self._pid, number)
            except ProcessLookupError:
                self._unsent = number

    def _tick(self) -> bool:
        """What is due now; whether the tree is to be killed."""
        now = time.monotonic()
        for pipe in self._pipes.values():
            self._append(pipe.stream, pipe.cutter.expire(now), pipe.path)
        if now >= self._next_sample:
            self._next_sample = now + INTERVAL_S
            self._sample()
        if self._unsent:
            self._signal(self._unsent)
        if self._kill_at is not None and time.time() >= self._kill_at:
            self._bench.log("The program has not ended in time: killing it")
            return True
        return False

    def _sample(self) -> None:
        self._bench.reaper.reap()  # orphans that ended meanwhile
        if is_full(self._bench.run_directory.path):
            self._blame()
        with suppress_full():
            self._bench.logs.append(LogStream.FILE, [self._sampler.sample()], DOCKER_STATS)
        if measuring := self._quota.look():
            self._sampler.spared.add(measuring)
        if self._gpu is not None:
            self._start_gpu_table(self._gpu)
            self._gpu = None

    def _start_gpu_table(self, argv: list[str]) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            environment = {"PATH": SYSTEM_PATH, ATTEMPT_VARIABLE: self._bench.mark}
            self._sampler.spared.add(start(argv, environment, "/", writer, writer))
        finally:
            os.close(writer)
        self._add(_Pipe(reader, LogStream.FILE, GPU_STATS))

    def _pump(self, pipe: _Pipe) -> int:
        """Move what is in the pipe into the log; how many bytes that was."""
        try:
            count = os.readv(pipe.fd, [self._buffer])
        except BlockingIOError:
            return 0
        if not count:
            self._poll.unregister(pipe.fd)
            return 0
        data = bytes(self._buffer[:count])
        if pipe.masker is not None:
            data = pipe.masker.feed(data)
        self._write(pipe, data)
        return count

    def _write(self, pipe: _Pipe, data: bytes) -> None:
        if pipe.stream is LogStream.ERR:
            pipe.tail = (pipe.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        elif pipe.path:
            data = data.replace(b", ", b"\t")
        self._append(pipe.stream, pipe.cutter.feed(data, time.monotonic()), pipe.path)

    def _drain(self) -> None:
        """All writers are gone: what is in the pipes now is the rest."""
        for pipe in self._pipes.values():
            while self._pump_rest(pipe):
                pass
            if pipe.masker is not None:
                self._write(pipe, pipe.masker.finish())
            self._append(pipe.stream, pipe.cutter.finish(), pipe.path)
            os.close(pipe.fd)

    def _pump_rest(self, pipe: _Pipe) -> int:
        if pipe.fd in {fd for fd, _ in self._poll.poll(0)}:
            return self._pump(pipe)
        return 0
