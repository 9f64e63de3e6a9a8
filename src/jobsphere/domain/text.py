"""Texts of strangers on their way to a terminal or a log: nothing in them may move the cursor or forge a line."""

from __future__ import annotations

import re

_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""They let a text be read in another order than it is written in."""
_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")
_IN_A_LINE = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")


def one_line(text: str) -> str:
    """The text on one line: what controls a terminal, and what ends a line, is shown as an escape."""
    return text if text.isprintable() else _IN_A_LINE.sub(_escape, text)


def readable(text: str) -> str:
    """The text with its lines and tabs; what else controls a terminal is shown as an escape."""
    return text if text.isprintable() else _IN_LINES.sub(_escape, text.replace("\r\n", "\n"))


def has_controls(text: str, *, lines: bool) -> bool:
    """Whether there is what :func:`one_line`, or with ``lines`` :func:`readable`, would not show as it is."""
    return (readable(text) if lines else one_line(text)) != (text.replace("\r\n", "\n") if lines else text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
