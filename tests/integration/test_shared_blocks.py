"""Inputs on a file system that can share blocks: staged without being written, and the program's own all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisors import open_node
from tests.shared_blocks import shared_blocks, why_not

SIZE = 64 << 20
SLACK = 8 << 20
"""What a file system of its own, a run directory and a log may take."""


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    if (reason := why_not()) and "CI" not in os.environ:
        pytest.skip(reason)
    with shared_blocks(tmp_path, 512 << 20) as mounted:
        yield mounted


def free(top: Path) -> int:
    os.sync()
    disk = os.statvfs(top)
    return disk.f_bfree * disk.f_frsize


async def test_a_large_input_is_not_written_again_and_a_change_of_it_stays_the_job_s(top: Path) -> None:
    content = os.urandom(1 << 20) * (SIZE >> 20)
    async with open_node(top / "data") as node:
        placement = node.input(content, "work/a")
        stored = node.data / "blobs/p1" / placement.file.sha256[:2] / placement.file.sha256
        before = free(top)
        seen = await node.run("printf other | dd of=a conv=notrunc 2>/dev/null; head -c 5 a", inputs=(placement,))
        assert seen.ended.code == 0
        assert await node.text() == "other"
        assert before - free(top) < SLACK
        assert (node.data / "attempts/a1/work/a").stat().st_size == SIZE
        assert stored.read_bytes() == content
