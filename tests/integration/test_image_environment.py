"""Python environments inside images: real podman, an image with a Python, the real uv, an index on loopback."""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import signal
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench import Index, make_source, serving
from channels import VERSION, Channel
from containers import GLIBC, INTERPRETER, PYTHON, TINY, Podman, add_python, podman_in
from supervisors import Node, open_node, until

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, ImagePlan, LogStream, Observation, StopOrder
from jobsphere.domain.command import MODULES
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import Phase, PipOptions, PythonEnv
from jobsphere.environments.eviction import stored_environments, trim
from jobsphere.pythonspec import environment_of

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
ONE, TWO, THREE = (f"a{n}-{os.getpid()}" for n in (1, 2, 3))
"""Attempts have names that no other process has: what is left of one is killed wherever it is on this machine."""
DAC_OVERRIDE = 1
SHOW = 'python -c "import sys, alpha; print(alpha.version, sys.prefix)"'


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        opened.make_glibc()
        opened.make_glibc(PYTHON, python="usr/local")
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


async def log(node: Node, name: str = ONE) -> str:
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
    show = (
        "import alpha, local, of_image, sys;"
        "print(alpha.version, local.word, '%d.%d' % sys.version_info[:2], sys.base_prefix)"
    )
    cmd = f'python -c "{show}"; echo $VIRTUAL_ENV; touch $VIRTUAL_ENV/x $VIRTUAL_ENV/bin/python || echo safe'

    seen = await node.run(cmd, ONE, image=image, inputs=inputs, environment=wants(index, "alpha"))

    assert succeeded(seen), await log(node)
    (prefix,) = prefixes(node)
    assert await node.text(name=ONE) == f"1.0 of the job {OWN} /usr/local\n{prefix}\nsafe\n"
    assert "alpha==1.0" in await log(node)
    assert owners(prefix) == {os.geteuid()}
    fetched = len(index.downloads)
    again = await node.run(SHOW, TWO, image=image, environment=wants(index, "alpha"))
    assert succeeded(again)
    assert await node.text(name=TWO) == f"1.0 {prefix}\n"
    assert "Environment found in the cache" in await log(node, TWO)
    assert len(index.downloads) == fetched


async def test_without_a_version_it_is_the_images_own(node: Node, image: ImagePlan, index: Index) -> None:
    seen = await node.run(SHOW, ONE, image=image, environment=wants(index, "alpha", version=""))
    assert succeeded(seen), await log(node)
    assert (await node.text(name=ONE)).startswith("1.0 ")


async def test_a_source_package_is_built_in_the_image_without_rights_on_this_host(
    node: Node, image: ImagePlan, index: Index
) -> None:
    tells = (
        "[__import__('os').path.exists(p) for p in ('/usr/local/bin/python3', %r, '/usr/bin')],"
        "sorted(k for k in __import__('os').environ if k.startswith('SERVER')),"
        "open('/proc/self/uid_map').read().split()[:2], open('/proc/self/status').read().split('CapEff:')[1].split()[0]"
    )
    make_source(index.folder, "gamma", tells % str(node.data / "attempts"))

    seen = await node.run(
        'python -c "import gamma; print(gamma.said)"', ONE, image=image, environment=wants(index, "gamma")
    )

    assert succeeded(seen), await log(node)
    rights = f"{1 << DAC_OVERRIDE:016x}"
    ids = ["0", "1879048192"] if os.geteuid() == 0 else ["0", str(os.geteuid())]
    assert await node.text(name=ONE) == f"([True, False, False], [], {ids}, {rights!r})\n"


async def test_a_build_that_digs_deep_in_its_prefix_harms_nobody(node: Node, image: ImagePlan, index: Index) -> None:
    down = "[(os.path.isdir('d') or os.mkdir('d'), os.chdir('d')) for _ in range(3000)]"
    dig = f"import os; os.chdir(os.environ['JOBSPHERE_BUILD']); {down}; os.chdir('/')"
    make_source(index.folder, "digger", f"exec({dig!r}, {{}})")

    seen = await node.run("true", ONE, image=image, environment=wants(index, "digger"))

    assert succeeded(seen), await log(node)
    assert (prefixes(node)[0] / "d" / "d").stat().st_uid == os.geteuid()
    await until(lambda: trim(node.data, 0) and not prefixes(node), "the end of its use")


async def test_what_cannot_be_resolved_is_told_in_the_resolvers_words(
    node: Node, image: ImagePlan, index: Index
) -> None:
    index.add("delta", "1.0", ["alpha>7"])
    seen = await node.run("true", ONE, image=image, environment=wants(index, "delta"))
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase, seen.started) == (EndReason.FAILED, Phase.ENVIRONMENT, None)
    assert seen.ended.message.startswith("the requirements cannot be installed:\n")
    assert "alpha>7" in seen.ended.message
    assert not list((node.data / "environments").glob("*.ready"))


async def test_credentials_are_in_no_command_no_log_and_no_file_that_stays(
    node: Node, image: ImagePlan, index: Index
) -> None:
    index.gate.clear()
    await node.runner.launch(node.plan(SHOW, ONE, image=image, environment=wants(index, "alpha")))
    await until(lambda: index.downloads, "the download")

    assert node.at("build.list", name=ONE).stat().st_mode & 0o777 == 0o600
    assert not [pid for pid, words in commands().items() if b"hunter2" in words]
    index.gate.set()
    assert succeeded(await node.end(ONE))
    assert "hunter2" not in await log(node)
    files = [p for p in node.data.rglob("*") if p.is_file() and p.name != "plan.json"]
    assert not [p for p in files if b"hunter2" in p.read_bytes()]


def commands() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[entry.name] = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


async def test_a_stop_ends_the_build_and_its_container(
    node: Node, image: ImagePlan, index: Index, podman: Podman
) -> None:
    index.gate.clear()
    await node.runner.launch(node.plan(SHOW, ONE, image=image, environment=wants(index, "alpha")))
    await until(lambda: index.downloads, "the download")
    assert podman.containers() == [f"jobsphere-{ONE}-build"]
    run = f"\0run\0--name\0jobsphere-{ONE}-build\0".encode()
    clients = [pid for pid, words in commands().items() if run in words]
    assert clients
    assert all(b"\0JOBSPHERE_BUILD=" in Path("/proc", pid, "environ").read_bytes() for pid in clients)

    await node.runner.stop(ONE, StopOrder())
    seen = await node.end(ONE)

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase, seen.started) == (EndReason.STOPPED, Phase.ENVIRONMENT, None)
    assert podman.containers() == []
    assert not [pid for pid, words in commands().items() if str(node.data).encode() in words and b"install" in words]
    index.gate.set()
    assert succeeded(await node.run(SHOW, TWO, image=image, environment=wants(index, "alpha")))


@pytest.mark.parametrize("spawner_too", [False, True])
async def test_a_crash_leaves_no_container_and_nothing_half_built(
    node: Node, image: ImagePlan, index: Index, podman: Podman, spawner_too: bool
) -> None:
    index.gate.clear()
    plan = node.plan(SHOW, ONE, image=image, environment=wants(index, "alpha"))
    await node.runner.launch(plan)
    await until(lambda: index.downloads, "the download")
    if spawner_too:
        os.kill(node.spawner(ONE), signal.SIGKILL)
    await node.kill_supervisor(ONE)

    await node.runner.launch(plan)
    seen = await node.end(ONE)

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.LOST, Phase.MACHINE)
    assert podman.containers() == []
    assert not node.at("build.list", name=ONE).exists()
    (half,) = prefixes(node)
    (half / "half").touch()
    index.gate.set()
    assert succeeded(await node.run(SHOW, TWO, image=image, environment=wants(index, "alpha")))
    assert prefixes(node) == [half]
    assert not (half / "half").exists()


async def test_a_crash_is_cleared_by_the_next_one_that_builds_or_trims(
    node: Node, image: ImagePlan, index: Index, podman: Podman
) -> None:
    index.gate.clear()
    plan = node.plan(SHOW, ONE, image=image, environment=wants(index, "alpha"))
    await node.runner.launch(plan)
    await until(lambda: index.downloads, "the download")
    os.kill(node.spawner(ONE), signal.SIGKILL)
    await node.kill_supervisor(ONE)

    assert len(trim(node.data, 1 << 40).environments) == 1  # nobody has closed its books yet

    assert prefixes(node) == []
    await until(lambda: podman("ps", "--quiet") == "", "the end of the build")
    await node.runner.launch(plan)
    await node.end(ONE)


async def test_two_jobs_at_once_build_once(node: Node, image: ImagePlan, index: Index) -> None:
    index.gate.clear()
    environment = wants(index, "alpha")
    await node.runner.launch(node.plan(SHOW, ONE, image=image, environment=environment))
    await until(lambda: index.downloads, "the download")
    await node.runner.launch(node.plan(SHOW, TWO, image=image, environment=environment))
    await node.printed("waiting for the same environment", TWO)

    index.gate.set()
    for name in (ONE, TWO):
        assert succeeded(await node.end(name)), await log(node, name) + str(await node.frames(name))

    assert "building environment" in await log(node, ONE)
    assert "building environment" not in await log(node, TWO)
    assert len(prefixes(node)) == 1


async def test_eviction_spares_one_in_use(node: Node, image: ImagePlan, index: Index) -> None:
    plan = node.plan(f"{SHOW}; sleep 1000", ONE, image=image, environment=wants(index, "alpha"))
    await node.runner.launch(plan)
    await node.printed("1.0 ", ONE)
    (stored,) = stored_environments(node.data)
    assert (stored.in_use, stored.complete) == (True, True)
    assert stored.what.startswith(f"Python {OWN}, 1 requirements, in image ")

    assert trim(node.data, 0).environments == ()

    assert len(prefixes(node)) == 1
    await node.runner.stop(ONE, StopOrder())
    await node.end(ONE)
    await until(lambda: trim(node.data, 0) and not prefixes(node), "the end of its use")


async def test_an_image_is_known_by_its_content_and_may_keep_its_python_for_its_users(
    node: Node, image: ImagePlan, index: Index, podman: Podman
) -> None:
    assert succeeded(await node.run(SHOW, ONE, image=image, environment=wants(index, "alpha")))
    podman.make_glibc("localhost/other:1", python="usr/local", user=1000)
    podman("tag", PYTHON, "localhost/same:1")

    same = await node.run(
        SHOW, TWO, image=replace(image, reference="localhost/same:1"), environment=wants(index, "alpha")
    )
    other = await node.run(
        SHOW, THREE, image=replace(image, reference="localhost/other:1"), environment=wants(index, "alpha")
    )

    assert succeeded(same)
    assert succeeded(other)
    assert "found in the cache" in await log(node, TWO)
    assert len(prefixes(node)) == 2


@pytest.mark.parametrize(
    ("reference", "version", "words"),
    [
        (TINY, "", "the image has no python3 on its PATH; use one that has, or ask for a python_version"),
        (TINY, OWN, "needs glibc, which the image lacks as well. Use an image that has Python"),
        (GLIBC, OWN, "the image has none on its PATH, and uv cannot bring one along:"),
    ],
)
async def test_an_image_without_that_python_is_told(
    node: Node, image: ImagePlan, index: Index, reference: str, version: str, words: str
) -> None:
    environment = wants(index, "alpha", version=version)
    seen = await node.run("true", ONE, image=replace(image, reference=reference), environment=environment)
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.ENVIRONMENT)
    assert words in seen.ended.message


async def test_a_python_that_the_image_lacks_is_brought_along(
    node: Node, image: ImagePlan, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        add_python(tar, "python")
    major, minor, patch = sys.version_info[:3]
    key = f"cpython-{major}.{minor}.{patch}-linux-{platform.machine()}-gnu"
    about = {
        "name": "cpython", "arch": {"family": platform.machine(), "variant": None}, "os": "linux", "libc": "gnu",
        "major": major, "minor": minor, "patch": patch, "prerelease": "", "url": archive.as_uri(), "sha256": None,
        "variant": None, "build": "20260101",
    }  # fmt: skip
    (tmp_path / "pythons.json").write_text(json.dumps({key: about}))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "manual")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(tmp_path / "pythons.json"))

    plain = replace(image, reference=GLIBC)
    seen = await node.run(f"{SHOW}; readlink -f $(which python)", ONE, image=plain, environment=wants(index, "alpha"))

    assert succeeded(seen), await log(node)
    (prefix,) = prefixes(node)
    shown, python = (await node.text(name=ONE)).splitlines()
    assert shown == f"1.0 {prefix}"
    assert python.startswith(f"{prefix}/python/cpython-")


async def test_conda_packages_and_a_pip_section(node: Node, image: ImagePlan, index: Index, tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel")
    channel.add("beta", depends=["__glibc >=2.17"], files={"bin/beta": b"#!/bin/sh\necho of conda\n"})
    program = {"pyvenv.cfg": b"home = /usr/local/bin\n", "bin/python": INTERPRETER.read_bytes()}
    channel.add("python", VERSION, files=program)
    yaml = f"channels: [{await asyncio.to_thread(channel.publish)}]\ndependencies: [beta, {{pip: [alpha]}}]"
    environment = environment_of(PythonEnv(conda_yaml=yaml, pip_options=PipOptions(index_url=index.url())))

    seen = await node.run(f"beta; {SHOW}; echo $CONDA_PREFIX", ONE, image=image, environment=environment)

    assert succeeded(seen), await log(node)
    (prefix,) = prefixes(node)
    assert await node.text(name=ONE) == f"of conda\n1.0 {prefix}\n{prefix}\n"
    cached = [p for p in (node.data / "cache" / "conda" / "packages").rglob("*") if p.is_file()]
    assert (prefix / "bin" / "beta").stat().st_nlink == 1
    assert cached
    assert {p.stat().st_uid for p in cached} == {os.geteuid()}


async def test_conda_packages_need_glibc(node: Node, image: ImagePlan, tmp_path: Path) -> None:
    environment = environment_of(PythonEnv(conda_yaml="channels: ['file:///nowhere']\ndependencies: [alpha]"))
    seen = await node.run("true", ONE, image=replace(image, reference=TINY), environment=environment)
    assert seen.ended
    assert "conda packages need glibc, which the image lacks" in seen.ended.message
