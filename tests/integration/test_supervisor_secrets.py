"""Secrets of an attempt: sealed in its run directory, variables of its program, and out of its log if asked for."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest
from supervisors import KEY, PROJECT, Node, open_keyed_node

from jobsphere.domain.attempt import EndReason, LogStream, SandboxPlan
from jobsphere.domain.job import Phase
from jobsphere.runner.local import LocalRunner
from jobsphere.runner.sandbox import why_not
from jobsphere.secretbox import KEY_VARIABLE, Keys, SecretBox

VALUE = "planted-hush"


@pytest.fixture
async def node(tmp_path: Path):
    async with open_keyed_node(tmp_path / "data") as opened:
        yield opened


def sealed(value: str = VALUE, key: bytes = KEY) -> str:
    return SecretBox(key).seal(PROJECT, value)


def files_with(node: Node, text: str) -> list[Path]:
    return [p for p in node.data.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@pytest.mark.parametrize("fence", [None, SandboxPlan()])
async def test_they_are_variables_and_nowhere_in_clear(node: Node, fence: SandboxPlan | None) -> None:
    if fence and why_not() and "CI" not in os.environ:
        pytest.skip(why_not())
    script = "test \"$TOKEN\" = planted-$(echo hush) && env | grep -c '^WITH-DASH=planted-' && echo $MINE; echo up; cat"
    await node.runner.launch(
        node.plan(
            script,
            sandbox=fence,
            secrets=(("TOKEN", sealed()), ("WITH-DASH", sealed()), ("MINE", sealed())),
            variables=(("MINE", "own"),),
        )
    )
    seen = await node.end()

    assert await node.text() == "1\nown\nup\n"
    assert seen.ended
    assert seen.ended.code == 0
    assert files_with(node, VALUE) == []


async def test_one_that_cannot_be_opened_is_named(node: Node) -> None:
    seen = await node.run("true", secrets=(("TOKEN", sealed()), ("OTHER", sealed(key=b"x" * 32))))

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.ENVIRONMENT)
    assert seen.ended.message.startswith("Secret 'OTHER': a stored secret cannot be opened")


async def test_values_are_masked_in_the_log_and_in_the_words_about_the_end(node: Node) -> None:
    script = "printf 'a planted-'; sleep 0.5; echo hush b; printf planted-; echo $TOKEN >&2; exit 3"
    seen = await node.run(script, secrets=(("TOKEN", sealed()),), mask_secrets=True)

    assert await node.text() == "a ***** b\nplanted-"
    assert await node.text(LogStream.ERR) == "*****\n"
    assert seen.ended
    assert seen.ended.message == "*****"
    assert files_with(node, VALUE) == []


async def test_without_masking_the_log_is_the_programs_own(node: Node) -> None:
    await node.run("echo $TOKEN", secrets=(("TOKEN", sealed()),))

    assert await node.text() == f"{VALUE}\n"


async def test_a_spawner_of_an_older_server_opens_with_the_keys_of_the_newer(node: Node) -> None:
    """It goes on while an attempt does, and the key came by the older server's environment."""
    fresh = b"f" * 32
    await node.runner.launch(node.plan("echo up; until [ -e go ]; do sleep 0.05; done", "a1"))
    await node.printed("up")
    spawner = node.spawner()
    keys = Keys(node.data, None, {KEY_VARIABLE: b64encode(fresh).decode()})
    newer = LocalRunner(node.data, "here", ["false"], node.takers(), keys.for_node())
    plan = node.plan("echo ${#TOKEN}; tr '\\0' '\\n' < /proc/self/environ | grep JOBSPHERE_SECRET", "a2",
                     secrets=(("TOKEN", sealed(key=fresh)),))  # fmt: skip
    await newer.launch(plan)
    await node.end("a2")

    assert node.spawner("a2") == spawner
    assert await node.text(name="a2") == f"{len(VALUE)}\n"
    node.at("work", "go").touch()
    await node.end()
    await newer.close()
