"""Names, archives and races that nobody means well by, before a real supervisor: told, never lost, nothing leaks."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from supervisors import Node, open_node, output
from test_hostile_outputs import contents, errors

from jobsphere.domain.attempt import EndReason, SandboxPlan
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.runner.sandbox import why_not

DEEP = "a/" * 1900
"""Within the longest path, and deeper than this language likes to call itself."""
RACERS = """
import os, sys
secret, own = "../plan.json", "own"
open(own, "w").write("own"); os.mkdir("d"); open("d/m", "w").write("own")
names = {"out": own, "d/m": "../own"}
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        for number in range(10**9):
            for name, harmless in names.items():
                target = ("../" * name.count("/") + secret) if number % 2 else harmless
                new = f"{name}.{os.getpid()}"
                try:
                    if number % 3: os.symlink(target, new)
                    else: open(new, "w").write("own")
                    os.rename(new, name)
                except OSError: pass
            if number == 50: os.kill(os.getppid(), 0); open(f"ready{os.getpid()}", "w")
while len([n for n in os.listdir(".") if n.startswith("ready")]) < 4: pass
"""


@pytest.fixture
async def node(tmp_path: Path):
    async with open_node(tmp_path / "data") as opened:
        yield opened


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return made.getvalue()


@pytest.mark.parametrize("name", [DEEP + "f", "n" * 300, "d/" * 150 + "n" * 256])
async def test_a_name_that_is_too_long_is_told(node: Node, name: str) -> None:
    seen = await node.run("true", inputs=(node.input(b"x", f"work/{name}"),))
    assert seen.ended
    assert seen.ended.reason in {EndReason.FAILED, EndReason.EXITED}, seen.ended
    assert seen.ended.reason is EndReason.EXITED or seen.ended.message.startswith("Input "), seen.ended


@pytest.mark.parametrize("name", [DEEP + "f", "a/" * 30_000 + "f", "n" * 300, "../x", "..\\x", "/etc/x", "x/../../y"])
async def test_names_in_an_archive_stay_below_it_or_are_told(node: Node, tmp_path: Path, name: str) -> None:
    seen = await node.run("true", inputs=(node.input(zipped(f"o/{name}"), "work/o", unpack=True),))
    assert seen.ended
    assert seen.ended.reason in {EndReason.FAILED, EndReason.EXITED}, seen.ended
    assert seen.ended.reason is EndReason.EXITED or seen.ended.message.startswith("Input "), seen.ended
    assert not [p for p in tmp_path.rglob("[xy]") if "/work/" not in str(p)]


@pytest.mark.parametrize("fence", [SandboxPlan(), None], ids=["sandbox", "none"])
async def test_who_still_swaps_outputs_for_links_when_the_program_ends_wins_nothing(
    node: Node, fence: SandboxPlan | None
) -> None:
    if fence and (reason := why_not()):
        pytest.skip(reason)
    seen = await node.run(
        "python x.py", sandbox=fence, environment=PythonEnvironment("3.11"),
        inputs=(node.input(RACERS.encode(), "work/x.py"),), outputs=(output("out"), output("d")),
    )  # fmt: skip
    assert seen.ended
    assert seen.ended.code == 0
    got = contents(node, seen)
    assert set(got.values()) <= {b"own", b""}, got
    assert all("leads out" in text for texts in errors(seen).values() for text in texts)
