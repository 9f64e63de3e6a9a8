"""What a runner of another machine promises beside the port: who may ask, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ports_memory_runner import MemoryRunner
from running_agent import RunningAgent
from test_runner import PLAN, takers

from jobsphere.api.tls import ensure_certificates
from jobsphere.cluster.trust import agent_token
from jobsphere.domain.errors import NotFoundError, UnavailableError
from jobsphere.runner import wire
from jobsphere.runner.remote import RemoteRunner

HANG_S = 60
SEALED = "a-sealed-secret"


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[RunningAgent]:
    running = RunningAgent(tmp_path, MemoryRunner(tmp_path / "outbox", takers(tmp_path), "far"))
    await running.start()
    yield running
    await running.close()


@pytest.mark.parametrize("token", ["", agent_token(b"x" * 32)])
async def test_nobody_is_answered_without_the_clusters_token(agent: RunningAgent, token: str) -> None:
    stranger = agent.runner(agent.session(token))
    for call in (stranger.launch(PLAN), stranger.attempts(), stranger.read_logs("a1", 0, 1)):
        with pytest.raises(UnavailableError, match=r"node far .* shared_dir"):
            await call
    assert not agent.local.held
    async with agent.session(token).get(f"{agent.url}/v1/attempts") as response:
        assert response.status == 401


async def test_an_agent_of_another_authority_is_told_nothing(agent: RunningAgent, tmp_path: Path) -> None:
    other = ensure_certificates(tmp_path / "other").ca_pem
    with pytest.raises(UnavailableError, match=r"node far .* certificate is not signed"):
        await agent.runner(agent.session(ca_pem=other)).launch(PLAN)
    assert not agent.local.held


async def test_one_that_is_away_is_told_of_by_its_name(agent: RunningAgent) -> None:
    runner = agent.runner()
    reached = await agent.listen(runner)
    assert await reached.get() == ""
    await agent.stop()
    with pytest.raises(UnavailableError, match="node far cannot be reached at https://"):
        await asyncio.wait_for(runner.observe("a1"), HANG_S)
    async with asyncio.timeout(HANG_S):
        while not (why := await reached.get()):
            pass
    assert "node far" in why
    await agent.start()
    async with asyncio.timeout(HANG_S):
        while await reached.get():
            pass
    await runner.launch(PLAN)


async def test_one_that_takes_connections_and_says_nothing_is_away(
    agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    runner = RemoteRunner("far", f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}", agent.session())
    with pytest.raises(UnavailableError, match="node far"):
        await asyncio.wait_for(runner.attempts(), HANG_S)
    for writer in held:
        writer.close()
    silent.close()


async def test_work_that_takes_longer_than_the_silence_that_is_borne_comes_to_its_end(
    agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsphere.cluster.serving.BEAT_S", 0.02)
    beats, gone = asyncio.Event(), asyncio.Event()

    async def deliver(*_: object) -> None:
        beats.set()
        await gone.wait()
        raise NotFoundError("it is gone")

    monkeypatch.setattr(agent.local, "deliver", deliver)
    async with agent.session().put(f"{agent.url}{wire.attempt_path('a1', 'files')}",
                                   data=b'{"project_id":"p1","files":[]}') as response:  # fmt: skip
        await beats.wait()
        assert await response.content.readexactly(3) == b"   "
        gone.set()
        with pytest.raises(NotFoundError, match="it is gone"):
            wire.answer(type(None), await response.read())


async def test_an_error_of_the_domain_comes_as_it_is_and_any_other_by_a_reference(
    agent: RunningAgent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_: object) -> None:
        raise OSError(f"no room for {SEALED.upper()}")

    runner = agent.runner()
    agent.local.fault = NotFoundError("there is no attempt", path="/secret/place")
    with pytest.raises(NotFoundError, match=r"^there is no attempt$"):
        await runner.observe("a1")
    agent.local.fault = None
    monkeypatch.setattr(agent.local, "launch", broken)
    with pytest.raises(UnavailableError, match="node far could not do it") as told:
        await runner.launch(PLAN)
    assert SEALED.upper() not in str(told.value)
    assert str(told.value).split()[-1] in capsys.readouterr().out


async def test_bodies_and_tokens_are_never_logged(
    agent: RunningAgent, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    body = f'{{"secrets": [["A", "{SEALED}"]], "attempt_id": 3'.encode()
    session = agent.session()
    async with session.put(f"{agent.url}{wire.attempt_path('a1')}", data=body) as response:
        assert (await response.read()).startswith(b'!{"code":"INVALID_ARGUMENT"')
    agent.local.fault = ValueError("broken")
    with pytest.raises(UnavailableError):
        await agent.runner(session).launch(PLAN)
    said = caplog.text + "".join(capsys.readouterr())
    assert "request failed" in said
    assert SEALED not in said
    assert agent_token(b"k" * 32) not in said + repr(session) + repr(agent.runner(session))
