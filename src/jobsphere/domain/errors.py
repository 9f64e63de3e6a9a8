"""The errors that a caller may see: a public sentence, a private context, no transport.

Each class is one cause, named as the standard RPC codes name it; the API maps them to a status in one place.
The public text tells the user what is wrong and what to do next. It never carries a secret: whatever helps only the
operator goes into ``context``, which is logged and not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class JobsphereError(Exception):
    """Base of all errors with a public text.

    Args:
        public: The sentence that the caller sees.
        context: What only the operator's log shows.
    """

    def __init__(self, public: str, **context: object) -> None:
        super().__init__(public)
        self.public = public
        self.context = context


def listed(names: Sequence[str], at_most: int = 10) -> str:
    """The first of them, for a sentence, and whether there are more."""
    return ", ".join(names[:at_most]) + (" and more" if len(names) > at_most else "")


class NotFoundError(JobsphereError):
    """The named thing does not exist, or is not the caller's to see."""


def no_such(kind: str, id_: str) -> NotFoundError:
    """What is said of a thing that does not exist, and word for word of one that is not the caller's to see."""
    return NotFoundError(f"there is no {kind} {id_!r}")


class InvalidArgumentError(JobsphereError):
    """The request can never succeed as it is, whatever the state of the server."""


class FailedPreconditionError(JobsphereError):
    """The request is well formed, and the state it needs is not there: do what the text says first."""


class UnsupportedError(JobsphereError):
    """The request asks for something that this server does not do."""


class UnauthenticatedError(JobsphereError):
    """No valid token came with the request."""


class PermissionDeniedError(JobsphereError):
    """The caller is known, and may not do this."""


class AlreadyExistsError(JobsphereError):
    """A thing of that name or id exists."""


class ResourceExhaustedError(JobsphereError):
    """A quota or a disk is full."""


class UnavailableError(JobsphereError):
    """Nothing was done; the same request may succeed in a moment."""


class CorruptedError(JobsphereError):
    """Stored bytes are not what their hash says."""


CODES: Mapping[type[JobsphereError], str] = {
    NotFoundError: "NOT_FOUND",
    InvalidArgumentError: "INVALID_ARGUMENT",
    FailedPreconditionError: "FAILED_PRECONDITION",
    UnsupportedError: "UNIMPLEMENTED",
    UnauthenticatedError: "UNAUTHENTICATED",
    PermissionDeniedError: "PERMISSION_DENIED",
    AlreadyExistsError: "ALREADY_EXISTS",
    ResourceExhaustedError: "RESOURCE_EXHAUSTED",
    UnavailableError: "UNAVAILABLE",
    CorruptedError: "DATA_LOSS",
}
"""The standard RPC code of each, by its name."""


def error_by_code(code: str, public: str) -> JobsphereError:
    """The error that is answered with this code; of one that none is answered with, the base of all."""
    return next((kind for kind, name in CODES.items() if name == code), JobsphereError)(public)
