"""A call that something else than gRPC carries, as the handlers see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from jobsphere.api.registrar import Answer
from jobsphere.api.rest.codec import Failed


class ReaderLeftError(grpc.aio.BaseError):
    """Nobody reads the answer any more: what gRPC says in the same case."""


class Call:
    """One call.

    Args:
        peername: The socket address of whoever calls; None if it is not known.
        authorization: The header of that name.
        traceparent: So is this.
        write: Takes the answers of a stream.
    """

    def __init__(
        self,
        peername: Sequence[Any] | None,
        authorization: str | None,
        write: Callable[[Answer], Awaitable[None]] | None = None,
        traceparent: str | None = None,
    ) -> None:
        self._peername = peername
        given = {"authorization": authorization, "traceparent": traceparent}
        self._metadata = tuple((name, value) for name, value in given.items() if value)
        self._write = write
        self.headers: dict[str, str] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Who calls, and in which trace."""
        return self._metadata

    def peer(self) -> str:
        """Where the call comes from."""
        if not self._peername:
            return "http:unknown"
        host, port = self._peername[:2]
        return f"http:[{host}]:{port}" if ":" in host else f"http:{host}:{port}"

    async def send_initial_metadata(self, initial_metadata: tuple[tuple[str, str], ...], /) -> None:
        """Keep the ids for the headers of the answer."""
        self.headers.update(initial_metadata)

    async def write(self, message: Answer, /) -> None:
        """Pass an answer on.

        Raises:
            ReaderLeftError: nobody reads it.
        """
        assert self._write
        try:
            await self._write(message)
        except ConnectionError as error:
            raise ReaderLeftError from error

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """End with a status; what is to be sent beside it is kept for the headers of the answer.

        Raises:
            Failed: always.
        """
        self.headers.update(trailing_metadata)
        raise Failed(code, details)
