"""What goes wrong, as exceptions with a sentence: the server's own words for whatever it refuses."""

from __future__ import annotations

from typing import Any

import grpc

from jobsphere.domain import errors


class JobFailedError(errors.JobsphereError):
    """A job did not end with success.

    Args:
        public: Why, in the server's words.
        return_code: What the program returned; None if it did not come to its end.
    """

    def __init__(self, public: str, return_code: int | None) -> None:
        super().__init__(public)
        self.return_code = return_code


def failure_of(error: grpc.RpcError, endpoint: str) -> errors.JobsphereError:
    """The exception for a failed call."""
    call: Any = error
    code, words = call.code(), call.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and ("connect" in words or "handshak" in words.lower()):
        return errors.UnavailableError(f"the server at {endpoint} cannot be reached: {words}")
    return errors.error_by_code(code.name, words or f"the call failed: {code.name}")


def is_away(error: grpc.RpcError) -> bool:
    """Whether the server is gone for the moment, so that the same call is worth a repetition."""
    call: Any = error
    return call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def is_out_of_time(error: grpc.RpcError) -> bool:
    """Whether the call had run as long as it was to run."""
    call: Any = error
    return call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
