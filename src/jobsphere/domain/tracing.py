"""What the server tells whoever records traces: the port to OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from jobsphere.domain.attempt import Observation
from jobsphere.domain.job import Job
from jobsphere.domain.trace import TraceContext


class CallSpan(Protocol):
    """One call of the API while it goes on. Never raises, never waits."""

    def about(self, job_id: str, trace: TraceContext | None = None) -> None:
        """The call moves this job on. Unless its caller named a trace, it becomes a part of ``trace``, the job's."""
        ...

    def context(self) -> TraceContext | None:
        """The span that what the call sets off goes below; None without traces. The call's trace is fixed by then."""
        ...

    def end(self, code: str, request_id: str, job_id: str = "") -> None:
        """The call has ended. ``code`` by its standard name; ``job_id``: the job that it named, and that there is."""
        ...


class Tracer(Protocol):
    """Told of what has happened. Never raises, never waits."""

    def called(self, method: str, metadata: Callable[[], Any], peer: Callable[[], str]) -> CallSpan:
        """A call begins. ``method`` as ``/package.Service/Method``.

        ``metadata`` gives pairs of a lower-case name and a value, ``peer`` where the call comes from; neither is asked
        for without traces.
        """
        ...

    def ended(self, job: Job, seen: Observation | None) -> None:
        """A job's end is stored. ``seen``: what is known of its attempt, if it had one."""
        ...


class NoCall:
    """Records nothing."""

    def about(self, job_id: str, trace: TraceContext | None = None) -> None:
        """See :meth:`CallSpan.about`."""

    def context(self) -> TraceContext | None:
        """See :meth:`CallSpan.context`."""
        return None

    def end(self, code: str, request_id: str, job_id: str = "") -> None:
        """See :meth:`CallSpan.end`."""


NO_CALL = NoCall()


class Untraced:
    """Records nothing."""

    def called(self, method: str, metadata: Callable[[], Any], peer: Callable[[], str]) -> CallSpan:  # noqa: ARG002
        """See :meth:`Tracer.called`."""
        return NO_CALL

    def ended(self, job: Job, seen: Observation | None) -> None:
        """See :meth:`Tracer.ended`."""


UNTRACED = Untraced()
