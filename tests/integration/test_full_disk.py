"""A disk that runs full: the job that fills it ends, its neighbours do not, and every end is written down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisors import Node, open_node, output, until
from tests.live import unmount

from jobsphere.domain.attempt import EndReason, SandboxPlan
from jobsphere.runner.sandbox import why_not

SIZE = 24 << 20
FILL = "dd if=/dev/zero of=fill bs=65536 2>/dev/null; "


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", place], check=False)
    if mounted.returncode:
        pytest.skip("a file system of its own for this test takes root")
    try:
        yield place
    finally:
        unmount(place)


@pytest.fixture
async def node(disk: Path):
    async with open_node(disk / "data") as opened:
        yield opened


def free(node: Node) -> int:
    disk = os.statvfs(node.data)
    return disk.f_bfree * disk.f_frsize


@pytest.fixture(params=["sandbox", "none"])
def fence(request: pytest.FixtureRequest) -> SandboxPlan | None:
    if request.param == "sandbox" and (reason := why_not()):
        pytest.skip(reason)
    return SandboxPlan() if request.param == "sandbox" else None


@pytest.mark.fault("a file system that fills up")
@pytest.mark.parametrize(
    "script",
    [
        FILL + "sleep 1000", FILL + "exit 1", FILL + "exit 0", FILL + "while :; do echo line; done",
        FILL + "while :; do echo x >> more; done 2>/dev/null", "yes",
        "exec 5> fill; rm fill; dd if=/dev/zero bs=65536 >&5 2>/dev/null; sleep 1000",
    ],
)  # fmt: skip
async def test_the_job_that_fills_the_disk_ends_and_no_other(
    node: Node, fence: SandboxPlan | None, script: str
) -> None:
    waits = "head -c 2000000 /dev/zero > some; echo up; until [ -e go ]; do echo line; sleep 0.01; done; "
    waits += "echo done; echo 1 > out"
    await node.runner.launch(node.plan(waits, "neighbour", sandbox=fence, outputs=(output("out"),)))
    await node.printed("up\n", "neighbour")
    seen = await node.run(script, "hostile", sandbox=fence, outputs=(output("fill"),))
    node.at("work/go", name="neighbour").touch()
    kept = await node.end("neighbour")

    assert seen.ended
    assert seen.ended.reason is EndReason.FAILED
    assert "No space left on device" in seen.ended.message
    assert not node.at("work", name="hostile").exists()
    assert free(node) > SIZE // 2
    assert kept.ended
    assert (kept.ended.reason, kept.ended.code) == (EndReason.EXITED, 0)
    assert (await node.text(name="neighbour")).endswith("line\ndone\n")
    assert kept.collected
    assert [f.file.size_bytes for f in kept.collected.files if f.file.desc.path == "out"] == [2]


@pytest.mark.fault("a file system that fills up")
async def test_an_end_is_written_down_on_a_disk_that_stays_full(node: Node, disk: Path) -> None:
    await node.runner.launch(node.plan("echo up; until [ -e go ]; do sleep 0.01; done; exit 3"))
    await node.printed("up\n")
    node.at("work/go.txt").touch()
    with (disk / "foreign").open("wb", buffering=0) as file:
        while _written(file.fileno()):
            pass
        os.rename(node.at("work/go.txt"), node.at("work/go"))
        seen = await node.end()
        await until(lambda: (node.at("exit").exists(), node.at("collected").exists()), "both records")

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 3)
    assert seen.collected


def _written(fd: int) -> int:
    try:
        return os.write(fd, bytes(1 << 16))
    except OSError:
        return 0
