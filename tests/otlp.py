"""A collector of traces on loopback: takes what a server sends by OTLP over HTTP, and reads it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span: ids in hexadecimal, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begin: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    service: str


@dataclass
class Collector:
    """What has come. ``raw`` is every body as it came, uncompressed."""

    url: str = ""
    raw: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Read one request."""
        self.raw.append(body)
        self.headers.append(headers)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = {a.key: a.value.string_value for a in group.resource.attributes}["service.name"]
            self.spans += [_received(span, service) for scope in group.scope_spans for span in scope.spans]

    def of(self, job_id: str, name: str) -> Received | None:
        """The first span of that name in a job's trace: a client may ask for its operation by Execute again."""
        jobs = {s.trace_id for s in self.spans if s.attributes.get("jobsphere.job.id") == job_id and s.name == "job"}
        found = [s for s in self.spans if s.trace_id in jobs and s.name.endswith(name)]
        return min(found, key=lambda s: s.begin, default=None)


def _received(span: Any, service: str) -> Received:
    values = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
    return Received(
        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.start_time_unix_nano,
        span.end_time_unix_nano, span.status.code == span.status.STATUS_CODE_ERROR, values, service,
    )  # fmt: skip


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            received.take(gzip.decompress(body) if packed else body, dict(self.headers.items()))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()
