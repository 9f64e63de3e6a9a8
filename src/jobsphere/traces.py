"""Traces by OpenTelemetry, sent by OTLP over HTTP. Imported only where they are asked for: it takes an extra."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from jobsphere.domain.attempt import Observation
from jobsphere.domain.job import Job
from jobsphere.domain.spans import Span, job_span
from jobsphere.domain.trace import TraceContext

CLOSE_S = 3.0
"""How long a server that stops waits for the collector to take the last spans."""
_VERSION = version("jobsphere")
_PATH = "/v1/traces"
_HEADER = "traceparent"
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The codes that tell of a fault of the server's, by OpenTelemetry's conventions; others are the caller's business."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_W3C = TraceContextTextMapPropagator()
_NO_PARENT = Context()


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where spans go and how many. What is empty or None is as the standard variables say.

    ``endpoint`` is a base URL, ``sampling`` the part of the traces that begin here.
    """

    endpoint: str = ""
    sampling: float | None = None


class OtelTracer:
    """The :class:`jobsphere.domain.tracing.Tracer` of a server. Spans are sent by a thread of its own.

    Args:
        settings: Where to, and how many.
        exporter: What sends them; by default made of ``settings``.
    """

    def __init__(self, settings: TraceSettings, exporter: SpanExporter | None = None) -> None:
        sampler = None if settings.sampling is None else ParentBasedTraceIdRatio(settings.sampling)
        self._provider = TracerProvider(sampler, Resource.create(_resource()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(_url(settings.endpoint))))
        self._tracer = self._provider.get_tracer("jobsphere", _VERSION)

    def called(self, method: str, metadata: Callable[[], Any], peer: Callable[[], str]) -> OtelCall:
        """See :meth:`jobsphere.domain.tracing.Tracer.called`."""
        system = "jobsphere.rest" if peer().startswith("http:") else "grpc"
        return OtelCall(self._tracer, method.lstrip("/"), system, _parent(metadata()))

    def ended(self, job: Job, seen: Observation | None) -> None:
        """See :meth:`jobsphere.domain.tracing.Tracer.ended`."""
        if job.trace is not None:
            self._record(job_span(job, seen), _below(job.trace))

    def close(self) -> None:
        """Send what is not sent yet. A collector that is away holds nobody up for longer than :data:`CLOSE_S`."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _record(self, span: Span, parent: Context) -> None:
        begun = self._tracer.start_span(
            span.name, parent, attributes=dict(span.attributes), start_time=_nanoseconds(span.begin)
        )
        if span.failed:
            begun.set_status(StatusCode.ERROR)
        below = set_span_in_context(begun, _NO_PARENT)
        for part in span.parts:
            self._record(part, below)
        begun.end(_nanoseconds(span.end))


class OtelCall:
    """The :class:`jobsphere.domain.tracing.CallSpan`.

    The library has it begin when its trace is known, at the latest at its end: until then it can become a part of a
    job's.
    """

    __slots__ = ("_job_id", "_method", "_parent", "_since", "_span", "_system", "_tracer")

    def __init__(self, tracer: Tracer, method: str, system: str, parent: Context | None) -> None:
        self._tracer = tracer
        self._method = method
        self._system = system
        self._parent = parent
        self._since = time.time_ns()
        self._span: OtelSpan | None = None
        self._job_id = ""

    def about(self, job_id: str, trace: TraceContext | None = None) -> None:
        """See :meth:`jobsphere.domain.tracing.CallSpan.about`."""
        self._job_id = job_id
        if self._parent is None and trace is not None:
            self._parent = _below(trace)

    def context(self) -> TraceContext | None:
        """See :meth:`jobsphere.domain.tracing.CallSpan.context`."""
        known = self._begun().get_span_context()
        if not known.is_valid:
            return None
        return TraceContext(format_trace_id(known.trace_id), format_span_id(known.span_id), known.trace_flags.sampled)

    def end(self, code: str, request_id: str, job_id: str = "") -> None:
        """See :meth:`jobsphere.domain.tracing.CallSpan.end`."""
        span = self._begun()
        if span.is_recording():
            known = {"jobsphere.request_id": request_id, "jobsphere.job.id": self._job_id or job_id}
            span.set_attribute("rpc.response.status_code", code)
            span.set_attributes({name: value for name, value in known.items() if value})
            if code in _FAULTS:
                span.set_status(StatusCode.ERROR)
        span.end()

    def _begun(self) -> OtelSpan:
        if self._span is None:
            attributes = {"rpc.system.name": self._system, "rpc.method": self._method}
            parent = _NO_PARENT if self._parent is None else self._parent
            self._span = self._tracer.start_span(self._method, parent, SpanKind.SERVER, attributes, None, self._since)
        return self._span


def _parent(metadata: Any) -> Context | None:
    """What the caller says of its own span; None if it does not, or says it wrongly."""
    given = next((value for name, value in metadata or () if name == _HEADER), None)
    if not isinstance(given, str):
        return None
    # Nothing else of a caller's goes into a trace: tracestate is free text.
    parent = _W3C.extract({_HEADER: given}, _NO_PARENT)
    return None if parent is _NO_PARENT else parent


def _below(trace: TraceContext) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    above = SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(above), _NO_PARENT)


def _resource() -> dict[str, str]:
    named = os.environ.get(OTEL_SERVICE_NAME) or SERVICE_NAME in os.environ.get(OTEL_RESOURCE_ATTRIBUTES, "")
    return {SERVICE_VERSION: _VERSION} | ({} if named else {SERVICE_NAME: "jobsphere"})


def _url(endpoint: str) -> str | None:
    return endpoint.rstrip("/").removesuffix(_PATH) + _PATH if endpoint else None


def _nanoseconds(time_: datetime) -> int:
    return (time_ - _EPOCH) // _MICROSECOND * 1000
