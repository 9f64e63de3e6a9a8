"""The span of the call that a use case serves, found through the context that it runs in."""

from __future__ import annotations

from contextvars import ContextVar

from jobsphere.domain.tracing import NO_CALL, CallSpan

_current: ContextVar[CallSpan] = ContextVar("call_span", default=NO_CALL)


def begin(span: CallSpan) -> None:
    """Say, at the start of a call, what its span is."""
    if span is not NO_CALL:
        _current.set(span)


def current() -> CallSpan:
    """The span of this context's call; outside of any, one that records nothing."""
    return _current.get()
