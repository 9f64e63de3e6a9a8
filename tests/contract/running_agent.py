"""An agent in the test's own process: a runner behind HTTPS on a free port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import aiohttp
from aiohttp import web

from jobsphere.api.tls import ensure_certificates
from jobsphere.cluster.serving import build_agent_app, serve_agent
from jobsphere.cluster.trust import agent_token, answering_context, asking_context
from jobsphere.domain.attempt_ports import KeepingRunner
from jobsphere.runner.remote import RemoteRunner, open_session

KEY = b"k" * 32


class RunningAgent:
    """Serves a runner until it is stopped; can be started again on the same port."""

    def __init__(self, path: Path, runner: KeepingRunner) -> None:
        self.tls = ensure_certificates(path / "tls")
        self.local = runner
        self.port = 0
        self._served: web.AppRunner | None = None
        self._sessions: list[aiohttp.ClientSession] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """One that answers is left as it is."""
        if self._served is not None:
            return
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        app = build_agent_app(self.local, agent_token(KEY))
        self._served = await serve_agent(app, listening, answering_context(self.tls.server_pem))

    async def stop(self) -> None:
        if self._served is not None:
            await self._served.cleanup()
            self._served = None

    def session(self, token: str = agent_token(KEY), ca_pem: Path | None = None) -> aiohttp.ClientSession:
        self._sessions.append(open_session(token, asking_context(ca_pem or self.tls.ca_pem)))
        return self._sessions[-1]

    def runner(self, session: aiohttp.ClientSession | None = None) -> RemoteRunner:
        return RemoteRunner(self.local.node, self.url, session or self.session())

    async def listen(self, runner: RemoteRunner) -> asyncio.Queue[str]:
        """Have its hints given; whether it is reached comes in the queue, the first time is waited for."""
        told, reached = asyncio.Event(), asyncio.Queue[str]()

        def note(why: str) -> None:
            told.set()
            reached.put_nowait(why)

        self._tasks.append(asyncio.create_task(runner.listen(note)))
        await told.wait()
        return reached

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for session in self._sessions:
            await session.close()
        await self.stop()
