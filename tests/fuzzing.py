"""Hostile messages and bytes, made from descriptors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
_DEEP = 4
_HOSTILE = (
    "", "\0", "a\0b", "\x1b]0;title\x07", "\x1b[2J", "a\r\nSet-Cookie: x=1", "../../../etc/passwd", "/etc/shadow", "..",
    "%00%2e%2e%2f", "$(touch x)", "'; DROP TABLE jobs; --", "{{7*7}}", "${A:-${B}}", "\u202eexe.txt", "\ufeff",
    "\U0010ffff", "٣", "a" * 5000, "é" * 3000, "-rf", "--help", "*", "NaN", "1e999", "null", "0" * 20, "z" * 20,
    "[" * 500, "a: &a [*a]", "https://user:secret@127.0.0.1/x", "status IN (" + "A," * 400 + ")", "9" * 30, "-1",
)  # fmt: skip
_BOUNDS = {32: (-(2**31), 2**31 - 1), 64: (-(2**63), 2**63 - 1)}


def fuzz(examples: int) -> Any:
    """So many examples, the same each time; in the long run thirty times as many, and new ones each time."""
    return settings(
        max_examples=examples * 30 if SOAK else examples,
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def messages(descriptor: Descriptor, known: Sequence[str]) -> st.SearchStrategy[Message]:
    """Messages of a type. ``known``: strings that lead somewhere, such as ids of things that are there."""

    @st.composite
    def build(draw: Callable[..., Any]) -> Message:
        return _message(draw, descriptor, known, 0)

    return build()


def wire(descriptor: Descriptor, known: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Bytes that are no such message, or hardly: cut, with bits turned, with text that is none, nested without end."""
    good = messages(descriptor, known).map(lambda m: m.SerializeToString())
    numbers = st.sampled_from([*[f.number for f in descriptor.fields], 1, 536870911])
    return st.one_of(
        st.tuples(good, st.integers(0, 200)).map(lambda t: t[0][: t[1]]),
        st.tuples(good, st.integers(0, 10**6), st.integers(1, 255)).map(_turned),
        st.tuples(numbers, st.sampled_from([b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"a\x80"])).map(
            lambda t: field(*t)
        ),
        st.tuples(numbers, st.integers(1, 20_000)).map(_nested),
        numbers.map(lambda n: tag(n, 3) * 20_000),  # groups without an end
        numbers.map(lambda n: tag(n, 2) + b"\xff" * 9 + b"\x01"),  # a length beyond all bytes
        st.binary(max_size=200),
    )


def tag(number: int, kind: int) -> bytes:
    """A field's head."""
    return varint(number << 3 | kind)


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return tag(number, 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _turned(drawn: tuple[bytes, int, int]) -> bytes:
    data, place, mask = drawn
    changed = bytearray(data or b"\0")
    changed[place % len(changed)] ^= mask
    return bytes(changed)


def _nested(drawn: tuple[int, int]) -> bytes:
    number, depth = drawn
    head, data = tag(number, 2), b""
    for _ in range(min(depth, 3000)):
        data = head + varint(len(data)) + data
    return data


def _message(draw: Callable[..., Any], descriptor: Descriptor, known: Sequence[str], depth: int) -> Message:
    message = GetMessageClass(descriptor)()
    for one in descriptor.fields:
        if draw(st.sampled_from((True, True, False))) and not (one.message_type and depth >= _DEEP):
            _fill(draw, message, one, known, depth)
    return message


def _fill(draw: Callable[..., Any], message: Any, one: FieldDescriptor, known: Sequence[str], depth: int) -> None:
    if one.message_type is not None and one.message_type.GetOptions().map_entry:
        place = getattr(message, one.name)
        key, value = one.message_type.fields_by_name["key"], one.message_type.fields_by_name["value"]
        for _ in range(draw(st.sampled_from((1, 3)))):
            if value.message_type is None:
                place[draw(_scalar(key, known))] = draw(_scalar(value, known))
            else:
                place[draw(_scalar(key, known))].CopyFrom(_message(draw, value.message_type, known, depth + 1))
    elif one.is_repeated:
        count = draw(st.sampled_from((1, 2, 5, 300)))
        values = [_value(draw, one, known, depth) for _ in range(min(count, 5))]
        getattr(message, one.name).extend((values * count)[:count])
    elif one.message_type is not None:
        getattr(message, one.name).CopyFrom(_message(draw, one.message_type, known, depth + 1))
    else:
        setattr(message, one.name, draw(_scalar(one, known)))


def _value(draw: Callable[..., Any], one: FieldDescriptor, known: Sequence[str], depth: int) -> Any:
    if one.message_type is not None:
        return _message(draw, one.message_type, known, depth + 1)
    return draw(_scalar(one, known))


def _scalar(one: FieldDescriptor, known: Sequence[str]) -> st.SearchStrategy[Any]:
    kind = one.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if one.type == FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=100)
        text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
        return st.one_of(st.sampled_from(known), st.sampled_from(_HOSTILE), text)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from((*one.enum_type.values_by_number, -1, 99, 2**31 - 1, -(2**31)))
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return st.floats(width=32)
    low, high = _BOUNDS[32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64]
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        low, high = 0, 2 * high + 1
    return st.one_of(st.sampled_from((low, high, 0, 1, max(low, -1), 50, 1000, 1001)), st.integers(low, high))
