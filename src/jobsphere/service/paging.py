"""Pages of lists that are short enough to be read whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from jobsphere.domain.errors import InvalidArgumentError

T = TypeVar("T")
_TOKEN = re.compile(r"[0-9]{1,18}")
_PAGE = 100
MAX_PAGE = 1000


def page_of(found: Sequence[T], page_size: int, page_token: str) -> tuple[Sequence[T], str]:
    """One page of ``found``, and the token of the next one (empty: none).

    Raises:
        InvalidArgumentError: a size or token that cannot be.
    """
    if not 0 <= page_size <= MAX_PAGE:
        raise InvalidArgumentError(f"page_size: {page_size}, while it must be 0 to {MAX_PAGE}")
    if page_token and not _TOKEN.fullmatch(page_token):
        raise InvalidArgumentError("page_token: is not one that List gave")
    start = int(page_token or "0")
    end = start + (page_size or _PAGE)
    return found[start:end], str(end) if end < len(found) else ""
