"""The OpenAPI 3.1 document, made of the descriptors, so that nothing has to be said twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from jobsphere.api.audit import changes
from jobsphere.api.registrar import Implementation
from jobsphere.api.rest.routes import Route

Json = dict[str, Any]
_STATUS = "google.rpc.Status"
_INT64 = {"anyOf": [{"type": "integer", "format": "int64"}, {"type": "string", "pattern": "^-?[0-9]{1,18}$"}]}
_INT32 = {"type": "integer", "format": "int32"}
_NUMBER = {"type": ["number", "string"]}
_SCALARS: Mapping[int, Json] = {
    FieldDescriptor.TYPE_DOUBLE: _NUMBER,
    FieldDescriptor.TYPE_FLOAT: _NUMBER,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_UINT64: _INT64,
    FieldDescriptor.TYPE_FIXED64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_UINT32: _INT32,
    FieldDescriptor.TYPE_FIXED32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: Mapping[str, Json] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["86400s"]},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, between commas"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.BoolValue": {"type": ["boolean", "null"]},
    "google.protobuf.StringValue": {"type": ["string", "null"]},
    "google.protobuf.BytesValue": {"type": ["string", "null"], "contentEncoding": "base64"},
    "google.protobuf.DoubleValue": {"type": ["number", "string", "null"]},
    "google.protobuf.FloatValue": {"type": ["number", "string", "null"]},
    "google.protobuf.Int32Value": {"type": ["integer", "null"]},
    "google.protobuf.UInt32Value": {"type": ["integer", "null"]},
    "google.protobuf.Int64Value": {"type": ["string", "integer", "null"]},
    "google.protobuf.UInt64Value": {"type": ["string", "integer", "null"]},
}
_ABOUT = (
    "The published services as JSON: the same methods, roles, audit and errors as over gRPC. A GET that answers once "
    "also answers server-sent events, one each time the answer changes, to a request with Accept: text/event-stream."
)


def document(implementations: Iterable[Implementation], routes: Iterable[Route], tokens_required: bool) -> Json:
    """The document as JSON values. Methods that there are not here are not in it; who calls them is told why."""
    served = {i.service.full_name: i for i in implementations}
    schemas = _Schemas()
    paths: Json = {}
    for route in routes:
        implementation = served[route.method.containing_service.full_name]
        if route.method.name in implementation.without:
            continue
        operation = _operation(route, implementation, schemas, tokens_required)
        paths.setdefault(_path(route), {})[route.verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobsphere", "version": version("jobsphere"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.found.items())) | {_STATUS: _status()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, implementation: Implementation, schemas: _Schemas, tokens_required: bool) -> Json:
    method = route.method
    operation: Json = {
        "operationId": f"{method.containing_service.name}_{method.name}",
        "tags": [method.containing_service.name],
        "summary": _summary(implementation, method.name),
        "parameters": _parameters(route, schemas),
        "responses": {
            "200": {"description": "Done", "content": _answers(route, schemas)},
            "default": {
                "description": "Refused or failed",
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_STATUS}"}}},
            },
        },
    }
    if route.body:
        schema = schemas.without(method.input_type, route.fields)
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    if tokens_required and not implementation.public:
        operation["security"] = [{"token": []}]
    return operation


def _parameters(route: Route, schemas: _Schemas) -> list[Json]:
    fields = route.method.input_type.fields_by_name
    found: list[Json] = [
        {"name": fields[n].json_name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for n in route.fields
    ]
    if not route.body:
        in_query = [f for f in fields.values() if f.name not in route.fields]
        found += [{"name": f.json_name, "in": "query", "schema": schemas.field(f)} for f in in_query]
    if route.method.server_streaming:
        last = {"type": "string", "pattern": "^[0-9]{1,18}$"}
        found.append({"name": "Last-Event-ID", "in": "header", "schema": last})
    return found


def _answers(route: Route, schemas: _Schemas) -> Json:
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    if route.method.server_streaming:
        schemas.message(route.method.output_type)
        return events
    once = {"application/json": {"schema": schemas.message(route.method.output_type)}}
    return once if changes(route.method) else once | events


def _summary(implementation: Implementation, name: str) -> str:
    return (implementation.methods[name].__doc__ or "").strip().partition("\n")[0]


def _path(route: Route) -> str:
    path = route.template
    for name in route.fields:
        path = path.replace(f"{{{name}}}", f"{{{route.method.input_type.fields_by_name[name].json_name}}}")
    return path


class _Schemas:
    """The schemas of messages, each made once."""

    def __init__(self) -> None:
        self.found: dict[str, Json] = {}

    def message(self, kind: Descriptor) -> Json:
        """The schema of a message, or where it is."""
        known = _WELL_KNOWN.get(kind.full_name)
        if known is not None:
            return known
        if kind.full_name not in self.found:
            self.found[kind.full_name] = {}
            self.found[kind.full_name] = self.without(kind, ())
        return {"$ref": f"#/components/schemas/{kind.full_name}"}

    def without(self, kind: Descriptor, left_out: Iterable[str]) -> Json:
        """The schema of a message without some fields."""
        fields = [f for f in kind.fields if f.name not in set(left_out)]
        properties = {f.json_name: self.field(f) for f in fields}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def field(self, field: FieldDescriptor) -> Json:
        """The schema of a field's value."""
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(kind.fields_by_name["value"])}
        single = self._single(field)
        return {"type": "array", "items": single} if field.is_repeated else single

    def _single(self, field: FieldDescriptor) -> Json:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return _SCALARS[field.type]

    def _enum(self, kind: EnumDescriptor) -> Json:
        self.found.setdefault(kind.full_name, {"type": "string", "enum": [value.name for value in kind.values]})
        return {"$ref": f"#/components/schemas/{kind.full_name}"}


def _status() -> Json:
    """What every failure answers."""
    return {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "description": "A google.rpc.Code"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
    }
