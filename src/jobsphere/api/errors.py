"""Errors to RPC statuses: the one place where the two are matched."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import structlog

from jobsphere.domain import errors
from jobsphere.domain.text import readable

_log = structlog.get_logger("jobsphere.api")

_MAX_TEXT_BYTES = 2000
"""A status text travels in a header, each byte as up to three: clients refuse headers of more than 8 KiB in all."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed call answers: a code and a sentence."""

    code: grpc.StatusCode
    text: str


def code_of(error: Exception) -> grpc.StatusCode:
    """The code of what a call that raised ``error`` answers."""
    if isinstance(error, errors.JobsphereError):
        return grpc.StatusCode[errors.CODES.get(type(error), "UNKNOWN")]
    return grpc.StatusCode.INTERNAL


def failure_of(error: Exception, method: str, request_id: str, subject: str) -> Failure:
    """The answer to a call that raised ``error``; writes its one line to the log.

    Only the names of things go to the log, never what a request or an answer holds.
    """
    code = code_of(error)
    if isinstance(error, errors.JobsphereError):
        _log.warning(
            "call failed", method=method, code=code.name, request_id=request_id, subject=subject, context=error.context
        )
        return Failure(code, _fitting(error.public))
    _log.error("call failed", method=method, code=code.name, request_id=request_id, subject=subject, exc_info=error)
    return Failure(code, f"internal error, reference {request_id}")


def _fitting(text: str) -> str:
    # Clients print it as it is.
    raw = readable(text).encode(errors="replace")
    if len(raw) <= _MAX_TEXT_BYTES:
        return raw.decode()
    return raw[:_MAX_TEXT_BYTES].decode(errors="ignore") + " …"
