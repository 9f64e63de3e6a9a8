"""Limits of real programs by real control groups; and both versions' files, on a tree that stands for the kernel's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from supervisors import Node, gone, open_node, until

from jobsphere.domain.attempt import DOCKER_STATS, SYSTEM_LOG, EndReason, LogStream, SandboxPlan, StopOrder
from jobsphere.domain.capacity import Limits
from jobsphere.runner import cgroups
from jobsphere.runner.processes import attempt_mark

MIB = 1 << 20
LIMITS = Limits(1.0, 64 * MIB, pids=64)

needs_groups = pytest.mark.skipif(bool(cgroups.why_not()), reason=cgroups.why_not())
fences = pytest.mark.parametrize("sandbox", [None, SandboxPlan()], ids=["plain", "sandbox"])


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "data") as opened:
        yield opened


def groups_of(node: Node) -> list[str]:
    name = f"jobsphere-{attempt_mark(str(node.at()))}"
    return [path for folder in cgroups.find().folders.values() if os.path.isdir(path := f"{folder}/{name}")]


@needs_groups
@fences
async def test_a_program_that_takes_too_much_memory_is_told_so_with_its_peak(node: Node, sandbox) -> None:
    seen = await node.run("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?", limits=LIMITS, sandbox=sandbox)

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 137)
    assert "Out of memory: the program's limit is 0.0625 GiB, at its peak it had 0.0625 GiB" in seen.ended.message
    assert groups_of(node) == []


@needs_groups
async def test_a_program_whose_child_was_killed_for_memory_and_that_goes_on_has_it_in_its_log(node: Node) -> None:
    seen = await node.run("dd if=/dev/zero of=/dev/null bs=200M count=1; echo still here", limits=LIMITS)

    assert seen.ended
    assert seen.ended.code == 0
    assert "Out of memory" in await node.text(LogStream.FILE, path=SYSTEM_LOG)


@needs_groups
@fences
async def test_a_fork_bomb_has_only_so_many_processes_and_is_ended_whole(node: Node, sandbox) -> None:
    bomb = "bomb() { bomb | bomb & }; echo started; bomb 2>/dev/null; while :; do :; done"
    await node.runner.launch(node.plan(bomb, limits=LIMITS, sandbox=sandbox))
    await node.printed("started")
    paths = groups_of(node)
    pids = next(path for path in paths if os.path.exists(f"{path}/pids.max"))
    await until(lambda: int(Path(pids, "pids.current").read_text()) > 32, "the bomb")
    assert int(Path(pids, "pids.max").read_text()) == 64
    held = cgroups.pids_in(paths)
    await node.runner.stop("a1", StopOrder())
    seen = await node.end()

    assert seen.ended
    assert seen.ended.reason is EndReason.STOPPED
    assert all(gone(pid) for pid in held)
    assert groups_of(node) == []


@needs_groups
@pytest.mark.parametrize(("burst", "file"), [(False, "cpu.cfs_quota_us"), (True, "cpu.shares")])
async def test_cpus_are_a_quota_or_a_share(node: Node, burst: bool, file: str) -> None:
    if cgroups.find().unified:
        pytest.skip("the files are those of version 1")
    await node.runner.launch(node.plan("echo on; sleep 60", limits=Limits(0.5, 64 * MIB, 64, cpu_burst=burst)))
    await node.printed("on")
    found = [Path(path, file).read_text().strip() for path in groups_of(node) if os.path.exists(f"{path}/{file}")]
    await node.runner.stop("a1", StopOrder())
    await node.end()

    assert found == ["512" if burst else "50000"]


@needs_groups
async def test_what_a_killed_supervisor_leaves_in_its_group_is_ended_by_the_next(node: Node) -> None:
    await node.runner.launch(node.plan("setsid sleep 600 & echo $!; echo on; wait", limits=LIMITS))
    await node.printed("on")
    held = cgroups.pids_in(groups_of(node))
    await node.kill_supervisor()
    await node.runner.launch(node.plan("", limits=LIMITS))
    seen = await node.end()

    assert seen.ended
    assert seen.ended.reason is EndReason.LOST
    assert held
    assert all(gone(pid) for pid in held)
    assert groups_of(node) == []


@needs_groups
async def test_the_supervisor_itself_is_not_in_the_group(node: Node) -> None:
    await node.runner.launch(node.plan("echo on; sleep 60", limits=LIMITS))
    await node.printed("on")
    assert node.supervisor() not in cgroups.pids_in(groups_of(node))
    await node.runner.stop("a1", StopOrder())
    await node.end()


@needs_groups
async def test_the_table_of_its_use_counts_the_processes_of_the_group(node: Node) -> None:
    await node.run("sleep 1.5 & sleep 1.5 & sleep 1.5; wait", limits=LIMITS)
    rows = [line.split("\t") for line in (await node.text(LogStream.FILE, path=DOCKER_STATS)).splitlines()]

    assert rows[1][-1] == "4"


CPU_MEMORY = (
    "5:memory:/jobs/{own}\n4:cpu,cpuacct:/\n3:pids:/jobs\n0::/\n",
    "30 1 0:1 / {top}/memory rw - cgroup cgroup rw,memory\n31 1 0:1 / {top}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 1 0:1 /jobs {top}/pids rw - cgroup cgroup rw,pids\n33 1 0:1 / {top}/unified rw - cgroup2 cgroup2 rw\n",
)


def test_version_1_has_a_folder_for_each_controller_below_the_node_s_own(tmp_path: Path) -> None:
    for folder in ("memory/jobs/here", "cpu", "pids", "unified"):
        (tmp_path / folder).mkdir(parents=True)
    groups, mounts = (text.replace("{top}", str(tmp_path)).replace("{own}", "here") for text in CPU_MEMORY)
    host = cgroups.host_of(groups, mounts)

    assert not host.unified
    assert dict(host.folders) == {
        "memory": f"{tmp_path}/memory/jobs/here", "pids": f"{tmp_path}/pids", "cpu": f"{tmp_path}/cpu",
    }  # fmt: skip


def unified(tmp_path: Path, enabled: str) -> cgroups.Host:
    """A session below a slice that gives its children limits."""
    session = tmp_path / "user.slice" / "session.scope"
    session.mkdir(parents=True)
    for folder, told in ((tmp_path, "cpu memory pids"), (session.parent, enabled), (session, "")):
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.controllers").write_text(told)
        (folder / "cgroup.subtree_control").write_text(told)
    mounts = f"30 1 0:1 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    return cgroups.host_of("0::/user.slice/session.scope\n", mounts)


def test_version_2_takes_the_nearest_folder_whose_children_can_have_limits(tmp_path: Path) -> None:
    host = unified(tmp_path, "memory pids cpu")

    assert host.unified
    assert set(host.folders.values()) == {f"{tmp_path}/user.slice"}
    assert set(host.folders) == set(cgroups.CONTROLLERS)
    assert host.own == (f"{tmp_path}/user.slice/session.scope",)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(1.5, MIB, 7), {"memory.max": "1048576", "memory.swap.max": "0", "cpu.max": "150000 100000"}),
        (Limits(0.5, MIB, 7, cpu_burst=True), {"memory.max": "1048576", "pids.max": "7", "cpu.weight": "50"}),
    ],
)  # fmt: skip
def test_version_2_settings(tmp_path: Path, limits: Limits, expected: dict[str, str]) -> None:
    host = unified(tmp_path, "memory pids cpu")
    group = cgroups.Group(host, "g")
    (folder := tmp_path / "user.slice" / "g").mkdir()
    for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight"):
        (folder / name).touch()

    assert group.make(limits) == []
    assert {name: (folder / name).read_text() for name in expected} == expected


@pytest.mark.parametrize(("unified", "moved_by"), [(False, "tasks"), (True, "cgroup.procs")])
def test_only_a_thread_moves_where_the_kernel_lets_it(tmp_path: Path, unified: bool, moved_by: str) -> None:
    own, folder = tmp_path / "own", tmp_path / "g"
    for path in (own, folder):
        path.mkdir()
        (path / "tasks").touch()
        (path / "cgroup.procs").touch()
    host = cgroups.Host(unified=unified, folders={"pids": str(tmp_path)}, own=(str(own),))

    with cgroups.Group(host, "g").joined():
        assert {file.name: file.read_text() for file in folder.iterdir() if file.read_text()} == {moved_by: "0"}
        assert not any(file.read_text() for file in own.iterdir())
    assert {file.name: file.read_text() for file in own.iterdir() if file.read_text()} == {moved_by: "0"}


def test_version_2_tells_what_became_of_its_memory(tmp_path: Path) -> None:
    group = cgroups.Group(unified(tmp_path, "memory"), "g")
    (folder := tmp_path / "user.slice" / "g").mkdir()
    (folder / "memory.peak").write_text("4096\n")
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")

    assert group.memory() == cgroups.Memory(4096, 2)


def test_what_a_host_lacks_is_said(tmp_path: Path) -> None:
    host = unified(tmp_path, "pids")
    group = cgroups.Group(host, "g")
    (folder := tmp_path / "user.slice" / "g").mkdir()
    (folder / "pids.max").touch()

    assert group.make(Limits(1, MIB, 7)) == [
        "memory: this host has no such control", "cpu: this host has no such control",
    ]  # fmt: skip


@needs_groups
async def test_a_program_that_cannot_be_started_leaves_no_group(node: Node) -> None:
    seen = await node.run("true " + "x" * 200_000, limits=LIMITS)
    assert seen.ended is not None
    assert "too long" in seen.ended.message
    assert not node.at("groups").exists()
    assert groups_of(node) == []
