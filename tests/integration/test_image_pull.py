"""Pulls: a real registry that asks for a login, and where the password may not be seen meanwhile."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from containers import PASSWORD, USER, Podman, Registry, podman_in, registry_in
from supervisors import KEY, PROJECT, Node, open_keyed_node, until

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, ImagePlan, LogStream, Observation, StopOrder
from jobsphere.domain.job import Phase
from jobsphere.secretbox import SecretBox


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        yield opened


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, podman: Podman) -> Iterator[Registry]:
    with registry_in(tmp_path_factory.mktemp("registry") / "r") as opened:
        opened.push(podman, "team/tiny:1")
        yield opened


@pytest.fixture
def image(podman: Podman, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> ImagePlan:
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registry.conf))
    podman("rmi", "--force", f"{registry.host}/team/tiny:1", check=False)
    return private(ImagePlan(f"{registry.host}/team/tiny:1", podman.engine, network=False), PASSWORD)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_keyed_node(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def silent() -> Iterator[str]:
    """The host of a registry that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def private(plan: ImagePlan, password: str) -> ImagePlan:
    return replace(plan, username=USER, password_sealed=SecretBox(KEY).seal(PROJECT, password))


def failed(seen: Observation) -> str:
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.IMAGE)
    assert seen.started is None
    return seen.ended.message


async def test_a_private_image_is_pulled_live_and_found_the_next_time(node: Node, image: ImagePlan) -> None:
    first = await node.run("echo ran", image=image)
    second = await node.run("echo ran", name="a2", image=image)

    assert first.ended
    assert first.ended.code == 0, first.ended
    assert second.ended
    told = await node.text(LogStream.FILE, path=SYSTEM_LOG)
    assert "Copying blob" in told
    assert "Image pulled in" in told
    assert "Image found on this host" in await node.text(LogStream.FILE, name="a2", path=SYSTEM_LOG)
    assert await node.text(name="a2") == "ran\n"


async def test_a_digest_is_not_pulled_again_even_where_tags_always_are(
    node: Node, image: ImagePlan, podman: Podman, registry: Registry
) -> None:
    always = replace(image, pull_always=True)
    for name in ("a1", "a2"):
        await node.run("true", name=name, image=always)
        assert "Image pulled in" in await node.text(LogStream.FILE, name=name, path=SYSTEM_LOG)
    digest = podman("image", "inspect", "--format", "{{.Digest}}", image.reference).strip()

    await node.run("true", name="a3", image=replace(always, reference=f"{registry.host}/team/tiny@{digest}"))

    assert "Image found on this host" in await node.text(LogStream.FILE, name="a3", path=SYSTEM_LOG)


async def test_a_wrong_password_is_told_in_the_registrys_words(node: Node, image: ImagePlan) -> None:
    message = failed(await node.run("true", image=private(image, "wrong-one")))

    assert "does not accept the login" in message
    assert "authentication required" in message or "unauthorized" in message
    assert "wrong-one" not in message


async def test_no_login_where_one_is_asked_for(node: Node, image: ImagePlan) -> None:
    assert "does not accept the login" in failed(await node.run("true", image=replace(image, password_sealed="")))


async def test_an_image_that_the_registry_does_not_have(node: Node, image: ImagePlan, registry: Registry) -> None:
    message = failed(await node.run("true", image=replace(image, reference=f"{registry.host}/team/none:1")))
    assert "the registry has no such image" in message


async def test_a_registry_that_nobody_runs(node: Node, image: ImagePlan) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    message = failed(await node.run("true", image=replace(image, reference=f"127.0.0.1:{port}/x:1")))
    assert "the registry cannot be reached" in message


async def test_a_password_that_another_key_sealed(node: Node, image: ImagePlan) -> None:
    other = SecretBox(b"x" * 32).seal(PROJECT, PASSWORD)
    assert "create the job again" in failed(await node.run("true", image=replace(image, password_sealed=other)))


async def test_a_pull_that_takes_too_long_is_ended(node: Node, image: ImagePlan, silent: str) -> None:
    slow = replace(image, reference=f"{silent}/x:1", pull_timeout_s=0.5)
    assert "it took longer than 0.5 s" in failed(await node.run("true", image=slow))


async def test_a_cancel_while_pulling_and_no_password_in_clear_anywhere(
    node: Node, image: ImagePlan, silent: str, podman: Podman
) -> None:
    await node.runner.launch(node.plan("true", image=replace(image, reference=f"{silent}/x:1")))
    await until(lambda: pulls(silent), "the pull is under way")
    login = node.at("login", "config.json")

    assert login.stat().st_mode & 0o077 == 0
    assert node.at("login").stat().st_mode & 0o077 == 0
    assert not [p for p in node.data.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]
    assert not [line for line in command_lines() if PASSWORD.encode() in line]
    await node.runner.stop("a1", StopOrder())
    seen = await node.end()

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.STOPPED, Phase.IMAGE)
    assert pulls(silent) == []
    assert not login.parent.exists()
    assert PASSWORD not in str([await node.frames()])


async def test_a_supervisor_killed_while_pulling_leaves_no_login(node: Node, image: ImagePlan, silent: str) -> None:
    plan = node.plan("true", image=replace(image, reference=f"{silent}/x:1"))
    await node.runner.launch(plan)
    await until(lambda: pulls(silent), "the pull is under way")
    await node.kill_supervisor()

    await node.runner.launch(plan)
    seen = await node.end()

    assert seen.ended
    assert seen.ended.reason is EndReason.LOST
    assert not node.at("login").exists()
    assert pulls(silent) == []


def command_lines() -> list[bytes]:
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


def pulls(host: str) -> list[bytes]:
    return [c for c in command_lines() if b"\0pull\0" in c and host.encode() in c and not c.startswith(b"timeout")]
