"""A private Slurm from Debian's packages: munged, slurmctld and one slurmd on free ports of loopback, in one folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.live import processes_of, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NAME, PARTITION, NODE = "testcluster", "jobs", "n1"
CPUS, MEMORY_MB = 8, 4000
_PATH = f"{os.environ['PATH']}:/usr/sbin"
_CONFIG = """
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SlurmdTimeout=300
MinJobAge={remembered_s}
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName={partition} Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """One cluster of one node. ``environ``: what its commands need to find it."""

    def __init__(self, folder: Path, remembered_s: int = 300) -> None:
        self._folder = folder
        self._remembered_s = remembered_s
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.environ = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start all of it, and wait until its node takes jobs."""
        for name in ("munge", "state", "spool"):
            (self._folder / name).mkdir(mode=0o700)
        key = self._folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self._folder / "slurm.conf").write_text(self._config())
        self.start_munged()
        self.start_controller()
        self.start_node()

    def start_munged(self) -> None:
        """Start what signs its messages."""
        munge = self._folder / "munge"
        self._run("munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key",
                  f"--pid-file={munge}/pid", f"--seed-file={munge}/seed", f"--log-file={munge}/log")  # fmt: skip
        wait_for((munge / "socket").exists, "munged listens")

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._run("slurmctld", "-D")
        wait_for(lambda: "UP" in self.told("scontrol", "ping"), "slurmctld answers")

    def start_node(self) -> None:
        """Start slurmd, and wait until its node takes jobs."""
        self._run("slurmd", "-D", "-N", NODE)
        wait_for(lambda: "idle" in self.told("sinfo", "--noheader", "--format=%t"), f"{NODE} takes jobs")

    def kill_node(self) -> None:
        """The power of the node fails: slurmd and all that it has started are gone."""
        self._kill("slurmd")
        conf = self.environ["SLURM_CONF"]
        steps = [pid for pid, command in processes_of(conf).items() if "slurmstepd" in command]
        ours = [pid for pid in processes_of("SLURM_JOB_ID=") if pid in processes_of(conf)]
        for pid in (*steps, *sorted(ours)):  # parents first: nobody is to see another's end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_controller(self) -> None:
        """Kill slurmctld; its jobs go on."""
        self._kill("slurmctld")

    def told(self, *command: str) -> str:
        """What a command of it says, on both outputs."""
        done = subprocess.run(command, env={**os.environ, **self.environ}, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def jobs(self) -> Mapping[str, str]:
        """Its jobs by their ids, with their states: also ended ones."""
        told = self.told("squeue", "--noheader", "--states=all", "--format=%i %T")
        return dict(line.split() for line in told.splitlines())

    def stop(self) -> None:
        """End it with all of its jobs."""
        self.kill_node()
        for name in ("slurmctld", "munged"):
            self._kill(name)

    def _run(self, program: str, *options: str) -> None:
        with (self._folder / f"{program}.out").open("ab") as log:
            self._started[program] = subprocess.Popen(
                [program, *options], stdout=log, stderr=log, env={**os.environ, "PATH": _PATH, **self.environ}
            )

    def _kill(self, program: str) -> None:
        process = self._started.pop(program, None)
        if process is not None:
            process.kill()
            process.wait()

    def _config(self) -> str:
        with ExitStack() as stack:
            ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(2)]
        return _CONFIG.format(
            name=NAME, host=socket.gethostname().split(".")[0], controller_port=ports[0], node_port=ports[1],
            user=getpass.getuser(), folder=self._folder, remembered_s=self._remembered_s, node=NODE, cpus=CPUS,
            memory=MEMORY_MB, partition=PARTITION,
        )  # fmt: skip


def lacking() -> list[str]:
    """Those of Slurm's programs that are not installed here."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


def need_slurm() -> None:
    """Skip the test where Slurm's programs are missing, by their names; not where CI has to have them."""
    if (missing := lacking()) and "CI" not in os.environ:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)")


@contextmanager
def slurm_cluster() -> Generator[Slurm]:
    """A started cluster, ended with all that is its own."""
    need_slurm()
    folder = Path(tempfile.mkdtemp(prefix="jobsphere-slurm-"))
    slurm = Slurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)
