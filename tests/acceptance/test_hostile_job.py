"""A hostile job beside a well-behaved neighbour: it harms nobody, it ends, and nothing of it is left."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from jobsphere.runner import cgroups
from jobsphere.runner.crew import IDLE_NAME
from jobsphere.runner.sandbox import why_not
from tests.acceptance.jobfiles import log_text, run_dir
from tests.grpc_client import Api
from tests.live import LiveServer, live_server, processes_of, unmount, wait_for

ENDED_WITHIN_S = 30
"""From a cancel to the end of every process: a limit for hangs on a busy host, never a speed check."""
SMALL_DISK = "64m"
PLANTED = "planted-4c1d-for-the-neighbour-only"
STANDING = {"js-spawner", IDLE_NAME}
MARK = "41241.75"
NEIGHBOUR = "echo up; until [ -e go ]; do sleep 0.05; done; echo done; echo 1 > out"

PIDS = 300
FORK_BOMB = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:  # every process of it
    try:
        if os.fork() == 0: os.setsid()
    except OSError: time.sleep(0.01)
"""
DAEMON = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/"); os.closerange(0, 100)
        os.execve("/bin/sleep", ["sleep", "{MARK}"], {{}})
    os._exit(0)
os.wait()
"""
DEAF = """
import os, signal, subprocess, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try: signal.signal(number, signal.SIG_IGN)
    except OSError: pass
subprocess.Popen(["sleep", "41241.75"], start_new_session=True)
print("up", flush=True)
while True: time.sleep(1)
"""
OUTPUTS = r"""
import os, socket
os.makedirs("d/empty")
targets = {"plan": "../plan.json", "logs": "../logs", "up": "..", "shadow": "/etc/shadow", "own": "/job/work/real"}
for name, target in targets.items():
    os.symlink(target, name)
    os.symlink(target if target[0] == "/" else "../" + target, "d/" + name)
open("real", "w").write("1"); os.link("real", "hard"); os.link("real", "d/hard")
os.mkfifo("fifo"); os.mkfifo(b"d/\x1b]0;title\x07\n2026-01-01 forged"); socket.socket(socket.AF_UNIX).bind("d/socket")
for path in ("device", "d/device"):
    try: os.mknod(path, 0o20666, os.makedev(1, 5))
    except OSError: print("no device")
os.mkdir("s")
for path, size in {"hole": 1 << 20, "huge": 1 << 43, "s/hole": 1 << 43}.items(): open(path, "w").truncate(size)
for name in (b"new\nline", b"\x1b[31mred", b"\xff\xfe", b"\xfd\xfe"): open(b"d/" + name, "w").close()
os.mkdir("deep"); os.chdir("deep")
for _ in range(2500): os.mkdir("x"); os.chdir("x")
"""
LOOK = r"""
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/maps /proc/self/mountinfo | tr '\0' '\n' > seen
find / -path /proc -prune -o -path /usr -prune -o -path /sys -prune -o -print 2>/dev/null > names
find / -path /proc -prune -o -path /usr -prune -o -path /sys -prune -o -path /dev -prune -o -path '*/seen' -prune \
  -o -type f -exec cat {} + >> seen 2>/dev/null
for place in "$1" "$1/key" "$1/jobsphere.db" "$1/run" "$1/attempts" /root /home /etc/shadow; do
  ls -d "$place" >> reached; cat "$place" >> reached
done 2>/dev/null
true
"""


@dataclass
class Scene:
    """A server, its client, and a neighbour that is running."""

    server: LiveServer
    api: Api
    project: str
    jobs: list[str] = field(default_factory=list)

    def start(self, cmd: str, files: dict[str, bytes] | None = None, **more: object) -> str:
        job_id = self.api.create(self.project, cmd, files, **more)
        self.jobs.append(job_id)
        self.api.execute(job_id)
        return job_id

    def attack(self, python: str, *outputs: str, **more: object) -> str:
        return self.start(
            "python3 x.py", {"x.py": python.encode()}, output_files=[pb.FileDesc(path=o) for o in outputs], **more
        )

    def printed(self, job_id: str) -> None:
        wait_for(lambda: "up\n" in log_text(self.server.data_dir, job_id), f"{job_id} runs")

    def neighbour(self) -> str:
        job_id = self.start(
            NEIGHBOUR, env=pb.Environment(vars={"SECRET": PLANTED}), output_files=[pb.FileDesc(path="out")]
        )
        self.printed(job_id)
        return job_id

    def check_neighbour(self, job_id: str) -> None:
        """It was not disturbed, and ends as it does without an attack."""
        (run_dir(self.server.data_dir, job_id) / "work" / "go").touch()
        job = self.api.wait(job_id)
        assert job.status == pb.SUCCESS, job.status_details
        assert self.api.stdout(job_id) == b"up\ndone\n"
        assert self.api.download(job_id, job.output_files) == {"out": b"1\n"}

    def check_nothing_left(self) -> None:
        """No process, no mount, no file but the records; and the server carries the next job."""
        data = str(self.server.data_dir)
        assert self.server.process
        server = self.server.process.pid
        for job_id in self.jobs:
            wait_for(lambda job_id=job_id: not processes_of(f"JOBSPHERE_JOB_ID={job_id}"), "no process of the job")
            wait_for(lambda job_id=job_id: not run_dir(self.server.data_dir, job_id).exists(), "the job is tidied")
            left = {p.name for p in (self.server.data_dir / "ended" / f"{job_id}-1").iterdir()}
            assert not left & {"work", "tmp", "home", "inputs", "outputs", "outbox"}
        wait_for(lambda: _names(processes_of(data).keys() - {server}) <= STANDING, "only the server and the node's own")
        assert not processes_of(MARK)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        assert not [m for m in mounts if m.startswith(f"{data}/")]
        assert self.api.wait(self.start("echo fine")).status == pb.SUCCESS
        assert self.server.process.poll() is None


def _names(pids: Iterable[int]) -> set[str]:
    """What they are called; one that has just ended, nothing."""
    found: set[str] = set()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add(Path(f"/proc/{pid}/comm").read_text().strip())
    return found


@pytest.fixture(scope="module", autouse=True)
def host_can() -> None:
    if reason := why_not():
        pytest.skip(reason)
    if not shutil.which("python3", path="/usr/bin:/bin"):
        pytest.skip("the attacks are written in Python, and this system has none of its own")


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    (data := tmp_path_factory.mktemp("hostile") / "data").mkdir()
    (data / "jobsphere.toml").write_text(f"job_pids = {PIDS}\n")
    with live_server(data) as running:
        yield running


@pytest.fixture
def scene(hostile_server: LiveServer) -> Iterator[Scene]:
    yield from _scene(hostile_server)


@pytest.fixture
def small_scene(tmp_path: Path) -> Iterator[Scene]:
    """On a small file system, made for the data directory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", disk], check=False)
    if mounted.returncode:
        pytest.skip("a file system of its own for this test takes root")
    try:
        with live_server(disk / "data") as running:
            yield from _scene(running)
    finally:
        unmount(disk)


def _scene(server: LiveServer) -> Iterator[Scene]:
    api = Api.of(server)
    yield Scene(server, api, server.client().project)
    api.close()


@pytest.mark.parametrize("graceful", [True, False], ids=["graceful", "at once"])
@pytest.mark.parametrize("attack", [FORK_BOMB, DEAF], ids=["fork bomb", "ignores signals"])
def test_a_cancel_ends_every_process_of_it(scene: Scene, attack: str, graceful: bool) -> None:
    if attack == FORK_BOMB and cgroups.why_not():
        pytest.skip(f"nothing would bound it: {cgroups.why_not()}")
    neighbour = scene.neighbour()
    hostile = scene.attack(
        attack, graceful_shutdown_parameters=pb.GracefulShutdownParameters(signal=15, timeout=Duration(seconds=1))
    )
    scene.printed(hostile)
    if attack == FORK_BOMB:
        wait_for(lambda: len(processes_of(f"JOBSPHERE_JOB_ID={hostile}")) > PIDS / 2, "the bomb has gone off")
    began = time.monotonic()
    scene.api.cancel(hostile, graceful, "enough")
    job = scene.api.wait(hostile)
    wait_for(lambda: not processes_of(f"JOBSPHERE_JOB_ID={hostile}"), "its end")

    assert job.status == pb.CANCELLED
    assert time.monotonic() - began < ENDED_WITHIN_S
    scene.check_neighbour(neighbour)
    scene.check_nothing_left()


def test_a_daemon_of_it_ends_with_it(scene: Scene) -> None:
    neighbour = scene.neighbour()
    job = scene.api.wait(scene.attack(DAEMON))

    assert job.status == pb.SUCCESS
    assert not processes_of(MARK)
    scene.check_neighbour(neighbour)
    scene.check_nothing_left()


def test_it_reads_nothing_that_is_not_its_own(scene: Scene) -> None:
    neighbour = scene.neighbour()
    data = scene.server.data_dir
    hostile = scene.start(
        f"bash look.sh {data}", {"look.sh": LOOK.encode()},
        output_files=[pb.FileDesc(path=name) for name in ("seen", "names", "reached")],
    )  # fmt: skip
    job = scene.api.wait(hostile)
    found = scene.api.download(hostile, job.output_files)

    assert job.status == pb.SUCCESS, job.status_details
    assert b"JOBSPHERE_JOB_ID" in found["seen"]
    assert PLANTED.encode() not in found["seen"]
    assert (data / "key").read_bytes() not in found["seen"]
    assert b"PRIVATE KEY" not in found["seen"]
    assert b"/job/work/names" in found["names"]
    assert str(data).encode() not in found["names"]
    assert b"jobsphere.db" not in found["names"]
    assert found["reached"] == b""
    scene.check_neighbour(neighbour)
    scene.check_nothing_left()


def test_its_outputs_are_collected_from_its_own_folders_or_told(scene: Scene) -> None:
    neighbour = scene.neighbour()
    names = ["plan", "logs", "up", "shadow", "own", "real", "hard", "fifo", "device", "hole", "huge", "s", "d/", "deep"]
    hostile = scene.attack(OUTPUTS, *names)
    job = scene.api.wait(hostile)
    good = scene.api.download(hostile, [f for f in job.output_files if f.desc.path != "d/"])

    assert job.status == pb.SUCCESS, job.status_details
    assert scene.api.stdout(hostile) == b"no device\nno device\n"
    assert {path: len(data) for path, data in good.items() if path != "deep"} == {
        "own": 1, "real": 1, "hard": 1, "hole": 1 << 20
    }  # fmt: skip
    told: dict[str, list[str]] = {}
    for error in job.file_errors:
        told.setdefault(error.output_file_desc.path, []).append(error.description)
    assert {path: len(texts) for path, texts in told.items()} == {
        "plan": 1, "logs": 1, "up": 1, "shadow": 1, "fifo": 1, "device": 1, "huge": 1, "s": 1, "d/": 7, "deep": 1
    }  # fmt: skip
    assert all(text.isprintable() for texts in told.values() for text in texts)
    operation = scene.api.operation(scene.api.execute(hostile).id)
    assert operation.done
    scene.check_neighbour(neighbour)
    scene.check_nothing_left()


FILL = "dd if=/dev/zero of=fill bs=65536; "


@pytest.mark.parametrize("script", [FILL + "sleep 1000", FILL + "exit 0", FILL + "while :; do echo more; done", "yes"])
def test_it_fills_the_disk_and_only_it_fails(small_scene: Scene, script: str) -> None:
    scene = small_scene
    neighbour = scene.neighbour()
    hostile = scene.start(script, output_files=[pb.FileDesc(path="fill")])
    read = scene.api.stdout(hostile)  # to its end, whatever becomes of the log meanwhile
    job = scene.api.wait(hostile)

    assert job.status == pb.ERROR
    assert "No space left on device" in job.status_details
    # What the log got before the job was ended for the disk, perhaps nothing; and not half a line.
    assert set(read.splitlines(keepends=True)) <= {b"y\n", b"more\n"}
    scene.check_neighbour(neighbour)
    scene.check_nothing_left()
