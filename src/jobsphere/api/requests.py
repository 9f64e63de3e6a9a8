"""Requests as they arrive: bytes, until it is known who sent them and how much they would become.

Two bytes can make an entry of a list, and that takes hundreds of bytes once it is decoded. So what nobody known has
sent is never decoded, what has endless lists is not either, and large requests are few at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from jobsphere.domain.errors import InvalidArgumentError

MAX_RECEIVE_BYTES = 4 << 20
"""As gRPC has it where nobody says otherwise; no job within the published limits needs more."""
MAX_FIELDS = 50_000
"""Fields of a request, those of all its parts and entries counted."""
LARGE_BYTES = 64 << 10
LARGE_AT_ONCE = 16
_VARINT, _FIXED64, _WITH_LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_NO_WAIT = nullcontext()
Read = Callable[[bytes], Any]


def reader_of(method: MethodDescriptor) -> Read:
    """What makes a message of a request's bytes.

    It raises:
        InvalidArgumentError: they are no such message, or one of too many fields.
    """
    form = method.input_type
    decode = GetMessageClass(form).FromString

    def read(data: bytes) -> Message:
        try:
            if len(data) > MAX_FIELDS // 2:
                _check_fields(data, form)
            return decode(data)
        except (DecodeError, IndexError):
            raise InvalidArgumentError(
                f"the request is no {form.full_name}: cut, damaged, nested too deeply, or with text that is not UTF-8"
            ) from None

    return read


class Entrance:
    """Lets small requests pass, and of the large ones a few at a time."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    def passing(self, data: bytes) -> AbstractAsyncContextManager[Any]:
        """To be held while the request is served."""
        return self._large if len(data) > LARGE_BYTES else _NO_WAIT


def _check_fields(data: bytes, form: Descriptor) -> None:
    """Count, without making anything of them.

    Raises:
        InvalidArgumentError: too many.
        DecodeError, IndexError: what is there is no message.
    """
    left = MAX_FIELDS
    parts = [(0, len(data), form)]
    while parts:
        at, end, form = parts.pop()
        nested = _nested(form)
        while at < end:
            left -= 1
            if left < 0:
                raise InvalidArgumentError(f"the request has more than {MAX_FIELDS} fields and list entries")
            key, at = _varint(data, at)
            kind = key & 7
            if kind == _WITH_LENGTH:
                size, at = _varint(data, at)
                if inner := nested.get(key >> 3):
                    parts.append((at, at + size, inner))
                at += size
            else:
                at = _after(data, at, kind)
        if at > end:
            raise DecodeError


@cache
def _nested(form: Descriptor) -> dict[int, Descriptor]:
    """The fields that are messages themselves, by number."""
    return {f.number: f.message_type for f in form.fields if f.message_type is not None}


def _after(data: bytes, at: int, kind: int) -> int:
    """Where a field without a length ends."""
    if kind == _VARINT:
        return _varint(data, at)[1]
    if kind == _FIXED64:
        return at + 8
    if kind == _FIXED32:
        return at + 4
    raise DecodeError  # a group: nobody has sent one since 2008


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends."""
    number = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = data[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise DecodeError
