"""Attempts on another machine: the runner of a node whose agent answers by HTTPS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from yarl import URL

from jobsphere.domain.attempt import AttemptPlan, CollectedFile, LogChunk, Observation, StopOrder
from jobsphere.domain.errors import JobsphereError, UnavailableError
from jobsphere.runner import wire
from jobsphere.runner.records import dumps
from jobsphere.runner.wire import PREFIX, SILENT_S, attempt_path

CONNECT_S = 5.0
_AGAIN_S = 1.0
_REFUSED = {401, 403}
T = TypeVar("T")


def open_session(token: str, trusted: ssl.SSLContext) -> aiohttp.ClientSession:
    """What all agents of a cluster are asked by. Made on the running event loop; whoever opens it closes it.

    Args:
        token: What they know a server by.
        trusted: The authority that signs their certificates.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=trusted),
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class RemoteRunner:
    """The :class:`jobsphere.domain.attempt_ports.KeepingRunner` of another machine.

    Each call raises UnavailableError, which names the node, when its agent cannot be reached or says nothing any more:
    within :data:`CONNECT_S` or :data:`jobsphere.runner.wire.SILENT_S` seconds.

    Args:
        node: The name of the node.
        url: Where its agent answers. May change: an agent that starts again has another port, perhaps.
        session: See :func:`open_session`.
    """

    def __init__(self, node: str, url: str, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.url = url
        self._session = session
        self._hints: list[Callable[[str], None]] = []

    async def launch(self, plan: AttemptPlan) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.launch`."""
        await self._call(type(None), "PUT", attempt_path(plan.attempt_id), dumps(plan))

    async def observe(self, attempt_id: str) -> Observation:
        """See :meth:`jobsphere.domain.ports.Runner.observe`."""
        return await self._call(Observation, "GET", attempt_path(attempt_id))

    async def stop(self, attempt_id: str, order: StopOrder) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.stop`."""
        await self._call(type(None), "PUT", attempt_path(attempt_id, "stop"), dumps(order))

    async def deliver(self, project_id: str, attempt_id: str, files: Sequence[CollectedFile]) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.deliver`."""
        body = dumps(wire.Delivery(project_id, tuple(files)))
        await self._call(type(None), "PUT", attempt_path(attempt_id, "files"), body)

    async def deliver_dataset(self, project_id: str, attempt_id: str, name: str, dataset_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.deliver_dataset`."""
        body = dumps(wire.DatasetDelivery(project_id, name, dataset_id))
        await self._call(type(None), "PUT", attempt_path(attempt_id, "dataset"), body)

    async def tidy(self, attempt_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.tidy`."""
        await self._call(type(None), "PUT", attempt_path(attempt_id, "tidy"))

    async def remove(self, attempt_id: str) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.remove`."""
        await self._call(type(None), "DELETE", attempt_path(attempt_id))

    async def attempts(self) -> Sequence[str]:
        """See :meth:`jobsphere.domain.ports.Runner.attempts`."""
        return await self._call(tuple[str, ...], "GET", f"{PREFIX}/attempts")

    async def tidied(self) -> Sequence[str]:
        """See :meth:`jobsphere.domain.attempt_ports.KeepingRunner.tidied`."""
        return await self._call(tuple[str, ...], "GET", f"{PREFIX}/tidied")

    def subscribe(self, hint: Callable[[str], None]) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.subscribe`. They come while somebody runs :meth:`listen`."""
        self._hints.append(hint)

    async def read_logs(self, attempt_id: str, offset: int, limit_bytes: int) -> LogChunk:
        """See :meth:`jobsphere.domain.ports.Runner.read_logs`."""
        where = f"{attempt_path(attempt_id, 'logs')}?offset={offset}&limit={limit_bytes}"
        async with self._asked("GET", where) as response:
            body = await response.read()
            if response.content_type == wire.FRAMES:
                return wire.chunk_of(body, response.headers[wire.OFFSET], response.headers[wire.COMPLETE])
            return wire.answer(LogChunk, body)  # an error

    async def log_size(self, attempt_id: str) -> int:
        """See :meth:`jobsphere.domain.ports.Runner.log_size`."""
        return await self._call(int, "GET", attempt_path(attempt_id, "logs", "size"))

    async def wait_logs(self, attempt_id: str, offset: int, timeout_s: float) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.wait_logs`."""
        where = f"{attempt_path(attempt_id, 'logs', 'wait')}?offset={offset}&timeout={timeout_s}"
        await self._call(type(None), "GET", where)

    async def listen(self, reached: Callable[[str], None]) -> None:
        """Have the hints of this node given, until cancelled: over one connection, which is made again and again.

        ``reached("")`` when it is there, ``reached(why)`` when it is not; what hints there were in between is lost.
        """
        while True:
            try:
                async with self._asked("GET", f"{PREFIX}/hints") as response:
                    async for line in response.content:
                        attempt_id = line.strip().decode()
                        if not attempt_id:
                            reached("")
                        for hint in self._hints if attempt_id else ():
                            hint(attempt_id)
                reached(self._away("its agent has stopped").public)
            except JobsphereError as error:
                reached(error.public)
            await asyncio.sleep(_AGAIN_S)

    async def _call(self, kind: type[T], method: str, where: str, body: bytes = b"") -> T:
        async with self._asked(method, where, body) as response:
            return wire.answer(kind, await response.read())

    @asynccontextmanager
    async def _asked(self, method: str, where: str, body: bytes = b"") -> AsyncGenerator[aiohttp.ClientResponse]:
        """An answer of the agent. What the HTTP library has to say of it may quote the request, and is not passed on.

        Raises:
            UnavailableError: there is none.
        """
        url = URL(self.url + where, encoded=True)
        try:
            async with self._session.request(method, url, data=body or None, allow_redirects=False) as response:
                if response.status in _REFUSED:
                    raise self._away("it does not know this server: both need the same shared_dir")
                if response.status != 200:
                    raise self._away(f"it answers with status {response.status}")
                yield response
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._away("its certificate is not signed by the authority of this server's shared_dir") from error
        except TimeoutError as error:
            raise self._away("it does not answer") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._away(type(error).__name__) from error

    def _away(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"node {self.node} cannot be reached at {self.url}: {why}; see there that `jobsphere agent` runs, and "
            "what it logs"
        )
