"""Environment builders at a supervisor's bench: their programs run, are listened to, and end with a stop order."""

import asyncio
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from supervisors import gone, until

from jobsphere.domain.attempt import SYSTEM_LOG, AttemptPlan, EndReason, LogStream, StopOrder
from jobsphere.domain.conda import CondaPackages
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import Phase
from jobsphere.domain.ports import BuiltEnvironment, EnvironmentBuildError
from jobsphere.runner.frames import all_frames
from jobsphere.runner.rundir import LOGS, RunDirectory, create_run_directory
from jobsphere.runner.supervisor import Supervisor

PLAN = AttemptPlan("b1", "job1", "p1", "which tool; echo $VIRTUAL_ENV", environment=PythonEnvironment("3.11"))


class ScriptBuilder:
    """Builds by a shell script."""

    def __init__(self, script, prefix):
        self.script, self.prefix = script, prefix

    def ensure(self, environment, bench, inside=None):
        code = bench.run(["sh", "-c", self.script], {"PATH": os.environ["PATH"], "PREFIX": str(self.prefix)}, bench.log)
        if code:
            raise EnvironmentBuildError(f"the script returned {code}")
        bench.pause(0.001)
        return BuiltEnvironment(self.prefix, hit=False)


class WaitingBuilder:
    """Waits for somebody else's build."""

    def ensure(self, environment, bench, inside=None):
        bench.log("waiting")
        bench.pause(1000)
        raise AssertionError("nobody asked for a stop")


class BrokenBuilder:
    """Has a mistake."""

    def ensure(self, environment, bench, inside=None):
        raise ZeroDivisionError


@pytest.fixture
def run(tmp_path):
    (tmp_path / "attempts").mkdir()
    run = RunDirectory(str(tmp_path / "attempts" / "b1"))
    create_run_directory(run.path, PLAN)
    return run


def no_source(project_id, sha256):
    raise AssertionError("no inputs")


def carry(run, builder):
    """In a lean process of its own, as the spawner does: a fork of this one may wait for locks of lost threads."""
    process = multiprocessing.get_context("spawn").Process(target=_carry, args=(run.path, builder))
    process.start()
    return process


def _carry(path, builder):
    Supervisor(no_source, lambda: builder).carry(path)


async def code_of(process):
    await asyncio.to_thread(process.join)
    return process.exitcode


async def ended(process):
    assert await code_of(process) == 0


def text(run, stream=LogStream.FILE, path=SYSTEM_LOG):
    fd = os.open(run.at(LOGS), os.O_RDONLY)
    try:
        return b"".join(f.content for f in all_frames(fd) if (f.stream, f.path) == (stream, path)).decode()
    finally:
        os.close(fd)


async def test_the_prefix_is_first_on_the_path_of_the_program(run, tmp_path):
    prefix = tmp_path / "prefix"
    script = 'mkdir -p $PREFIX/bin && cp /bin/true $PREFIX/bin/tool && echo built && printf "no end" >&2'
    await ended(carry(run, ScriptBuilder(script, prefix)))
    seen = run.observe()
    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0)
    assert text(run, LogStream.OUT, "") == f"{prefix}/bin/tool\n{prefix}\n"
    assert [word in text(run) for word in ("built\n", "no end\n", "Environment built in")] == [True] * 3


async def test_a_conda_prefix_is_activated(tmp_path):
    environment = PythonEnvironment("", conda=CondaPackages((), ()))
    cmd = 'echo $CONDA_PREFIX "$VIRTUAL_ENV" $FROM_SCRIPT $_script; nonsense'
    (tmp_path / "attempts").mkdir()
    run = RunDirectory(str(tmp_path / "attempts" / "b1"))
    create_run_directory(run.path, replace(PLAN, environment=environment, cmd=cmd))
    prefix = tmp_path / "prefix"
    script = "mkdir -p $PREFIX/etc/conda/activate.d; echo export FROM_SCRIPT=yes > $PREFIX/etc/conda/activate.d/a.sh"
    await ended(carry(run, ScriptBuilder(script, prefix)))
    assert text(run, LogStream.OUT, "") == f"{prefix}  yes\n"
    assert "line 1: nonsense" in text(run, LogStream.ERR, "")


async def test_a_build_that_fails_ends_the_attempt_before_its_program(run, tmp_path):
    await ended(carry(run, ScriptBuilder("echo because >&2; exit 3", tmp_path)))
    seen = run.observe()
    assert seen.ended
    assert seen.started is None
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.ENVIRONMENT)
    assert seen.ended.message == "the script returned 3"
    assert "because" in text(run)


@pytest.mark.parametrize("start", ["sleep 1000", "setsid sleep 1000"])
async def test_a_stop_ends_a_build_and_all_below_it(run, tmp_path, start):
    mark: Path = tmp_path / "pid"
    supervisor = carry(run, ScriptBuilder(f"{start} & echo $! > $PREFIX; wait", mark))
    await until(lambda: mark.exists() and mark.read_text().strip(), "the build")
    run.order(StopOrder())
    await ended(supervisor)
    seen = run.observe()
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase, seen.started) == (EndReason.STOPPED, Phase.ENVIRONMENT, None)
    assert gone(int(mark.read_text()))


async def test_a_stop_ends_a_wait(run):
    supervisor = carry(run, WaitingBuilder())
    await until(lambda: run.has(LOGS) and "waiting" in text(run), "the wait")
    run.order(StopOrder(15))
    await ended(supervisor)
    assert (seen := run.observe().ended)
    assert seen.reason is EndReason.STOPPED


async def test_a_builder_that_crashes_leaves_a_lost_attempt_and_not_a_hanging_one(run):
    assert await code_of(carry(run, BrokenBuilder())) != 0
    assert (run.observe().alive, run.observe().ended) == (False, None)
    await ended(carry(run, BrokenBuilder()))
    assert (seen := run.observe().ended)
    assert seen.reason is EndReason.LOST
