"""Folders of the node that a program sees read-only: in a sandbox, in a container, and without a fence."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from containers import TINY, podman_in
from supervisors import Node, open_node

from jobsphere.domain.attempt import ImagePlan, Mount, SandboxPlan
from jobsphere.runner.sandbox import why_not

SCRIPT = "cat ${A}/f ${B}/f $WHERE/f; echo ${A}; touch ${A}/new 2>/dev/null || echo kept"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    source = tmp_path / "shown"
    source.mkdir()
    (source / "f").write_text("f\n")
    return Mount(str(source), "datasets/one", ("A", "B"), "WHERE")


async def test_in_a_sandbox(node: Node, mount: Mount) -> None:
    if (lacking := why_not()) and "CI" not in os.environ:
        pytest.skip(lacking)
    await node.run(SCRIPT, sandbox=SandboxPlan(), mounts=(mount,))
    assert await node.text() == "f\nf\nf\n/job/datasets/one\nkept\n"


async def test_in_a_container(node: Node, mount: Mount, tmp_path: Path) -> None:
    with podman_in(tmp_path / "podman") as podman:
        await node.run(SCRIPT, image=ImagePlan(TINY, podman.engine, network=False), mounts=(mount,))
        assert await node.text() == "f\nf\nf\n/job/datasets/one\nkept\n"


async def test_without_a_fence_it_is_the_folder_itself(node: Node, mount: Mount) -> None:
    await node.run(SCRIPT.split(";")[0] + "; echo ${A}", mounts=(mount,))
    assert await node.text() == f"f\nf\nf\n{mount.source}\n"
