"""What a line of the server's log says of the call that it was written in, found through the context of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token

Facts = Callable[[], Mapping[str, str]]
_current: ContextVar[Facts | None] = ContextVar("call_facts", default=None)


def begin(facts: Facts) -> Token[Facts | None]:
    """A call begins in this context; what comes back is for :func:`end`. ``facts`` are asked for by a line only."""
    return _current.set(facts)


def end(begun: Token[Facts | None]) -> None:
    """The call has ended: what follows in its context is not its own."""
    _current.reset(begun)


def current() -> Mapping[str, str]:
    """The facts of this context's call; none outside of any."""
    facts = _current.get()
    return facts() if facts is not None else {}
