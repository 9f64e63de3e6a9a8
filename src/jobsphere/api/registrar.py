"""Serves the methods of published services by plain functions, and says which ones there are not.

A function takes the caller and the request, and gives a message, or the bytes of one, which are sent as they are. All
that every call has in common (its ids, who calls, errors) is done here, without interceptors: they would cost each call
more than the rest of the way.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import Token
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from jobsphere.api.audit import AuditedMethod, Auditor, changes
from jobsphere.api.errors import code_of, failure_of
from jobsphere.api.requests import Entrance, Read, reader_of
from jobsphere.domain.audit import AuditRow
from jobsphere.domain.errors import JobsphereError, UnsupportedError
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.resource import Subject
from jobsphere.domain.tracing import NO_CALL, UNTRACED, CallSpan, Tracer
from jobsphere.service import call_facts, traced
from jobsphere.service.guesses import comes_from
from jobsphere.service.trail import begin

Answer = Message | bytes
Unary = Callable[[Subject, Any], Awaitable[Answer]]
Streaming = Callable[[Subject, Any], AsyncIterator[Answer]]
Authenticate = Callable[[str | None], Awaitable[Subject]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

NOBODY = Subject("")
_ID = re.compile(r"[0-9a-z]{1,50}")
_TRIED_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""What clients of the API call again by themselves, unless anything was sent before the status."""


class Context(Protocol):
    """What a call needs of whatever carries it: a part of ``grpc.aio.ServicerContext``, which REST has too."""

    def invocation_metadata(self) -> Any:
        """Pairs of a lower-case name and a value."""
        ...

    def peer(self) -> str:
        """Where the call comes from, as ``transport:address``."""
        ...

    async def send_initial_metadata(self, initial_metadata: Any, /) -> None:
        """Send what precedes the answer."""
        ...

    async def write(self, message: Any, /) -> None:
        """Send one message of a stream."""
        ...

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Any:
        """End the call with a status, and what is to be sent beside it; raises."""
        ...


Serve: TypeAlias = "Callable[[bytes, Context], Awaitable[Answer | None]]"


def _random_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Implementation:
    """What this server has of a published service.

    ``methods``: functions by the method's name, :data:`Streaming` where the method answers a stream, else
    :data:`Unary`. ``public``: no call needs a token. ``quick``: methods of reading that are called all the time, whose
    call ids are sent with a failure only: sending them apart from the answer costs a quarter of such a call.
    ``without``: methods that there are not here, each with a sentence that says why.
    """

    service: ServiceDescriptor
    methods: Mapping[str, Unary | Streaming]
    public: bool = False
    quick: frozenset[str] = field(default=frozenset())
    without: Mapping[str, str] = field(default_factory=dict[str, str])

    def functions(self) -> Mapping[str, Unary | Streaming]:
        """What answers each method; for one that there is not here, its sentence."""
        name = self.service.full_name
        return {**self.methods, **{m: _refusing(f"{name}.{m}", why) for m, why in self.without.items()}}


@dataclass(slots=True)
class _Call:
    """One call under way. ``request``: None until it is known who calls."""

    method: str
    context: Context
    new_request_id: Callable[[], str]
    span: CallSpan = NO_CALL
    request_id: str = ""
    told: bool = False
    who: Subject = NOBODY
    request: Any = None
    code: str = "OK"

    async def tell_ids(self) -> None:
        """Send the ids by which user and operator can speak of the call, once. Clients show them with errors.

        From then on a client's channel does not try the call again, should this server die: it is done with the answer.
        """
        if not self.told:
            self.told = True
            await self.context.send_initial_metadata(self._ids())

    def _ids(self) -> tuple[tuple[str, str], ...]:
        request_id = self.known_id()
        return (("x-request-id", request_id), ("x-server-trace-id", request_id))

    def known_id(self) -> str:
        """The id by which the call is spoken of, made when somebody does."""
        self.request_id = self.request_id or self.new_request_id()
        return self.request_id

    def facts(self) -> dict[str, str]:
        """What the log says of it: its id, and the job that it names, if what it names can be one."""
        job_id = getattr(self.request, "job_id", "")
        return {"request_id": self.known_id()} | ({"job": job_id} if _ID.fullmatch(job_id) else {})

    async def fail(self, error: Exception) -> None:
        """Answer with the error's status. A caller that is gone gets no answer, and is nothing to write down."""
        if _caller_left(error):
            self.code = "CANCELLED"
            return
        self.code = code_of(error).name
        failure = failure_of(error, self.method, self.known_id(), self.who.id)
        if failure.code in _TRIED_AGAIN:
            await self.context.abort(failure.code, failure.text, self._ids())
        await self.tell_ids()
        await self.context.abort(failure.code, failure.text)


def _caller_left(error: Exception) -> bool:
    """Whether an error only says that nobody waits for the answer any more.

    Either the connection broke while something was sent, or the call was cancelled and what stopped because of it said
    so in its own words. A mistake of this program's is never taken for that.
    """
    if isinstance(error, grpc.aio.BaseError):
        return not isinstance(error, grpc.aio.UsageError)
    task = asyncio.current_task()
    return isinstance(error, JobsphereError) and task is not None and task.cancelling() > 0


class Registrar(grpc.GenericRpcHandler):  # pyright: ignore[reportUntypedBaseClass]
    """Finds the handler of a method by its path; a path that leads nowhere answers UNIMPLEMENTED and its name.

    Args:
        authenticate: Turns the ``authorization`` header into the caller, or raises UnauthenticatedError.
        auditor: Writes down each call that may change something.
        new_request_id: Ids for calls: ASCII, short, never the same twice.
        meter: Is told of each call.
        tracer: So is this.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        auditor: Auditor,
        new_request_id: Callable[[], str] = _random_id,
        meter: Meter = SILENT,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._tracer = tracer
        self._meter = meter
        self._authenticate = authenticate
        self._auditor = auditor
        self._new_request_id = new_request_id
        self._entrance = Entrance()
        self._handlers: dict[str, Handler] = {}
        self._serving: dict[str, Serve] = {}
        self.implementations: list[Implementation] = []

    @property
    def services(self) -> list[str]:
        """The names of what is served."""
        return [implementation.service.full_name for implementation in self.implementations]

    def add(self, implementation: Implementation) -> None:
        """Serve a service: every method of its descriptor that has a function."""
        service = implementation.service
        self.implementations.append(implementation)
        for name, function in implementation.functions().items():
            path, method = f"/{service.full_name}/{name}", service.methods_by_name[name]
            serve = self._serve(path, method, function, implementation.public, name in implementation.quick)
            self._serving[path], self._handlers[path] = serve, _handler(method, serve)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler of a method."""
        path = handler_call_details.method
        return self._handlers.get(path) or self._missing(path)

    async def call(self, path: str, request: Message, context: Context) -> Answer | None:
        """Serve a method that is here, for a call that something else than gRPC carries.

        Returns:
            The answer; None for one that is a stream, which was written to ``context``.
        """
        return await self._serving[path](request.SerializeToString(), context)

    def _serve(
        self, path: str, method: MethodDescriptor, function: Unary | Streaming, public: bool, quick: bool
    ) -> Serve:
        read = reader_of(method)
        authenticate = _nobody if public else self._authenticate
        if method.server_streaming:
            return self._streaming(path, cast(Streaming, function), authenticate, read)
        answer = _answering(cast(Unary, function), authenticate, read)
        if changes(method):
            answer = self._audited(method, answer)
        return self._unary(path, answer, quick)

    def _unary(self, path: str, answer: _Answering, quick: bool) -> Serve:
        async def serve(data: bytes, context: Context) -> Answer | None:
            call, begin = self._begin(path, context), time.monotonic()
            facts = call_facts.begin(call.facts)
            async with self._entrance.passing(data):
                try:
                    reply = await answer(call, data)
                    if not quick:
                        await call.tell_ids()
                except Exception as error:  # noqa: BLE001 - the last line of defence: all of them become a status
                    await call.fail(error)
                    return None
                else:
                    return reply
                finally:
                    self._end(call, time.monotonic() - begin, facts)

        return serve

    def _audited(self, method: MethodDescriptor, answer: _Answering) -> _Answering:
        """Write the call down, whatever becomes of it: its answer waits for that.

        A use case may have stored the row already, with what was asked (:func:`jobsphere.service.trail.row`).
        """
        form = AuditedMethod(method)

        async def serve(call: _Call, data: bytes) -> Answer:
            trail = begin()

            def row(result: grpc.StatusCode) -> AuditRow | None:
                peer, request_id = call.context.peer(), call.known_id()
                return self._auditor.row(form, call.request, call.who, trail, peer, result, request_id)

            trail.row = lambda: row(grpc.StatusCode.OK)
            result = grpc.StatusCode.CANCELLED
            try:
                reply = await answer(call, data)
                result = grpc.StatusCode.OK
            except Exception as error:
                if not _caller_left(error):
                    result = code_of(error)
                raise
            finally:
                told = trail.stored and result is grpc.StatusCode.OK
                if not told and (written := row(result)) is not None:
                    await self._auditor.record(written)
            return reply

        return serve

    def _streaming(self, path: str, function: Streaming, authenticate: Authenticate, read: Read) -> Serve:
        async def serve(data: bytes, context: Context) -> None:
            call, begin = self._begin(path, context), time.monotonic()
            facts = call_facts.begin(call.facts)
            try:
                await call.tell_ids()
                authorization = _authorization(context)
                call.who = await authenticate(authorization)
                call.request = read(data)
                # Written here rather than yielded: a call that is cancelled closes the stream at once.
                async with aclosing(cast(Any, function(call.who, call.request))) as answers:
                    async for answer in answers:
                        # A stream lasts for hours: the token may have ended meanwhile.
                        await authenticate(authorization)
                        await context.write(answer)
            except Exception as error:  # noqa: BLE001 - as above
                await call.fail(error)
            finally:
                self._end(call, time.monotonic() - begin, facts)

        return serve

    def _begin(self, path: str, context: Context) -> _Call:
        comes_from(lambda: self._auditor.origin(context.peer()))
        span = self._tracer.called(path, context.invocation_metadata, context.peer)
        traced.begin(span)
        return _Call(path, context, self._new_request_id, span)

    def _end(self, call: _Call, seconds: float, facts: Token[call_facts.Facts | None]) -> None:
        call_facts.end(facts)
        self._meter.called(call.method, call.code, seconds)
        # What a call that failed names may be no job's id, but any text.
        call.span.end(call.code, call.request_id, getattr(call.request, "job_id", "") if call.code == "OK" else "")

    def _missing(self, path: str) -> Handler:
        name = path.lstrip("/").replace("/", ".")

        async def serve(_: Any, context: Context) -> None:
            error = UnsupportedError(f"this jobsphere server does not have the method {name}")
            await _Call(path, context, self._new_request_id).fail(error)

        return grpc.stream_stream_rpc_method_handler(serve)


_Answering: TypeAlias = "Callable[[_Call, bytes], Awaitable[Answer]]"


def _handler(method: MethodDescriptor, serve: Serve) -> Handler:
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(serve, None, _bytes_of)
    return grpc.unary_unary_rpc_method_handler(serve, None, _bytes_of)


def _answering(function: Unary, authenticate: Authenticate, read: Read) -> _Answering:
    async def answer(call: _Call, data: bytes) -> Answer:
        call.who = await authenticate(_authorization(call.context))
        call.request = read(data)
        return await function(call.who, call.request)

    return answer


def _refusing(name: str, why: str) -> Unary:
    async def refuse(who: Subject, request: Any) -> Answer:  # noqa: ARG001
        raise UnsupportedError(f"this jobsphere server does not have the method {name}: {why}")

    return refuse


async def _nobody(_: str | None) -> Subject:
    return NOBODY


def _authorization(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else None
    return None


def _bytes_of(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
