"""What processes have in memory, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20


def peak_mib(pid: int) -> float:
    """The most that was resident at a time since :func:`forget_peak`."""
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_mib(pid: int) -> float:
    return _kib(Path(f"/proc/{pid}/status"), "VmRSS") / 1024


def unique_mib(pid: int) -> float:
    """What would be free if the process ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return (_kib(rollup, "Private_Clean") + _kib(rollup, "Private_Dirty")) / 1024


def cpu_s(pid: int) -> float:
    """CPU time of all its threads, in seconds."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / 100


def _kib(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
