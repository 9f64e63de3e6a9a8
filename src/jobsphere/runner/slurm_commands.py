"""Slurm by its commands: sbatch, squeue, scancel, sinfo. What they say goes on in their own words."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import InvalidArgumentError, UnavailableError

TIMEOUT_S = 60.0
PENDING = "PENDING"
_ACTIVE = frozenset(
    {PENDING, "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
    | {"REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_FORMAT = "%i|%T|%N|%r|%j"
_TOLD = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SLURM_CONF")
"""What the commands are given of the server's variables: sbatch hands its own on, and Slurm writes them down."""
_ABSENT = re.compile(
    r"contact slurm controller|timed out|Zero Bytes|temporarily|standby|authentication error|Munge|Connection|"
    r"configuration source|communication|not responding",
    re.IGNORECASE,
)
_GPUS = re.compile(r"gpu:(?:[^:,()]+:)?([0-9]+)")


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A job of Slurm. ``nodes``: where it ran or runs, empty if it never did. ``reason``: why it waits or ended."""

    id: str
    state: str
    nodes: str
    reason: str
    name: str

    @property
    def active(self) -> bool:
        """Whether it waits, or something of it may be left on a node."""
        return self.state in _ACTIVE


async def submit(script: str, options: Sequence[str], lock: int) -> str:
    """Have a job queued: its id. ``lock``: a descriptor that sbatch holds for as long as it may still have it queued.

    Raises:
        InvalidArgumentError: Slurm does not take it, with its words.
        UnavailableError: Slurm cannot be reached; it may have taken the job or not.
    """
    told = await _run(["sbatch", "--parsable", "--export=ALL", *options], script, lock)
    return told.strip().partition(";")[0]


async def jobs(name: str = "") -> list[SlurmJob]:
    """The jobs of this user that Slurm remembers, or those of one name.

    Raises:
        UnavailableError: Slurm cannot be reached.
    """
    which = [f"--name={name}"] if name else []
    told = await _ask("squeue", "--me", "--noheader", "--states=all", f"--format={_FORMAT}", *which)
    return [SlurmJob(*fields) for line in told.splitlines() if len(fields := line.split("|", 4)) == 5]


async def cancel_waiting(job_id: str) -> None:
    """Take a job out of the queue if it has not begun; one that has, or has ended, is left alone.

    Raises:
        UnavailableError: Slurm cannot be reached.
    """
    try:
        await _run(["scancel", f"--state={PENDING}", job_id])
    except InvalidArgumentError as error:
        if "Invalid job id" not in error.public:
            raise


async def cluster_name() -> str:
    """The name of the cluster.

    Raises:
        UnavailableError: Slurm cannot be reached.
    """
    found = re.search(r"^ClusterName\s*=\s*(\S+)", await _ask("scontrol", "show", "config"), re.MULTILINE)
    return found[1] if found else "slurm"


async def nodes_of(partition: str) -> list[NodeCapacity]:
    """What each node of a partition has; none if there is no such partition. GPUs are numbered from 0 on each.

    Raises:
        UnavailableError: Slurm cannot be reached.
    """
    told = await _ask("sinfo", "-N", "--noheader", f"--partition={partition}", "--format=%N|%c|%m|%G")
    return [_capacity(*line.split("|", 3)) for line in told.splitlines() if line.count("|") >= 3]


def total(nodes: Iterable[NodeCapacity]) -> NodeCapacity:
    """What all nodes have together; GPUs are numbered through."""
    found = list(nodes)
    gpus = sum(len(node.gpus) for node in found)
    return NodeCapacity(sum(n.cpus for n in found), sum(n.memory_bytes for n in found), tuple(range(gpus)))


def _capacity(_: str, cpus: str, memory_mb: str, gres: str) -> NodeCapacity:
    gpus = sum(int(count) for count in _GPUS.findall(gres))
    return NodeCapacity(float(cpus), int(memory_mb) << 20, tuple(range(gpus)))


async def _ask(*argv: str) -> str:
    try:
        return await _run(argv)
    except InvalidArgumentError as error:
        raise UnavailableError(f"Slurm: {error.public}") from error


async def _run(argv: Sequence[str], stdin: str = "", lock: int | None = None) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=() if lock is None else (lock,),
            env={name: value for name in _TOLD if (value := os.environ.get(name)) is not None},
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise UnavailableError(f"Slurm: {argv[0]} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIMEOUT_S):  # wait_for of Python 3.11 can lose a cancellation
            out, err = await process.communicate(stdin.encode())
    except TimeoutError as error:
        await _kill(process)
        raise UnavailableError(f"Slurm: {argv[0]} has not come to its end within {TIMEOUT_S:.0f} s") from error
    except asyncio.CancelledError:
        if lock is None:  # sbatch goes on: half a submission is none that could be looked for
            await _kill(process)
        raise
    if process.returncode == 0:
        return out.decode(errors="replace")
    words = _words(err.decode(errors="replace")) or f"{argv[0]} failed with code {process.returncode}"
    if _ABSENT.search(words):
        raise UnavailableError(f"Slurm: {words}")
    raise InvalidArgumentError(words)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _words(err: str) -> str:
    """What a command said, without its own name before each line."""
    lines = (re.sub(r"^\w+: (error|fatal): ", "", line).strip() for line in err.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))
