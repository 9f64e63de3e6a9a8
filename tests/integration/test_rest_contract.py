"""REST beside gRPC on one server: the same answers, the same refusals, the same rows in the audit log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from rest_client import RestClient, rest_of
from rpc_rows import PROJECT, ROWS, Rpcs, rpcs

from jobsphere.api.rest import PREFIXES
from jobsphere.domain.access_ports import AuditQuery

CODES = {code.value[0]: code.name for code in grpc.StatusCode}
HTTP = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
}
HTTP |= {"NOT_FOUND": 404, "ALREADY_EXISTS": 409, "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501}
STREAMS = {"ProjectJobService/ReadLogs", "ProjectJobService/ReadStdLogs"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Rpcs]:
    async with rpcs(tmp_path) as running:
        yield running


@pytest.fixture
async def rest(server: Rpcs) -> AsyncIterator[RestClient]:
    async with rest_of(server.server) as client:
        yield client


def fields_of(request: Message) -> dict[str, Any]:
    return json_format.MessageToDict(request)


def code_of(status: int, answer: Any) -> str:
    return "OK" if status == 200 else CODES[answer["code"]]


async def test_every_method_has_routes_and_no_two_have_one(server: Rpcs, rest: RestClient) -> None:
    named = Counter(f"{r.method.containing_service.name}/{r.method.name}" for r in rest.routes.all)
    assert set(named) == set(server.methods)
    places = Counter(
        (r.verb, r.pattern.pattern.replace(r.fields[0], "_") if r.fields else r.template) for r in rest.routes.all
    )
    assert max(places.values()) == 1
    for route in rest.routes.all:
        assert route.template.startswith(tuple(f"/{p}" for p in PREFIXES))
        assert set(route.fields) <= set(route.method.input_type.fields_by_name)


@pytest.mark.parametrize("name", sorted(set(ROWS) - STREAMS))
async def test_rest_answers_as_grpc_does(server: Rpcs, rest: RestClient, name: str) -> None:
    strangers = [c for c in server.callers if not c.role or c.role.endswith(("developer", "viewer"))]
    for token in ("", "wrong", *(c.token for c in strangers), server.operator):
        code, words, message = await server.call(name, await ROWS[name].request(name, server), token)
        status, answer = await rest.rpc(name, fields_of(await ROWS[name].request(name, server)), token)
        assert (status, code_of(status, answer)) == (HTTP[code], code), answer
        if code != "OK":
            assert set(answer) == {"code", "message", "details"}
            assert answer["message"].split(" ")[:4] == words.split(" ")[:4]
        elif ROWS[name].reads and "Operation" not in name and "Job" not in name:
            read = json_format.ParseDict(answer, type(message)())
            assert read == message


@pytest.mark.parametrize("name", sorted(n for n, row in ROWS.items() if not row.reads and row.on != "without"))
async def test_a_call_over_rest_is_audited_as_one_over_grpc(server: Rpcs, rest: RestClient, name: str) -> None:
    await server.call(name, await ROWS[name].request(name, server), server.operator)
    await rest.rpc(name, fields_of(await ROWS[name].request(name, server)), server.operator)
    after, before = await server.audit.find(AuditQuery(limit=2))
    assert (after.action, after.result) == (before.action, before.result)
    assert after.project_id == before.project_id or name == "ProjectService/Create"
    assert after.subject_id == before.subject_id
    assert after.origin.startswith("127.0.0.1:")
    assert after.request_id


async def test_an_answer_has_the_ids_and_is_for_nobody_else(server: Rpcs, rest: RestClient) -> None:
    url = f"{rest.base}/datasphere/v2/projects/{PROJECT}"
    async with rest.session.get(url, headers={"Authorization": f"Bearer {server.operator}"}) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["x-request-id"]
        assert "Access-Control-Allow-Origin" not in response.headers
        project = await response.json()
    assert (project["id"], project["communityId"]) == (PROJECT, "c" * 20)
    async with rest.session.get(url) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert response.headers["x-request-id"]


async def test_the_document_names_every_route_and_nothing_that_is_not_there(server: Rpcs, rest: RestClient) -> None:
    status, document = await rest.call("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    described = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    absent = {"IamTokenService/CreateForServiceAccount", "IamTokenService/Revoke"}  # public, and not here
    there = {name for name, row in ROWS.items() if row.on != "without"} - absent
    assert set(described) == {name.replace("/", "_") for name in there}
    assert all(operation["summary"] for operation in described.values())
    text = json.dumps(document)
    for part in text.split('"$ref": "')[1:]:
        name = part.partition('"')[0].removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"]
    job = document["components"]["schemas"]["yandex.cloud.datasphere.v2.jobs.Job"]["properties"]
    assert job["createdAt"] == {"type": "string", "format": "date-time"}
    assert "jobParameters" in job
