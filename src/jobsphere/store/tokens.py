"""Page tokens: opaque and url-safe, good for ever, and refused when they are none of ours."""

from __future__ import annotations

import base64
import binascii
import struct

from jobsphere.domain.errors import InvalidArgumentError

FIRST_PAGE = (1 << 63) - 1
"""The key before the newest job: larger than any ``seq``."""

_FORM = struct.Struct(">BQ")
_KIND = 0x4A


def page_token(seq: int) -> str:
    """The token of the page that follows the job ``seq``."""
    return base64.urlsafe_b64encode(_FORM.pack(_KIND, seq)).decode("ascii")


def read_token(token: str) -> int:
    """The ``seq`` of a token; :data:`FIRST_PAGE` for the empty one.

    Raises:
        InvalidArgumentError: :func:`page_token` never made it.
    """
    if not token:
        return FIRST_PAGE
    try:
        _, seq = _FORM.unpack(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (UnicodeEncodeError, binascii.Error, struct.error):
        seq = 0
    # Decoders forgive: only the one spelling that is ours is taken.
    if not 0 < seq < FIRST_PAGE or page_token(seq) != token:
        raise InvalidArgumentError("page_token: it is not one that a page gave; leave it empty for the first page")
    return seq
