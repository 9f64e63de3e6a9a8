"""What a fenced program cannot see though it lies in, or is reached through, what it may see."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from supervisors import Node, open_node

from jobsphere.domain.attempt import LogStream, SandboxPlan
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.runner.sandbox import Sandbox, interpreter_sights, why_not

LOOK = (
    "import os\nfor top, folders, files in os.walk({place!r}):\n  for n in folders + files: print(os.path.join(top, n))"
)


@pytest.fixture(scope="module", autouse=True)
def sandbox_works() -> None:
    reason = why_not()
    if reason and "CI" not in os.environ:
        pytest.skip(reason)
    assert not reason


async def seen_below(node: Node, place: Path, plan: SandboxPlan, version: str = "3.11") -> list[str]:
    """The paths that a program with an environment sees below a folder, those in its prefix left out."""
    seen = await node.run(
        "echo $VIRTUAL_ENV; python x.py", sandbox=plan, environment=PythonEnvironment(version),
        inputs=(node.input(LOOK.format(place=str(place)).encode(), "work/x.py"),),
    )  # fmt: skip
    assert seen.ended
    assert seen.ended.code == 0, await node.text(LogStream.ERR)
    prefix, *paths = (await node.text()).splitlines()
    return [p for p in paths if not p.startswith(f"{prefix}/")]


@pytest.mark.parametrize("shown_by", ["its path", "a link"])
async def test_a_data_directory_in_a_folder_that_may_be_read_is_hidden(tmp_path: Path, shown_by: str) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    (shared / "models").mkdir(parents=True)
    link.symlink_to("shared")
    place = link if shown_by == "a link" else shared
    async with open_node(shared / "jobs" / "data") as node:
        (node.data / "key").write_text("secret")
        seen = await seen_below(node, place, SandboxPlan(read_only=(str(place),)))

        if place == shared:
            tried = await node.run(f"touch {node.data}/x", "a2", sandbox=SandboxPlan(read_only=(str(place),)))
            assert tried.ended
            assert tried.ended.code != 0

    expected = {place / "models", place / "jobs", place / "jobs" / "data"}
    ways = {node.data / "environments", node.data / "environments" / seen[-1].rpartition("/")[2]}
    assert {*map(Path, seen)} - ways == expected


@pytest.mark.parametrize("place", ["all", "data/all", "."])
async def test_the_folder_of_all_servers_is_hidden_wherever_it_lies(tmp_path: Path, place: str) -> None:
    """Beside the data directory, in it, or around it."""
    around = tmp_path / "around"
    shared = around / place
    (shared / "tls").mkdir(parents=True)
    (shared / "tls" / "ca-key.pem").write_text("secret")
    async with open_node(around / "data") as node:
        seen = await seen_below(node, around, SandboxPlan(read_only=(str(tmp_path),), hidden=(str(shared),)))
    assert not [path for path in seen if "tls" in path]
    assert str(node.data) in seen


async def test_an_interpreter_by_a_link_in_somebodys_folder_shows_nothing_else_of_it(tmp_path: Path) -> None:
    """As uv leaves them: ~/.local/bin/python3.N, while the data directory is in ~/.local/share by default."""
    python = _another_python()
    local = tmp_path / ".local"
    (local / "bin").mkdir(parents=True)
    (local / "bin" / python.name).symlink_to(python)
    (local / "bin" / "tool").touch()
    async with open_node(local / "share" / "data", "--python-search-path", str(local / "bin")) as node:
        seen = await seen_below(node, tmp_path, SandboxPlan(), python.name.removeprefix("python"))

    prefixes = {p for p in seen if str(node.data / "environments") in p}
    assert {*map(Path, seen)} - {*map(Path, prefixes)} == {
        local, local / "bin", local / "bin" / python.name, local / "share", node.data
    }  # fmt: skip


def test_an_interpreter_of_the_system_shows_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/python3")

    assert interpreter_sights(str(tmp_path)) == ([], [])


def test_an_interpreter_that_lies_in_a_home_shows_its_own_parts_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    prefix, binary = tmp_path / "prefix", tmp_path / "bin" / "python3.12"
    for folder in (prefix / "bin", tmp_path / "bin", tmp_path / "lib" / "python3.12", tmp_path / ".ssh"):
        folder.mkdir(parents=True)
    binary.touch()
    (prefix / "bin" / "python").symlink_to(binary)

    assert interpreter_sights(str(prefix)) == ([str(tmp_path / "bin"), str(tmp_path / "lib")], [])


def _another_python() -> Path:
    """Of another version than the tests' own, which is found without its link."""
    for version in ("3.12", "3.10", "3.13"):
        found = [*Path("~/.pyenv/versions").expanduser().glob(f"{version}*/bin/python{version}")]
        found += [Path(p) for p in [shutil.which(f"python{version}")] if p]
        for python in found:
            if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return python
    pytest.skip("no second interpreter on this host")


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """The nodes of a machine with three GPUs, each of them another /dev/null."""
    folder = tmp_path / "dev"
    (folder / "dri").mkdir(parents=True)
    names = ["nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-modeset"]
    try:
        for name in [*names, "kfd", "sda", "dri/card0", "dri/renderD128", "dri/renderD129", "dri/renderD130"]:
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes device nodes")
    return folder


CONTROL = {"nvidiactl", "nvidia-uvm", "nvidia-modeset", "kfd"}


@pytest.mark.parametrize(
    ("gpus", "nodes"),
    [
        ((), set[str]()),
        ((1,), {"nvidia1", "dri/renderD129", *CONTROL}),
        ((0, 2), {"nvidia0", "nvidia2", "dri/renderD128", "dri/renderD130", *CONTROL}),
        ((7,), CONTROL),
        (None, {"nvidia0", "nvidia1", "nvidia2", *(f"dri/renderD{n}" for n in range(128, 131)), "dri/card0", *CONTROL}),
    ],
)  # fmt: skip
def test_a_program_has_the_devices_of_its_own_gpus(
    tmp_path: Path, devices: Path, gpus: tuple[int, ...] | None, nodes: set[str]
) -> None:
    run = tmp_path / "data" / "attempts" / "a1"
    for folder in (run / "work", run / "tmp", tmp_path / "data" / "run"):
        folder.mkdir(parents=True)
    sandbox = Sandbox(str(run), SandboxPlan(), str(tmp_path / "data"), None, gpus, str(devices))
    script = "cd /dev; for n in nvidia* kfd sda dri/*; do [ -c $n ] && echo > $n && echo $n; done; true"
    command = sandbox.command(["/bin/sh", "-c", script], {}, "/job/work")
    done = subprocess.run(
        command.argv, env={}, pass_fds=command.descriptors, capture_output=True, text=True, check=True
    )
    for fd in command.descriptors:
        os.close(fd)

    assert {*done.stdout.split()} == nodes
