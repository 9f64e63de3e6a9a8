"""What a fenced program sees, reaches and leaves behind: real bubblewrap, real processes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from supervisors import Node, open_node, output
from tests.live import wait_for

from jobsphere.domain.attempt import EndReason, LogStream, SandboxPlan, StopOrder
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.runner.processes import child_of, start
from jobsphere.runner.sandbox import Sandbox, why_not

FENCE = SandboxPlan()


@pytest.fixture(scope="module", autouse=True)
def sandbox_works() -> None:
    reason = why_not()
    if reason and "CI" not in os.environ:
        pytest.skip(reason)
    assert not reason


@pytest.fixture
async def node(tmp_path: Path):
    async with open_node(tmp_path / "data") as opened:
        yield opened


async def test_inputs_outputs_and_logs_are_as_without_a_fence(node: Node) -> None:
    seen = await node.run(
        "cat in.txt > out.txt; pwd; echo to-stderr >&2; exit 3", sandbox=FENCE,
        inputs=(node.input(b"hello", "work/in.txt"),), outputs=(output("out.txt"),),
    )  # fmt: skip

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 3)
    assert await node.text() == "/job/work\n"
    assert await node.text(LogStream.ERR) == "to-stderr\n"
    assert seen.collected
    assert next(f.file.size_bytes for f in seen.collected.files if f.name) == 5


async def test_variables_name_places_in_the_fence(node: Node) -> None:
    await node.run("echo ${IN} $HOME $TMPDIR; touch /tmp/a $TMPDIR/b; ls /job/tmp", sandbox=FENCE,
                   locations=(("IN", "inputs/0/x"),))  # fmt: skip

    assert await node.text() == "/job/inputs/0/x /job/home /job/tmp\na\nb\n"


async def test_the_data_directory_and_other_processes_are_out_of_sight(node: Node) -> None:
    script = f"ls {node.data} /root /home 2>&1 | grep -v 'No such file' ; ls -d /proc/[0-9]* | wc -l; ls /job"
    await node.run(script, sandbox=FENCE)

    count, *rest = (await node.text()).split("\n")[:-1]
    assert int(count) <= 6
    assert sorted(rest) == ["home", "tmp", "work"]


def test_nothing_runs_behind_a_gate_that_nobody_opens(tmp_path: Path) -> None:
    """Also when who would open it is gone: there is no end of file to be taken for leave."""
    for name in ("work", "run"):
        (tmp_path / name).mkdir()
    fence = Sandbox(str(tmp_path), FENCE, str(tmp_path), None)
    command = fence.command(("/bin/sh", "-c", "echo ran > /job/work/ran"), {}, "/job/work")
    assert command.gate is not None
    null = os.open(os.devnull, os.O_WRONLY)
    pid = start(command.argv, command.environment, "/", null, null, (*command.descriptors, command.gate))
    try:
        for fd in (*command.descriptors, command.gate, null):
            os.close(fd)
        init = wait_for(lambda: child_of(pid), "bubblewrap's second process")
        waiting = Path(f"/proc/{init}/wchan")
        wait_for(lambda: waiting.read_text().endswith("pipe_read"), "it waits at the gate")
        assert child_of(init) is None
        assert not (tmp_path / "work/ran").exists()
        with open(f"/proc/{init}/fd/{command.gate}", "wb", buffering=0) as gate:
            gate.write(b"!")
        assert os.waitpid(pid, 0)[1] == 0
        assert (tmp_path / "work/ran").read_text() == "ran\n"
    finally:
        for _ in range(2):  # it is there only if the test has failed
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


@pytest.mark.parametrize(
    "attack",
    [
        "touch /usr/here", "touch /etc/here", "touch /here", "echo x > /etc/passwd", "cat /etc/shadow",
        "mount -t tmpfs none /mnt", "mknod /job/work/disk b 8 0", "kill -9 -1 && touch never",
        "echo 0 > /proc/sys/kernel/panic",
        "echo h > /proc/sysrq-trigger", "unshare --mount true", "chroot / true",
    ],
)  # fmt: skip
async def test_what_would_harm_the_host_fails(node: Node, attack: str) -> None:
    seen = await node.run(attack, sandbox=FENCE)

    assert seen.ended
    assert seen.ended.code != 0


async def test_the_environment_is_the_jobs_own(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SECRET", "not for jobs")
    await node.run("env; cat /proc/*/environ | tr '\\0' '\\n'", sandbox=FENCE, variables=(("WITH-DASH", "yes"),))

    text = await node.text()
    assert "WITH-DASH=yes" in text
    assert "not for jobs" not in text


async def test_without_a_network_only_loopback_is_there(node: Node) -> None:
    await node.run("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '", sandbox=SandboxPlan(network=False))

    assert await node.text() == "lo\n"


async def test_more_folders_can_be_shown_read_only(node: Node, tmp_path: Path) -> None:
    shared = tmp_path / "weights"
    shared.mkdir()
    (shared / "model.bin").write_text("weights")

    seen = await node.run(
        f"cat {shared}/model.bin && ! touch {shared}/x", sandbox=SandboxPlan(read_only=(str(shared),))
    )

    assert seen.ended
    assert seen.ended.code == 0


async def test_an_environment_is_read_only_and_its_interpreter_runs(node: Node) -> None:
    script = (
        "python -c 'import sys; print(sys.prefix != sys.base_prefix)'; touch $VIRTUAL_ENV/x 2>/dev/null || echo kept"
    )
    await node.run(script, sandbox=FENCE, environment=PythonEnvironment("3.11"))

    assert await node.text() == "True\nkept\n"


async def test_a_signal_reaches_the_program_and_its_group(node: Node) -> None:
    script = "trap 'echo got it; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    await node.runner.launch(node.plan(script, sandbox=FENCE))
    await node.printed("up\n")
    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + timedelta(hours=1)))
    seen = await node.end()

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.STOPPED, 0)
    assert "got it" in await node.text()


async def test_an_order_before_the_program_has_begun_is_not_lost(node: Node) -> None:
    await node.runner.launch(node.plan("sleep 41234.5", sandbox=FENCE))
    await node.observed("a1", lambda seen: seen.started)
    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + timedelta(hours=1)))
    seen = await node.end()

    assert seen.ended
    assert seen.ended.reason is EndReason.STOPPED


async def test_a_program_killed_by_a_signal_returns_128_and_its_number(node: Node) -> None:
    seen = await node.run("kill -SEGV $$", sandbox=FENCE)

    assert seen.ended
    assert seen.ended.code == 128 + signal.SIGSEGV


@pytest.mark.parametrize("script", ["setsid sleep 41234.6 & setsid sleep 41234.6 & echo up; wait", "sleep 41234.6"])
async def test_nothing_outlives_a_killed_supervisor(node: Node, script: str) -> None:
    await node.runner.launch(node.plan(script, sandbox=FENCE))
    await node.observed("a1", lambda seen: seen.started)
    await node.kill_supervisor()
    await node.runner.launch(node.plan(script, sandbox=FENCE))
    seen = await node.end()

    assert seen.ended
    assert seen.ended.reason is EndReason.LOST
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"41234.6" in _read(p)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_a_variable_of_the_job_never_reaches_bubblewrap(node: Node, tmp_path: Path) -> None:
    """The loader tells, on stderr, every LD_PRELOAD that it cannot load: it may be told of it inside only."""
    library = tmp_path / "outside.so"
    library.write_bytes(b"not a library")
    await node.run("echo in; tr '\\0' ' ' < /proc/1/environ; tr '\\0' ' ' < /proc/1/cmdline", sandbox=FENCE,
                   variables=(("LD_PRELOAD", str(library)), ("TOKEN", "hush")))  # fmt: skip

    assert (await node.text()).startswith("in\n")
    assert "hush" not in await node.text()
    assert "file too short" not in await node.text(LogStream.ERR)
