"""Every call that may change something leaves one row in the audit log, whatever became of it; no other call does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rpc_rows import COMMUNITY, PROJECT, ROWS, Rpcs, rpcs
from structlog.testing import capture_logs
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from jobsphere.domain.audit import AuditQuery, AuditRow

CHANGING = [name for name, row in ROWS.items() if not row.reads]
READING = [name for name, row in ROWS.items() if row.reads]
EVERY = AuditQuery(limit=10_000)
PLANTED = "planted-secret-0123456789"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Rpcs]:
    async with rpcs(tmp_path) as running:
        yield running


async def the_row(server: Rpcs) -> AuditRow:
    rows = await server.audit.find(EVERY)
    assert len(rows) == 1, rows
    return rows[0]


@pytest.mark.parametrize("name", CHANGING)
async def test_a_call_that_may_change_something_leaves_a_row(server: Rpcs, name: str) -> None:
    request = await ROWS[name].request(name, server)
    code, _, _ = await server.call(name, request, server.operator)
    row = await the_row(server)
    assert (row.action, row.result) == (name, code)
    assert row.origin.startswith("127.0.0.1:")
    assert len(row.request_id) == 36
    if not name.startswith("IamTokenService"):
        assert (row.subject_id, row.subject_name) == ("root", "root")
    if ROWS[name].names:
        named = getattr(request, ROWS[name].names)
        assert f"{ROWS[name].names}={named}" in row.target.split()
    if ROWS[name].on == "project":
        assert row.project_id == PROJECT


@pytest.mark.parametrize("name", [n for n in CHANGING if ROWS[n].on in {"project", "community"}])
async def test_a_call_that_is_refused_leaves_one_too(server: Rpcs, name: str) -> None:
    nobody = server.callers[0]
    code, _, _ = await server.call(name, await ROWS[name].request(name, server), nobody.token)
    row = await the_row(server)
    assert (row.action, row.result, code) == (name, "NOT_FOUND", "NOT_FOUND")
    assert row.subject_name == "caller-0"


@pytest.mark.parametrize("name", [n for n in CHANGING if ROWS[n].on != "public"])
async def test_a_call_of_nobody_known_leaves_one_too(server: Rpcs, name: str) -> None:
    await server.call(name, server.message(name), "wrong")
    row = await the_row(server)
    assert (row.action, row.result, row.subject_id) == (name, "UNAUTHENTICATED", "")


@pytest.mark.parametrize("name", READING)
async def test_a_call_that_reads_leaves_none(server: Rpcs, name: str) -> None:
    await server.call(name, await ROWS[name].request(name, server), server.operator)
    assert await server.audit.find(EVERY) == []


async def test_what_was_made_and_given_is_told(server: Rpcs) -> None:
    name = "ProjectJobService/Create"
    _, _, operation = await server.call(name, await ROWS[name].request(name, server), server.operator)
    made = pb.CreateProjectJobResponse()
    operation.response.Unpack(made)
    assert f"job_id={made.job_id}" in (await the_row(server)).target.split()
    name, (account,) = "ProjectService/UpdateAccessBindings", (await server.world.accounts.list_accounts())[:1]
    role = "datasphere.community-projects.viewer"
    delta = {"action": 1, "access_binding": {"role_id": role, "subject": {"id": account.id, "type": "userAccount"}}}
    request = server.message(name, resource_id=PROJECT, access_binding_deltas=[delta])
    assert (await server.call(name, request, server.operator))[0] == "OK"
    assert f"give={role}:{account.id}" in (await server.audit.find(EVERY))[0].target.split()


async def test_an_exchange_of_a_token_tells_whose_it_was(server: Rpcs) -> None:
    name, caller = "IamTokenService/Create", server.callers[1]
    request = server.message(name, yandex_passport_oauth_token=caller.token)
    _, _, given = await server.call(name, request, "")
    row = await the_row(server)
    assert (row.subject_name, row.result) == ("caller-1", "OK")
    for secret in (caller.token, given.iam_token):
        assert secret not in repr(row)


async def test_no_secret_of_a_request_is_ever_in_a_row(server: Rpcs) -> None:
    """Whatever field it stands in: a row holds ids, and an id is cut where no id is that long."""
    for name in CHANGING:
        for field in server.methods[name].input_type.fields:
            if field.type == field.TYPE_STRING and not field.is_repeated and not field.name.endswith("_id"):
                await server.call(name, server.message(name, **{field.name: PLANTED}), server.operator)
    spec = {"cmd": PLANTED, "env": {"docker_image_spec": {"image_url": "x", "password_plain_text": PLANTED}}}
    name = "ProjectJobService/Create"
    await server.call(name, server.message(name, project_id=PROJECT, job_parameters=spec), server.operator)
    rows = await server.audit.find(EVERY)
    assert len(rows) > 10
    assert PLANTED not in repr(rows)


async def test_an_id_cannot_forge_another_field(server: Rpcs) -> None:
    name = "ProjectJobService/Cancel"
    await server.call(name, server.message(name, job_id="x result=OK\n" + "y" * 100), server.operator)
    assert (await the_row(server)).target == "job_id=x?result=OK?" + "y" * 52


async def test_a_caller_who_leaves_leaves_a_row(server: Rpcs) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> None:
        began.set()
        await go_on.wait()

    server.world.jobs.cancel = slow  # type: ignore[method-assign]
    method = "/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Cancel"
    call = server.channel.unary_unary(method)(b"", metadata=(("authorization", f"Bearer {server.operator}"),))
    await began.wait()
    call.cancel()
    async with asyncio.timeout(20):
        while not await server.audit.find(EVERY):  # noqa: ASYNC110 - the log has no events
            await asyncio.sleep(0.005)
    assert (await the_row(server)).result == "CANCELLED"


async def test_a_call_is_answered_though_its_row_cannot_be_stored_and_the_servers_log_has_it(server: Rpcs) -> None:
    server.audit_faults.fail("append")
    name = "ProjectJobService/DeleteAllData"
    with capture_logs() as lines:
        code, _, _ = await server.call(name, await ROWS[name].request(name, server), server.operator)
    assert code == "OK"
    (line,) = [x for x in lines if x["event"] == "AUDIT ROW NOT STORED"]
    assert (line["action"], line["subject"], line["target"]) == (name, "root", f"project_id={PROJECT}")


async def test_a_new_job_and_the_row_about_it_are_one_write(server: Rpcs) -> None:
    """Whatever is stored of a call that failed in between, its row is not missing, nor alone."""
    name = "ProjectJobService/Create"
    request = await ROWS[name].request(name, server)
    server.audit_faults.fail("append", times=9)  # what is no part of the write
    assert (await server.call(name, request, server.operator))[0] == "OK"
    assert (await the_row(server)).result == "OK"
    server.world.store.fail("add_job")
    assert (await server.call(name, request, server.operator))[0] == "UNAVAILABLE"
    assert len(await server.audit.find(EVERY)) == 1
    server.audit_faults.heal()
    server.world.store.fail("add_job", after=True)
    assert (await server.call(name, request, server.operator))[0] == "UNAVAILABLE"
    assert [row.result for row in await server.audit.find(EVERY)] == ["UNAVAILABLE", "OK", "OK"]


async def test_callers_who_are_not_known_cannot_fill_the_log(server: Rpcs) -> None:
    name = "ProjectJobService/Cancel"
    for _ in range(150):
        await server.call(name, server.message(name), "wrong")
    assert len(await server.audit.find(EVERY)) == 100
    await server.call(name, server.message(name, job_id="x"), server.operator)
    assert (await server.audit.find(EVERY))[0].target == "job_id=x calls_left_out=50"
    server.world.clock.pass_by(10)
    for _ in range(20):
        await server.call(name, server.message(name), "wrong")
    assert len(await server.audit.find(EVERY)) == 111


async def test_rows_are_found_by_project(server: Rpcs) -> None:
    for name in ("ProjectJobService/DeleteAllData", "CommunityService/Update"):
        await server.call(name, await ROWS[name].request(name, server), server.operator)
    (row,) = await server.audit.find(AuditQuery(project_id=PROJECT))
    assert row.action == "ProjectJobService/DeleteAllData"
    (row,) = await server.audit.find(AuditQuery(action="community*"))
    assert f"community_id={COMMUNITY}" in row.target
    assert row.result == "OK"
