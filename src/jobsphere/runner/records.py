"""Frozen dataclasses to JSON and back, by their type hints: one codec for every record of the run directory.

Supported: dataclasses, ``str``, ``int``, ``float``, ``bool``, ``None``, enums with string values, aware datetimes,
tuples (``tuple[X, ...]`` and ``tuple[X, Y]``) and unions with ``None``. Keys that a class does not know are skipped and
missing ones take its defaults, so that a server and a supervisor of different versions understand each other.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_Reader = Callable[[Any], Any]


def dumps(value: object) -> bytes:
    """One line of JSON without its newline, ASCII only: a lone surrogate of a file name survives."""
    return json.dumps(_plain(value), separators=(",", ":")).encode("ascii")


def loads(kind: type[T], data: bytes) -> T:
    """The value that :func:`dumps` wrote.

    Raises:
        ValueError: no JSON, or not of that kind.
    """
    try:
        return _reader(kind)(json.loads(data))
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"not a {kind.__name__} record") from error


def warm(*kinds: type) -> None:
    """Work out the readers of these classes now: a process forked later has them."""
    for kind in kinds:
        _reader(kind)


def _plain(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case tuple():
            return [_plain(item) for item in value]
        case _ if is_dataclass(value):
            return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        case _:
            return value


@cache
def _reader(kind: Any) -> _Reader:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind)
    if origin is tuple:
        return _tuple(get_args(kind))
    if is_dataclass(kind):
        return _record(kind)
    if kind is datetime:
        return datetime.fromisoformat
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return _same


def _same(value: Any) -> Any:
    return value


def _optional(kind: Any) -> _Reader:
    (inner,) = (a for a in get_args(kind) if a is not type(None))
    read = _reader(inner)
    return lambda value: None if value is None else read(value)


def _tuple(args: tuple[Any, ...]) -> _Reader:
    if len(args) == 2 and args[1] is Ellipsis:
        read = _reader(args[0])
        return lambda value: tuple(map(read, value))
    readers = tuple(map(_reader, args))
    return lambda value: tuple(read(item) for read, item in zip(readers, value, strict=True))


def _record(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    readers = {f.name: _reader(hints[f.name]) for f in fields(kind)}

    def read(value: dict[str, Any]) -> Any:
        return kind(**{name: readers[name](item) for name, item in value.items() if name in readers})

    return read
