"""What a supervisor's tree uses, once a second, as lines of a table."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from jobsphere.runner.processes import tree

INTERVAL_S = 1.0
COLUMNS = ("time", "cpu_percent", "mem_bytes", "read_bytes", "write_bytes", "pids")
"""UTC; CPU since the line before, 100 for each busy core; resident memory, shared pages counted for each process; bytes
read from and written to storage since the start; processes. In the last line, mem_bytes is the peak of the largest
process, since nothing runs any more."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GPU_FIELDS = "timestamp,index,name,utilization.gpu,utilization.memory,memory.used,memory.total,temperature.gpu"


class TreeSampler:
    """Samples the program's processes. Counters of ended ones are in those of their parents.

    ``pids`` lists them at the price of their number; where it cannot, all of this host's are looked through for the
    descendants of this process, but for those in ``spared``.
    """

    def __init__(self, pids: Callable[[], Sequence[int] | None]) -> None:
        self.spared: set[int] = set()
        self._pids = pids
        self._at = time.monotonic()
        self._cpu = _cpu_of_collected()
        self._base = _io_of_collected()

    def header(self) -> bytes:
        """The first line of the table."""
        return _line(COLUMNS)

    def sample(self) -> bytes:
        """The line for now."""
        pids = self._pids()
        if pids is None:
            pids = [p for p in tree(os.getpid()) if p not in self.spared]
        cpu, memory = _cpu_of_collected(), 0
        read, written = _io_of_collected()
        for pid in pids:
            seconds, resident = _usage(pid)
            cpu, memory = cpu + seconds, memory + resident
            more_read, more_written = _io(f"/proc/{pid}/io")
            read, written = read + more_read, written + more_written
        return self._row(cpu, memory, (read, written), len(pids))

    def last(self, peak_bytes: int) -> bytes:
        """The line for the end, when all of them are collected."""
        return self._row(_cpu_of_collected(), peak_bytes, _io_of_collected(), 0)

    def _row(self, cpu: float, memory: int, io: tuple[int, int], pids: int) -> bytes:
        now = time.monotonic()
        percent = max(cpu - self._cpu, 0.0) / max(now - self._at, 0.001) * 100
        self._at, self._cpu = now, cpu
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        read, written = (max(total - base, 0) for total, base in zip(io, self._base, strict=True))
        return _line((stamp, f"{percent:.1f}", str(memory), str(read), str(written), str(pids)))


def gpu_command(gpus: Sequence[int] | None) -> list[str] | None:
    """The program that prints a table of these GPUs (None: all) each second; None where there are none."""
    program = shutil.which("nvidia-smi") if gpus is None or gpus else None
    if program is None:
        return None
    chosen = [f"--id={','.join(map(str, gpus))}"] if gpus else []
    return [program, *chosen, f"--query-gpu={_GPU_FIELDS}", "--format=csv", "--loop=1"]


def _line(values: Sequence[str]) -> bytes:
    return ("\t".join(values) + "\n").encode()


def _cpu_of_collected() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _io_of_collected() -> tuple[int, int]:
    """What ended and collected children did: the process' counters without those of its only thread."""
    read, written = _io("/proc/self/io")
    own_read, own_written = _io("/proc/thread-self/io")
    return read - own_read, written - own_written


def _usage(pid: int) -> tuple[float, int]:
    """CPU seconds (its own and those of children that it collected) and resident bytes; zeros if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            values = file.read(1024).rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0
    return sum(map(int, values[11:15])) / _TICKS, int(values[21]) * _PAGE


def _io(path: str) -> tuple[int, int]:
    """Bytes read from and written to storage; zeros where the kernel does not tell."""
    try:
        with open(path, "rb", buffering=0) as file:
            values = dict(line.split(b": ") for line in file.read(1024).splitlines())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0, 0
    return int(values[b"read_bytes"]), int(values[b"write_bytes"])
