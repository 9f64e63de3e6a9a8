"""A source package's build script is a stranger's code and runs before the program: it gets no further than that."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from bench import Index, make_source, serving
from supervisors import Node, open_node

from jobsphere.domain.attempt import LogStream, SandboxPlan
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.runner.sandbox import why_not

VERSION = "3.11"
FENCE = SandboxPlan()
LOOK = """[
    __import__("subprocess").run(["sh", "-c", {script!r}], capture_output=True, text=True).stdout
][0]"""


@pytest.fixture(autouse=True)
def host_can() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    with serving(Index(tmp_path / "index")) as running:
        running.gate.set()
        yield running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "data") as opened:
        yield opened


async def seen_by_build(node: Node, index: Index, script: str, fence: SandboxPlan | None = FENCE) -> str:
    """What a shell script prints that a build script runs."""
    make_source(index.folder, "evil", LOOK.format(script=script))
    environment = PythonEnvironment(VERSION, ("evil",), index.url())
    seen = await node.run("python -c 'import evil; print(evil.said)'", environment=environment, sandbox=fence)
    assert seen.ended
    assert seen.ended.code == 0, seen.ended
    return await node.text(LogStream.OUT)


async def test_it_neither_reads_nor_changes_the_data_of_the_server(node: Node, index: Index) -> None:
    (node.data / "key").write_text("planted-key")
    (node.data / "blobs" / "p1").mkdir(parents=True)
    (node.data / "blobs" / "p1" / "x").write_text("planted-blob")
    told = await seen_by_build(
        node,
        index,
        f"cat {node.data}/key {node.data}/blobs/p1/x; ls {node.data} {node.data}/attempts; "
        f"echo owned > {node.data}/key; echo owned > {node.data}/environments/x; cat /proc/[0-9]*/environ; echo end",
    )
    assert "planted" not in told
    assert "blobs" not in told
    assert "end" in told
    assert (node.data / "key").read_text() == "planted-key"
    assert not (node.data / "environments" / "x").exists()


async def test_it_changes_nothing_of_the_host_and_outlives_nothing(node: Node, index: Index, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    mark = f".jobsphere-{os.urandom(8).hex()}"
    told = await seen_by_build(
        node,
        index,
        f"echo broken > {victim}; rm -f {victim}; echo x > $HOME/{mark}; ls /run; "
        "(setsid sleep 41241.5 >/dev/null 2>&1 &); echo end",
    )
    assert "end" in told
    assert victim.read_text() == "whole"
    assert not Path("~", mark).expanduser().exists()
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _command(p).endswith(b"41241.5\0")]
    assert left == []


async def test_it_can_build(node: Node, index: Index) -> None:
    """Temporary files, the network, a compiler's usual places."""
    script = "f=$(mktemp) && echo kept > $f && cat $f; test -r /etc/resolv.conf && echo names; command -v sh"
    told = await seen_by_build(node, index, script)
    assert told.split()[:2] == ["kept", "names"]
    assert shutil.which(os.path.basename(told.split()[2]))


async def test_without_a_sandbox_it_is_as_before(node: Node, index: Index) -> None:
    (node.data / "key").write_text("planted-key")
    assert "planted-key" in await seen_by_build(node, index, f"cat {node.data}/key", None)


def _command(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
