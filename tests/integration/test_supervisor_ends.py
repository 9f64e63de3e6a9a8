"""Ends that somebody else brings about: stop orders, and the death of whoever watches over the attempt."""

import asyncio
import contextlib
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from supervisors import HANG_S, gone, open_node, output, until

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, LogStream, StopOrder
from jobsphere.domain.job import Phase
from jobsphere.runner.rundir import RunDirectory, create_run_directory

DETACHED = "setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & echo $! >> pids; wait' & "
TREE = f"echo $$ >> pids; sleep 1000 & echo $! >> pids; ({DETACHED}) ; until [ $(wc -l < pids) = 3 ]; do :; done; "


@pytest.fixture
async def node(tmp_path):
    async with open_node(tmp_path) as opened:
        yield opened


def pids(node, name="a1"):
    return [int(line) for line in node.at("work/pids", name=name).read_text().split()]


def none_left(node, name="a1"):
    return all(gone(pid) for pid in pids(node, name))


async def started(node, cmd, **more):
    await node.runner.launch(node.plan(cmd + "echo up; wait", **more))
    await node.printed("up\n")


async def test_what_a_program_leaves_behind_is_gone_when_its_end_is_told(node):
    seen = await node.run(TREE + "exit 3")
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 3)
    assert none_left(node)


async def test_a_stop_at_once_leaves_no_process_and_keeps_the_outputs(node):
    await started(node, "echo half > r; " + TREE, outputs=(output("r"), output("never")))
    await node.runner.stop("a1", StopOrder())
    seen = await node.end()
    assert (seen.ended.reason, seen.ended.code) == (EndReason.STOPPED, 137)
    assert none_left(node)
    assert [f.file.desc.path for f in seen.collected.files][:1] == ["r"]
    assert seen.collected.errors == ()
    assert await node.text() == "up\n"


async def test_a_graceful_stop_lets_the_program_end_by_itself(node):
    await started(node, "trap 'echo bye; exit 5' TERM; sleep 1000 & ")
    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + timedelta(hours=1)))
    seen = await node.end()
    assert (seen.ended.reason, seen.ended.code) == (EndReason.STOPPED, 5)
    assert await node.text() == "up\nbye\n"


async def test_the_signal_reaches_what_the_program_started(node):
    child = "sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.01; done' & "
    await node.runner.launch(node.plan("trap : TERM; " + child + "wait; wait"))
    await node.printed("ready\n")
    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + timedelta(hours=1)))
    assert (await node.end()).ended.reason is EndReason.STOPPED
    assert await node.text() == "ready\nchild\n"


async def test_the_death_of_a_supervisor_is_hinted(node):
    await started(node, "sleep 1000 & ")
    hinted = asyncio.Event()

    def look(name):
        if not RunDirectory(str(node.at())).is_locked():
            hinted.set()

    node.runner.subscribe(look)
    os.kill(node.supervisor(), signal.SIGKILL)
    await asyncio.wait_for(hinted.wait(), HANG_S)


async def test_a_torn_order_is_no_order(node):
    create_run_directory(str(node.at()), node.plan("echo ran"))
    for name in ("stop", "step"):
        node.at(name).write_bytes(b"\0" * 10)
    await node.runner.launch(node.plan("echo ran"))
    assert (await node.end()).ended.reason is EndReason.EXITED


async def test_a_program_that_ignores_its_signal_is_killed_at_the_deadline(node):
    await started(node, "trap '' TERM; " + TREE)
    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + timedelta(seconds=0.3)))
    seen = await node.end()
    assert (seen.ended.reason, seen.ended.code) == (EndReason.STOPPED, 137)
    assert none_left(node)


async def test_a_forced_stop_replaces_a_graceful_one(node):
    await started(node, "trap '' TERM; " + TREE)
    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + timedelta(hours=1)))
    await node.printed("sending signal 15")
    await node.runner.stop("a1", StopOrder())
    assert (await node.end()).ended.code == 137
    assert none_left(node)


async def test_an_order_given_before_the_supervisor_came_is_obeyed(node):
    run = RunDirectory(str(node.at()))
    create_run_directory(run.path, node.plan("echo never"))
    await node.runner.stop("a1", StopOrder())
    await node.runner.launch(node.plan("echo never"))
    seen = await node.end()
    assert (seen.ended.reason, seen.started) == (EndReason.STOPPED, None)


async def test_a_stop_of_an_ended_attempt_changes_nothing(node):
    before = await node.run("true")
    await node.runner.stop("a1", StopOrder())
    assert await node.new_runner().observe("a1") == before


async def test_a_neighbour_is_not_touched_by_a_stop(node):
    await started(node, "sleep 1000 & ")
    await node.runner.launch(node.plan("sleep 1000 & echo $! >> pids; echo up; wait", "a2"))
    await node.printed("up\n", "a2")
    await node.runner.stop("a1", StopOrder())
    await node.end("a1")
    assert not gone(pids(node, "a2")[0])
    assert (await node.runner.observe("a2")).alive


@pytest.mark.fault("spawner, supervisor, or both killed")
async def test_a_killed_supervisor_takes_its_whole_tree_with_it_and_the_attempt_is_lost(node):
    await started(node, "echo half > r; printf partial; " + TREE, outputs=(output("r"),))
    await node.printed("partial")
    plan = node.plan("echo again; touch again")
    await node.kill_supervisor()
    await until(lambda: none_left(node), "the end of the tree")
    seen = await node.runner.observe("a1")
    assert (seen.alive, seen.ended) == (False, None)
    await node.runner.launch(plan)
    seen = await node.end()
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.LOST, Phase.MACHINE)
    assert "killed" in seen.ended.message
    assert [f.file.desc.path for f in seen.collected.files][:1] == ["r"]
    assert "partial" in await node.text()
    assert "again" not in await node.text()
    assert seen.ended.message in await node.text(LogStream.FILE, path=SYSTEM_LOG)


@pytest.mark.fault("spawner, supervisor, or both killed")
async def test_a_tree_whose_spawner_and_supervisor_are_both_gone_is_found_by_its_mark(node):
    await started(node, TREE)
    spawner, supervisor = node.spawner(), node.supervisor()
    os.kill(spawner, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    await node.observed("a1", lambda seen: not seen.alive)
    assert not none_left(node)
    await node.runner.launch(node.plan("echo again"))
    seen = await node.end()
    assert seen.ended.reason is EndReason.LOST
    assert none_left(node)


async def test_a_claim_of_another_boot_tells_that_the_machine_was_restarted(node):
    await started(node, "sleep 1000 & ")
    await node.kill_supervisor()
    node.at("claim").write_text('{"boot_id": "another", "pid": 1}')
    await node.runner.launch(node.plan("true"))
    assert "restarted" in (await node.end()).ended.message


@pytest.mark.fault("spawner, supervisor, or both killed")
async def test_jobs_go_on_when_the_spawner_is_killed_and_another_one_starts_more(node):
    await node.runner.launch(node.plan("echo up; until [ -e go ]; do sleep 0.01; done; echo done"))
    await node.printed("up\n")
    os.kill(node.spawner(), signal.SIGKILL)
    assert (await node.run("echo two", "a2")).ended.code == 0
    node.at("work/go").touch()
    seen = await node.end()
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0)
    assert await node.text() == "up\ndone\n"


async def test_jobs_go_on_when_the_server_goes_and_the_next_one_finds_them(node):
    await node.runner.launch(node.plan("echo up; until [ -e go ]; do sleep 0.01; done"))
    await node.printed("up\n")
    await node.runner.close()
    node.runner = node.new_runner()
    assert await node.runner.attempts() == ["a1"]
    assert (await node.runner.observe("a1")).alive
    await node.runner.launch(node.plan("echo second"))
    node.at("work/go").touch()
    await node.end()
    assert await node.text() == "up\n"


async def test_a_second_launch_never_starts_the_program_again(node):
    plan = node.plan("echo once; until [ -e go ]; do sleep 0.01; done")
    await asyncio.gather(*(node.runner.launch(plan) for _ in range(5)))
    await node.printed("once\n")
    await node.runner.launch(plan)
    node.at("work/go").touch()
    first = await node.end()
    await node.runner.launch(plan)
    assert await node.new_runner().observe("a1") == first
    assert await node.text() == "once\n"


@pytest.mark.parametrize("survived", ["nothing", "outbox"])
async def test_a_collection_that_was_cut_off_is_done_again(node, survived):
    outputs = (output("r"), output("o/"))
    before = await node.run("echo 1 > r; mkdir o; echo 2 > o/x", outputs=outputs)
    await until(lambda: not RunDirectory(str(node.at())).is_locked(), "the end of the supervisor")
    await node.runner.close()
    node.at("collected").unlink()
    if survived == "nothing":
        for file in node.at("outbox").iterdir():
            file.unlink()
    node.at("outbox/output-1.zip.tmp").write_text("half")
    node.runner = node.new_runner()
    await node.runner.launch(node.plan("true", outputs=outputs))
    after = await node.end()
    assert after.ended == before.ended
    assert [f for f in after.collected.files if f.kind == "output"] == [
        f for f in before.collected.files if f.kind == "output"
    ]


@pytest.mark.fault("spawner, supervisor, or both killed")
@pytest.mark.parametrize("moment", range(12))
async def test_a_kill_at_any_moment_leaves_what_the_next_supervisor_can_close(node, moment):
    plan = node.plan("echo x >> starts; sleep 0.005", outputs=(output("starts"),))
    await node.runner.launch(plan)
    await asyncio.sleep(moment / 1000)  # any moment is as good as another
    with contextlib.suppress(OSError, ValueError):  # not there yet, half-written, or over
        os.kill(node.supervisor(), signal.SIGKILL)
    await node.observed("a1", lambda seen: not seen.alive)
    await node.runner.launch(plan)
    seen = await node.end()
    assert seen.ended.reason in (EndReason.EXITED, EndReason.LOST)
    starts = node.at("work/starts")
    assert not starts.exists() or starts.read_text() == "x\n"
