"""What must not be read in a log: the credentials in index URLs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote

_USERINFO = re.compile(r"://[^/\s]*@")
_MIN_CHARS = 4
"""A shorter credential would blot out half of the text; in a URL it is masked all the same."""


def masker(urls: Iterable[str], more: Iterable[str] = ()) -> Callable[[str], str]:
    """A function that masks the credentials of these URLs and ``more`` by value, those of any URL by their place."""
    known = {*more, *(s for url in urls for s in _secrets(url))}
    secrets = sorted((s for s in known if len(s) >= _MIN_CHARS), key=len, reverse=True)

    def mask(text: str) -> str:
        text = _USERINFO.sub("://***@", text)
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return mask


def _secrets(url: str) -> Iterable[str]:
    """A lone user name is a token. A query can be one as well."""
    userinfo = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    found = [password or user, url.partition("?")[2]]
    return [*found, *map(unquote, found)]
