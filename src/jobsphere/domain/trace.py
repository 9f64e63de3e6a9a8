"""Where a call or a job stands in a trace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span, by which others can be put below it: the ids of W3C's Trace Context, in hexadecimal.

    ``sampled``: whether its trace is recorded at all.
    """

    trace_id: str
    span_id: str
    sampled: bool
