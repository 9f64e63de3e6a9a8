"""Extended working storage: on its volume, within its quota, gone afterwards."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from supervisors import Node, open_node, output

from jobsphere.domain.attempt import EndReason, Observation, SandboxPlan
from jobsphere.domain.capacity import GIB, Limits
from jobsphere.domain.job import Phase

MIB = 1 << 20
fences = pytest.mark.parametrize("sandbox", [None, SandboxPlan()], ids=["plain", "sandbox"])


def room(size_bytes: int) -> Limits:
    return Limits(1.0, GIB, storage_bytes=size_bytes)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "data") as opened:
        yield opened


def collected(seen: Observation) -> dict[str, int]:
    assert seen.collected
    return {c.file.desc.path: c.file.size_bytes for c in seen.collected.files}


@fences
async def test_the_working_directory_is_on_the_volume_and_goes_with_the_attempt(node: Node, sandbox) -> None:
    cmd = "echo result > out.txt; mkdir d; echo x > d/member; ln -s out.txt link; test -s in.txt"
    given = (node.input(b"input", "work/in.txt"),)
    seen = await node.run(
        cmd, limits=room(GIB), sandbox=sandbox, inputs=given, outputs=(output("out.txt"), output("d/"), output("link"))
    )

    assert seen.ended
    assert seen.ended.code == 0, await node.text()
    assert sorted(os.listdir(node.volume / "a1")) == ["d", "in.txt", "link", "out.txt"]
    assert collected(seen)["out.txt"] == collected(seen)["link"] == 7
    assert not (seen.collected and seen.collected.errors)
    await node.runner.tidy("a1")
    assert list(node.volume.iterdir()) == []


@fences
async def test_a_program_that_writes_more_than_its_quota_is_ended_and_told(node: Node, sandbox) -> None:
    seen = await node.run("dd if=/dev/zero of=big bs=1M count=40; sleep 600", limits=room(20 * MIB), sandbox=sandbox)

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.RUN)
    assert "The working directory has 0.0391 GiB, more than its 0.0195 GiB" in seen.ended.message


async def test_a_removed_file_that_is_held_open_counts(node: Node) -> None:
    seen = await node.run("exec 3> big; rm big; dd if=/dev/zero bs=1M count=40 >&3; sleep 600", limits=room(20 * MIB))

    assert seen.ended
    assert seen.ended.reason is EndReason.FAILED


async def test_less_room_than_promised_is_told_before_anything_runs(node: Node) -> None:
    seen = await node.run("touch ran", limits=room(1 << 60))

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
    assert "have the server's operator make room" in seen.ended.message
    assert list(node.volume.iterdir()) == []


async def test_removing_an_attempt_removes_its_storage(node: Node) -> None:
    await node.run("touch f", limits=room(GIB))
    await node.runner.remove("a1")

    assert list(node.volume.iterdir()) == []
