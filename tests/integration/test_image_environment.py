"""Python environments inside images: real podman, an image with a Python, the real uv, an index on loopback."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from bench import Index, serving
from containers import PYTHON, TINY, Podman, missing, podman_in
from supervisors import Node, gone, open_node, until

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, ImagePlan, LogStream, Observation, StopOrder
from jobsphere.domain.command import MODULES
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import Phase
from jobsphere.environments.eviction import stored_environments, trim

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
SHOW = 'python -c "import sys, alpha; print(alpha.version, sys.prefix)"'


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    lacking = missing()
    if lacking and "CI" not in os.environ:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        opened.make_python()
        yield opened


@pytest.fixture
def image(podman: Podman) -> ImagePlan:
    return ImagePlan(PYTHON, podman.engine, network=False)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "wheels").mkdir()
    with serving(Index(tmp_path / "wheels", login="user:hunter2-secret")) as index:
        index.gate.set()
        index.add("alpha", "1.0")
        yield index


@pytest.fixture
async def node(tmp_path: Path, podman: Podman) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "data") as opened:
        yield opened
    assert podman.containers() == []
    assert podman.cgroups() == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not list((tmp_path / "data" / "attempts").glob("*/build.*"))


def wants(index: Index, *requirements: str, version: str = OWN) -> PythonEnvironment:
    return PythonEnvironment(version, requirements, index_url=index.url())


async def log(node: Node, name: str = "a1") -> str:
    return await node.text(LogStream.FILE, name, SYSTEM_LOG)


def succeeded(seen: Observation) -> bool:
    return seen.ended is not None and (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0)


def prefixes(node: Node) -> list[Path]:
    return [p for p in (node.data / "environments").iterdir() if p.is_dir()]


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


async def test_packages_and_local_modules_are_there_and_the_next_job_is_warm(
    node: Node, image: ImagePlan, index: Index
) -> None:
    module = io.BytesIO()
    with zipfile.ZipFile(module, "w") as archive:
        archive.writestr("local.py", "word = 'of the job'\n")
    inputs = (node.input(module.getvalue(), MODULES, unpack=True, into_target=True),)
    show = "import alpha, local, sys; print(alpha.version, local.word, '%d.%d' % sys.version_info[:2], sys.base_prefix)"
    cmd = f'python -c "{show}"; echo $VIRTUAL_ENV; touch $VIRTUAL_ENV/x $VIRTUAL_ENV/bin/python || echo safe'

    seen = await node.run(cmd, image=image, inputs=inputs, environment=wants(index, "alpha"))

    assert succeeded(seen), await log(node)
    (prefix,) = prefixes(node)
    assert await node.text() == f"1.0 of the job {OWN} /usr/local\n{prefix}\nsafe\n"
    assert "alpha==1.0" in await log(node)
    assert owners(prefix) == {os.geteuid()}
    again = await node.run(SHOW, "a2", image=image, environment=wants(index, "alpha"))
    assert succeeded(again)
    assert await node.text(name="a2") == f"1.0 {prefix}\n"
    assert "Environment found in the cache" in await log(node, "a2")
    assert index.downloads == ["alpha-1.0-py3-none-any.whl"]
