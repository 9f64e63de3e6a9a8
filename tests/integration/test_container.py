"""Programs in containers: real podman, a tiny image, real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from containers import TINY, Podman, podman_in
from supervisors import Node, open_node, output, until

from jobsphere.domain.attempt import DOCKER_STATS, EndReason, ImagePlan, LogStream, StopOrder
from jobsphere.domain.capacity import Limits
from jobsphere.domain.job import Phase

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        yield opened


@pytest.fixture
def image(podman: Podman) -> ImagePlan:
    return ImagePlan(TINY, podman.engine, network=False)


@pytest.fixture
async def node(tmp_path: Path, podman: Podman) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "data") as opened:
        yield opened
    assert podman.containers() == []
    assert podman.cgroups() == []
    mounts = Path("/proc/mounts").read_text()
    assert str(tmp_path) not in mounts
    assert "userdata/shm" not in "".join(m for m in mounts.splitlines() if str(podman.folder) in m)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


async def test_inputs_outputs_code_and_both_outputs_come_through(node: Node, image: ImagePlan) -> None:
    seen = await node.run(
        "cat in.txt > out.txt; pwd; id; echo to-stderr >&2; ls -n in.txt; exit 3", image=image,
        inputs=(node.input(b"hello", "work/in.txt"),), outputs=(output("out.txt"),),
    )  # fmt: skip

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code, seen.ended.message) == (EndReason.EXITED, 3, "to-stderr")
    where, who, _ = (await node.text()).splitlines()
    assert (where, who) == ("/job/work", "uid=0 gid=0 groups=0")
    assert await node.text(LogStream.ERR) == "to-stderr\n"
    assert seen.collected
    assert [f.file.size_bytes for f in seen.collected.files if f.file.desc.path == "out.txt"] == [5]
    assert owners(node.at("work")) == {os.geteuid()}
    assert (await node.text(LogStream.FILE, path=DOCKER_STATS)).startswith("time\t")


async def test_the_job_is_nobody_on_this_host(node: Node, image: ImagePlan) -> None:
    patience = str(10**6 + os.getpid())  # nobody else's
    await node.runner.launch(node.plan(f"sleep {patience} & echo up; wait", image=image))
    await node.printed("up\n")

    marked = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _command(p) == [b"sleep", patience.encode()]]

    assert marked
    assert all(p.stat().st_uid != 0 for p in marked)
    await node.runner.stop("a1", StopOrder())
    await node.end()


def _command(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")[:2]
    except OSError:
        return []


async def test_variables_come_through_and_the_image_keeps_its_path(node: Node, image: ImagePlan) -> None:
    mine = (("PLAIN", "a b'\"$HOME"), ("LINES", "one'\ntwo"), ("EMPTY", ""), ("CONTAINERS_CONF", "/x"))
    script = 'echo "$PLAIN|$LINES|$EMPTY|$CONTAINERS_CONF|$PATH|$HOME|$TMPDIR|$OF_IMAGE"; env | wc -l; touch $TMPDIR/a'

    seen = await node.run(script, image=image, variables=mine)

    assert seen.ended
    assert seen.ended.code == 0
    text = "a b'\"$HOME|one'\ntwo||/x|/opt/own:/bin|/job/home|/job/tmp|yes\n"
    assert (await node.text()).startswith(text)
    assert not [p.name for p in node.at().iterdir() if p.name.startswith("variables")]


async def test_nothing_of_the_servers_own_environment_comes_in(
    node: Node, image: ImagePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "https_proxy", "SERVER_SECRET"):
        monkeypatch.setenv(name, "http://ann:planted@127.0.0.1:1")

    seen = await node.run("env; cat /proc/1/environ", image=image)

    assert seen.ended
    assert seen.ended.code == 0
    assert "planted" not in await node.text()


async def test_a_program_killed_by_a_signal_is_told_by_its_code(node: Node, image: ImagePlan) -> None:
    seen = await node.run("kill -9 $$", image=image)
    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 137)


async def test_out_of_memory_is_told(node: Node, image: ImagePlan) -> None:
    seen = await node.run("dd if=/dev/zero of=/dev/null bs=200M count=1", image=image, limits=Limits(1.0, 64 << 20, 50))
    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 137)
    assert seen.ended.message.endswith("instance type with more memory.")
    assert "out of memory: its limit is 0.0625 GiB" in seen.ended.message


async def test_an_engine_that_cannot_start_it_says_so(node: Node, image: ImagePlan) -> None:
    engine = replace(image.engine, run_args=(*image.engine.run_args, "--device", "/dev/there-is-none"))

    seen = await node.run("true", image=replace(image, engine=engine))

    assert seen.ended
    assert seen.ended.code in (125, 126, 127)
    first, *words = seen.ended.message.splitlines()
    assert first == f"podman could not start the program in {TINY}; its words:"
    assert "/dev/there-is-none" in "".join(words)


async def test_other_calls_of_the_engine_do_not_lock_a_starting_container_out(
    node: Node, image: ImagePlan, podman: Podman
) -> None:
    await node.runner.launch(node.plan("true", image=image))
    end = asyncio.ensure_future(node.end())
    while not end.done():
        await asyncio.to_thread(podman, "ps")

    seen = await end

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0), seen.ended.message


async def test_a_graceful_stop_reaches_the_program_and_its_children(node: Node, image: ImagePlan) -> None:
    child = "sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.01; done' & "
    await node.runner.launch(node.plan("trap : TERM; " + child + "wait; wait; echo bye; exit 5", image=image))
    await node.printed("ready\n")

    await node.runner.stop("a1", StopOrder(signal.SIGTERM, datetime.now(UTC) + HOUR))
    seen = await node.end()

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.STOPPED, 5)
    assert await node.text() == "ready\nchild\nbye\n"


async def test_a_stop_at_once_keeps_the_outputs_and_leaves_no_container(node: Node, image: ImagePlan) -> None:
    await node.runner.launch(
        node.plan("trap '' TERM; echo half > r; sleep 1000 & echo up; wait", image=image, outputs=(output("r"),))
    )
    await node.printed("up\n")

    await node.runner.stop("a1", StopOrder())
    seen = await node.end()

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.STOPPED, 137)
    assert seen.collected
    assert [f.file.desc.path for f in seen.collected.files][:1] == ["r"]


@pytest.mark.parametrize("spawner_too", [False, True])
async def test_a_lost_attempt_has_no_container_left_and_is_not_started_again(
    node: Node, image: ImagePlan, podman: Podman, spawner_too: bool
) -> None:
    plan = node.plan("echo x >> starts; echo up; sleep 1000", image=image, outputs=(output("starts"),))
    await node.runner.launch(plan)
    await node.printed("up\n")
    assert podman.containers() == ["jobsphere-a1"]
    if spawner_too:
        os.kill(node.spawner(), signal.SIGKILL)
    await node.kill_supervisor()

    await node.runner.launch(plan)
    seen = await node.end()

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.LOST, Phase.MACHINE)
    assert podman.containers() == []
    assert node.at("work/starts").read_text() == "x\n"
    assert owners(node.at("work")) == {os.geteuid()}


async def test_the_engine_tells_containers_by_name_while_they_run(node: Node, image: ImagePlan, podman: Podman) -> None:
    await node.runner.launch(node.plan("echo up; sleep 1000", image=image))
    await node.printed("up\n")

    second = node.new_runner()  # as a server that came back
    seen = await second.observe("a1")

    assert seen.alive
    assert podman("ps", "--filter", "label=jobsphere.attempt=a1", "--format", "{{.Names}}").split() == ["jobsphere-a1"]
    await second.stop("a1", StopOrder())
    await node.end()
    await second.close()
    await until(lambda: podman.containers() == [], "no container left")


async def test_a_tree_deeper_than_python_recurses_is_given_back(node: Node, image: ImagePlan) -> None:
    deep = "n=0; while [ $n -lt 1200 ]; do busybox mkdir d; cd d; n=$((n + 1)); done"
    seen = await node.run(deep, image=image, outputs=(output("d"),))

    assert seen.ended
    assert seen.ended.code == 0
    assert seen.collected
    assert "folders deep" in seen.collected.errors[0].description
    assert node.at("work/d").stat().st_uid == os.geteuid()
    await node.runner.tidy("a1")  # pytest could not remove it either
