"""JSON to the published messages and back, and errors as ``google.rpc.Status``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from jobsphere.api.registrar import Answer
from jobsphere.api.rest.routes import Route
from jobsphere.domain.errors import InvalidArgumentError

MAX_DEPTH = 64
_HTTP = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Failed(Exception):  # noqa: N818 - an answer rather than a mistake
    """A call that is answered with a code and a sentence. ``http``: the HTTP status, if it is not the code's own."""

    def __init__(
        self, code: grpc.StatusCode, text: str, http: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.http = http or _HTTP.get(code, 500)
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """``google.rpc.Status`` as JSON."""
        number = cast(tuple[int, str], self.code.value)[0]
        return json.dumps({"code": number, "message": str(self), "details": []}, ensure_ascii=False).encode()


def request_of(route: Route, path: Mapping[str, str], query: Iterable[tuple[str, str]], body: bytes) -> Message:
    """The method's request, from the places where HTTP carries its parts.

    Raises:
        InvalidArgumentError: something that is no JSON, no field, no value of its field, or given twice.
    """
    values = _body(body) if route.body else {}
    kind = route.method.input_type
    for name, text in query:
        field = _field(kind, name)
        if field.name in path:
            raise InvalidArgumentError(f"{name}: stands in the path already")
        if route.body:
            raise InvalidArgumentError(f"{name}: is taken in the body, not in the query")
        _put(values, field, text)
    for name, text in path.items():
        field = kind.fields_by_name[name]
        said = values.pop(name, values.pop(field.json_name, text))
        if said != text:
            raise InvalidArgumentError(f"{field.json_name}: the path says {text!r}, and the body something else")
        values[field.json_name] = text
    return message_of(kind, values)


def message_of(kind: Descriptor, values: dict[str, Any]) -> Message:
    """The message that JSON values stand for.

    Raises:
        InvalidArgumentError: they stand for none.
    """
    message = GetMessageClass(kind)()
    try:
        json_format.ParseDict(values, message, max_recursion_depth=MAX_DEPTH)
        message.SerializeToString()
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidArgumentError(_printable(f"the request is no {kind.name}: {error}")) from error
    return message


def values_of(kind: Descriptor, answer: Answer) -> dict[str, Any]:
    """An answer as JSON values. Fields that are not set have their defaults, as far as they have any."""
    message = GetMessageClass(kind).FromString(answer) if isinstance(answer, bytes) else answer
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def json_of(kind: Descriptor, answer: Answer) -> bytes:
    """An answer as JSON on one line."""
    return json.dumps(values_of(kind, answer), ensure_ascii=False, separators=(",", ":")).encode()


def _body(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        values = json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(_printable(f"the body is no JSON: {error}")) from error
    if not isinstance(values, dict):
        raise InvalidArgumentError("the body must be a JSON object")
    return cast(dict[str, Any], values)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return values


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _field(kind: Descriptor, name: str) -> FieldDescriptor:
    for field in kind.fields:
        if name in (field.json_name, field.name):
            return field
    known = ", ".join(field.json_name for field in kind.fields)
    raise InvalidArgumentError(_printable(f"the query has {name!r}; known are: {known or 'no fields at all'}"))


def _put(values: dict[str, Any], field: FieldDescriptor, text: str) -> None:
    value: object = text
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in {"true", "false"}:
            raise InvalidArgumentError(f"{field.json_name}: must be true or false")
        value = text == "true"
    if field.is_repeated:
        values.setdefault(field.json_name, []).append(value)
    elif field.json_name in values:
        raise InvalidArgumentError(f"{field.json_name}: stands twice in the query")
    else:
        values[field.json_name] = value


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()
