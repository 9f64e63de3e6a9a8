"""The program of an attempt: what it is given, what becomes of what it writes, how its end is told."""

import io
import os
import resource
import sys
import zipfile

import pytest
from supervisors import open_node, output

from jobsphere.domain.artifact import ArtifactKind, Compression, FileDesc, FileErrorType
from jobsphere.domain.attempt import DOCKER_STATS, SYSTEM_LOG, EndReason, LogStream, StopOrder
from jobsphere.domain.command import OutputPlace
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import Phase
from jobsphere.runner import directories


@pytest.fixture
async def node(tmp_path):
    async with open_node(tmp_path) as opened:
        yield opened


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, data in files.items():
            target.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def files_of(seen, kind):
    return {f.file.desc.path: f for f in seen.collected.files if f.kind is kind}


async def test_an_attempt_from_launch_to_collected(node):
    seen = await node.run("echo out; echo err >&2; echo data > r.txt", outputs=(output("r.txt"),))
    assert (seen.ended.reason, seen.ended.code, seen.ended.phase) == (EndReason.EXITED, 0, None)
    assert seen.started.at <= seen.ended.at <= seen.collected.at
    assert await node.text() == "out\n"
    assert await node.text(LogStream.ERR) == "err\n"
    result = files_of(seen, ArtifactKind.OUTPUT)["r.txt"]
    assert node.runner.outbox("a1", result.name).read_text() == "data\n"
    assert result.file.size_bytes == 5
    assert set(files_of(seen, ArtifactKind.LOG)) == {"stdout.txt", "stderr.txt", "system.log"}
    assert "ended with code 0" in node.runner.outbox("a1", "system.log").read_text()
    assert seen.collected.log_bytes == await node.runner.log_size("a1") == node.at("logs").stat().st_size


@pytest.mark.parametrize(
    ("cmd", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("no-such-program", 127), ("kill -TERM $$", 143)]
)
async def test_the_code_of_the_program(node, cmd, code):
    seen = await node.run(cmd)
    assert (seen.ended.reason, seen.ended.code, seen.ended.phase) == (EndReason.EXITED, code, Phase.RUN)


async def test_a_failure_shows_the_last_lines_of_stderr(node):
    seen = await node.run("seq 1000 >&2; echo no >&1; exit 1")
    assert seen.ended.message.splitlines() == [str(n) for n in range(981, 1001)]


async def test_a_million_lines_are_all_there_when_the_program_exits_at_once(node):
    await node.run("seq 1000000")
    assert await node.text() == "".join(f"{n}\n" for n in range(1, 1_000_001))
    assert (node.at("outbox") / "stdout.txt").read_text() == await node.text()


async def test_the_last_words_are_there_however_little_time_is_left(node):
    """What is written while the supervisor leaves the pipe alone for a moment."""
    for n in range(20):
        await node.run("echo first; read -t 0.001; printf last", f"a{n}")
        assert await node.text(name=f"a{n}") == "first\nlast"


async def test_bytes_that_are_no_text_pass_through(node):
    data = os.urandom(300_000)
    seen = await node.run("cat blob; printf end >&2", inputs=(node.input(data, "work/blob"),))
    assert seen.ended.code == 0
    assert b"".join(f.content for f in await node.frames() if f.stream is LogStream.OUT) == data
    assert await node.text(LogStream.ERR) == "end"


async def test_a_prompt_without_a_line_end_shows_while_the_program_waits(node):
    await node.runner.launch(node.plan("mkfifo pipe; printf 'ready: '; read x < pipe"))
    await node.printed("ready: ")
    seen = await node.runner.observe("a1")
    assert seen.alive
    assert seen.ended is None


async def test_the_program_gets_its_own_environment_and_no_other(node, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    await node.run("env", variables=(("A", "1"), ("WITH-DASH", "é x"), ("LANG", "C")))
    env = dict(line.split("=", 1) for line in (await node.text()).splitlines())
    assert (env["A"], env["WITH-DASH"], env["LANG"]) == ("1", "é x", "C")
    assert env["HOME"] == str(node.at("home"))
    assert env["PWD"] == str(node.at("work"))
    assert env["JOBSPHERE_ATTEMPT"].startswith("a1.")
    assert env["JOBSPHERE_JOB_ID"] == "job1"
    assert set(env) <= {
        "A", "WITH-DASH", "LANG", "HOME", "PWD", "TMPDIR", "USER", "LOGNAME", "PATH", "PYTHONUNBUFFERED", "SHLVL", "_",
        "JOBSPHERE_ATTEMPT", "JOBSPHERE_JOB_ID",
    }  # fmt: skip


async def test_the_program_has_no_descriptor_and_no_signal_of_ours(node):
    await node.run("ls /proc/self/fd; grep SigIgn /proc/self/status; head -c1 | wc -c")
    *fds, ignored, read = (await node.text()).split("\n")[:-1]
    assert fds == ["0", "1", "2", "3"]  # 3 is the folder that ls itself reads
    # Signals 32 and 33 are the C library's own: nobody can set them, and they come from whoever started the tests.
    assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0
    assert read == "0"


async def test_variables_of_the_command(node):
    await node.run(
        "cat ${IN} > ${OUT}; echo ${N} ${OTHER} $HOME",
        inputs=(node.input(b"hello", "inputs/0/in"),),
        outputs=(OutputPlace(FileDesc("/abs/o", "OUT"), "outputs/0/o"),),
        literals=(("N", "5"),),
        locations=(("IN", "inputs/0/in"), ("OUT", "outputs/0/o")),
    )
    assert node.at("outputs/0/o").read_text() == "hello"
    assert await node.text() == f"5 {node.at('home')}\n"


async def test_files_folders_and_modules_are_staged(node):
    seen = await node.run(
        "./sub/r.sh && cat log d/x/y && ls empty && PATH=$PY:$PATH python -c 'import m; print(m.N)'",
        inputs=(
            node.input(b"#!/bin/sh\necho ran >> log\n", "work/sub/r.sh"),
            node.input(zipped(d__x__y=b"why\n"), "work/d", unpack=True),
            node.input(zipped(), "work/empty", unpack=True),
            node.input(zipped(**{"m.py": b"N = 4"}), "modules", unpack=True, into_target=True),
        ),
        variables=(("PY", str(os.path.dirname(sys.executable))),),
    )
    assert seen.ended.code == 0, await node.text(LogStream.ERR)
    assert await node.text() == "ran\nwhy\n4\n"


async def test_an_input_in_the_way_of_another_fails_the_staging(node):
    inputs = (node.input(b"1", "work/a"), node.input(b"2", "work/a/b"))
    seen = await node.run("echo never", inputs=inputs, outputs=(output("r"),))
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
    assert "work/a/b" in seen.ended.message
    assert seen.started is None
    assert seen.collected.errors == ()
    assert await node.text() == ""


@pytest.mark.fault("corrupted blob")
async def test_a_corrupted_input_is_never_given_to_the_program(node):
    placement = node.input(b"right", "work/a")
    (node.data / "blobs/p1" / placement.file.sha256[:2] / placement.file.sha256).write_bytes(b"wrong")
    seen = await node.run("cat a", inputs=(placement,))
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
    assert seen.ended.message == "The stored input 'work/a' is corrupted; create the job again to upload it"
    assert seen.started is None
    assert [p.name for p in (node.data / "blobs").rglob("*") if p.is_file()] == [f"p1-{placement.file.sha256}"]


async def test_an_environment_that_cannot_be_had_fails_the_attempt_with_the_resolvers_words(node):
    environment = PythonEnvironment("3.99")
    seen = await node.run("true", environment=environment)
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.ENVIRONMENT)
    assert "3.99" in seen.ended.message


async def test_a_command_too_long_to_start_says_so(node):
    seen = await node.run("true " + "x" * 200_000)
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.RUN)
    assert "too long" in seen.ended.message


async def test_outputs_of_every_kind(node):
    seen = await node.run(
        "mkdir -p o/deep/empty; echo 1 > o/deep/f; ln -s /etc/hostname o/bad; ln -s o/deep/f link;"
        "ln -s /etc/hostname out; mkfifo pipe; ln -s nowhere broken",
        outputs=tuple(map(output, ["o/", "link", "out", "pipe", "missing", "broken"])),
    )
    outputs = files_of(seen, ArtifactKind.OUTPUT)
    assert outputs["o/"].file.compression is Compression.ZIP
    archive = zipfile.ZipFile(node.runner.outbox("a1", outputs["o/"].name))
    assert archive.namelist() == ["o/", "o/deep/", "o/deep/empty/", "o/deep/f"]
    assert node.runner.outbox("a1", outputs["link"].name).read_text() == "1\n"
    errors = {e.desc.path: e for e in seen.collected.errors}
    assert set(errors) == {"o/", "out", "pipe", "missing", "broken"}
    assert errors["missing"].type is FileErrorType.NOT_FOUND
    assert {errors[n].type for n in errors if n != "missing"} == {FileErrorType.UPLOAD_FAILED}
    assert "o/bad" in errors["o/"].description
    assert all(e.description in node.runner.outbox("a1", "system.log").read_text() for e in seen.collected.errors)


async def test_an_output_of_more_than_the_limit_is_named(node):
    seen = await node.run("truncate -s 6G big", outputs=(output("big"),))
    (error,) = seen.collected.errors
    assert "6.0 GiB" in error.description
    assert "5.0 GiB" in error.description


async def test_usage_is_sampled_even_for_a_short_program(node):
    await node.run("head -c 20000000 /dev/zero | sha256sum")
    header, *lines = (await node.text(LogStream.FILE, path=DOCKER_STATS)).splitlines()
    assert header.split("\t")[:3] == ["time", "cpu_percent", "mem_bytes"]
    assert len(lines) >= 1
    assert float(lines[-1].split("\t")[1]) > 0


async def test_usage_of_the_whole_tree_is_sampled_while_it_runs(node):
    await node.runner.launch(node.plan("(while :; do :; done) & wait"))
    await node.observed("a1", lambda seen: seen.started)
    await node.printed("pids")
    await node.printed("\t2\n")
    await node.runner.stop("a1", StopOrder())
    table = await node.text(LogStream.FILE, path=DOCKER_STATS)
    line = next(x for x in table.splitlines() if x.endswith("\t2")).split("\t")
    assert float(line[1]) > 10
    assert int(line[2]) > 1_000_000


async def test_the_steps_are_told_in_the_system_log(node):
    await node.run("true", inputs=(node.input(b"1", "work/a"),), outputs=(output("a"),))
    log = await node.text(LogStream.FILE, path=SYSTEM_LOG)
    assert [w in log for w in ("Staged 1 inputs", "ended with code 0", "Collected 1 of 1")] == [True] * 3


@pytest.mark.fault("a file system that fills up")
async def test_a_full_disk_ends_the_attempt_with_the_words_of_the_system(node):
    """The node inherits a limit on file sizes: its log cannot grow beyond it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        seen = await node.run("seq 1000000; sleep 1000")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.RUN)
    assert "File too large" in seen.ended.message


async def test_where_the_logs_of_ended_attempts_were_looked_at_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(directories, "_REMEMBERED", 10)
    async with open_node(tmp_path) as node:
        for number in range(20):
            ended = tmp_path / "ended" / f"a{number}"
            ended.mkdir()
            (ended / "logs").touch()
            assert await node.runner.log_size(ended.name) == 0
        assert len(node.runner._sizes) == 10
