"""REST at its edges: what is no request, other sites, streams that are resumed, cut or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from api_calls import HANG_S
from api_fakes import JOB, TOKEN, Fakes
from rest_client import COOKIE, RestClient, rest_of

from jobsphere.api.codec import encode_job
from jobsphere.api.rest.server import MAX_BODY_BYTES
from jobsphere.api.server import GrpcServer
from jobsphere.domain import errors
from jobsphere.domain.job import JobStatus
from jobsphere.domain.ports import JobView

GET = f"/datasphere/v2/jobs/{JOB.id}"
LOGS = f"{GET}/logs"
CREATE = f"/datasphere/v2/projects/{JOB.project_id}/jobs"
OTHER_SITE = {"Origin": "http://evil.example"}


@pytest.fixture
async def rest(server: GrpcServer, port: int) -> AsyncIterator[RestClient]:
    async with rest_of(server) as client:
        yield client


async def test_requests_travel_in_path_query_and_body(rest: RestClient, fakes: Fakes) -> None:
    status, page = await rest.call("GET", f"{CREATE}?pageSize=5&filter=status%20IN%20(ERROR)", token=TOKEN)
    assert (status, page["jobs"][0]["name"], page["nextPageToken"]) == (200, "train", "")
    assert fakes.recorder.calls[-1] == ("page", "alice", JOB.project_id, "status IN (ERROR)", 5, "")
    status, answer = await rest.call("POST", f"{GET}:cancel", {"reason": "r", "graceful": True}, token=TOKEN)
    assert (status, answer) == (200, {})
    assert fakes.recorder.calls[-1] == ("cancel", "alice", JOB.id, "r", True)
    status, answer = await rest.call("POST", f"{GET}:setDataTtl", {"ttl": "60s"}, token=TOKEN)
    assert fakes.recorder.calls[-1][-1].total_seconds() == 60


async def test_an_operation_tells_its_parts_by_their_types(rest: RestClient) -> None:
    status, operation = await rest.call("POST", CREATE, {"name": "n", "jobParameters": {"cmd": "true"}}, token=TOKEN)
    assert (status, operation["done"]) == (200, True)
    assert operation["response"]["@type"].endswith("datasphere.v2.jobs.CreateProjectJobResponse")
    assert operation["response"]["uploadFiles"][0]["url"] == "http://127.0.0.1/put"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"name": "a", "name": "b"}', "twice"),
        (b'{"strange": 1}', "strange"),
        (b'{"name": 5}', "no CreateProjectJobRequest"),
        (b'{"jobParameters": 5}', "no CreateProjectJobRequest"),
        (b'{"dataTtl": "soon"}', "no CreateProjectJobRequest"),
        (b'{"name": "\\ud800"}', "no CreateProjectJobRequest"),
        (b'{"projectId": "another"}', "the path says"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe{}", "no"),
    ],
)
async def test_what_is_no_request_is_refused_with_the_reason(rest: RestClient, body: bytes, words: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with rest.session.post(rest.base + CREATE, data=body, headers=headers) as response:
        answer = await response.json()
    assert (response.status, answer["code"]) == (400, 3), answer
    assert words in answer["message"]


@pytest.mark.parametrize(
    "query", ["strange=1", "pageSize=x", "pageSize=1&pageSize=2", "projectId=p", "pageSize=99999999999999999999"]
)
async def test_a_query_that_is_none_is_refused(rest: RestClient, query: str) -> None:
    status, answer = await rest.call("GET", f"{CREATE}?{query}", token=TOKEN)
    assert (status, answer["code"]) == (400, 3), answer


async def test_paths_lead_to_methods_or_nowhere(rest: RestClient) -> None:
    assert (await rest.call("GET", "/datasphere/v3"))[0] == 404
    assert (await rest.call("GET", "/datasphere/v2/jobs/a/b/c"))[0] == 404
    assert (await rest.call("GET", "/datasphere/v2/jobs/a%2Flogs", token=TOKEN))[0] == 200
    async with rest.session.put(rest.base + GET) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, DELETE")


async def test_a_body_has_a_limit(rest: RestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    for data in (b" " * (MAX_BODY_BYTES + 1), endless()):
        async with rest.session.post(rest.base + CREATE, data=data, headers=headers) as response:
            assert response.status == 413
            assert "8 MiB" in (await response.json())["message"]


@pytest.mark.parametrize("headers", [OTHER_SITE, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}])
async def test_pages_of_other_sites_are_refused(rest: RestClient, fakes: Fakes, headers: dict[str, str]) -> None:
    async with rest.session.post(rest.base + CREATE, json={}, headers=headers) as response:
        assert response.status == 403
    navigation = {**headers, "Sec-Fetch-Mode": "navigate"}
    async with rest.session.get(f"{rest.base}/operations/o:cancel", headers=navigation) as response:
        assert response.status == 403
    assert fakes.recorder.calls == []


async def test_what_a_form_can_send_is_not_taken(rest: RestClient, fakes: Fakes) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        async with rest.session.post(rest.base + CREATE, data=b"{}", headers={"Content-Type": kind}) as response:
            assert response.status == 415
    assert fakes.recorder.calls == []


async def test_with_a_token_a_body_needs_no_type(rest: RestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    async with rest.session.post(rest.base + CREATE, data=b'{"name": "n"}', headers=headers) as response:
        assert response.status == 200


async def test_a_cookie_reads_and_changes_nothing(rest: RestClient) -> None:
    cookie = {"Cookie": f"{COOKIE}={TOKEN}"}
    assert (await rest.call("GET", GET, headers=cookie))[0] == 200
    assert (await rest.call("POST", f"{GET}:cancel", {}, headers=cookie))[0] == 401
    assert (await rest.call("GET", "/operations/o:cancel", headers=cookie))[0] == 401


async def test_where_no_tokens_are_asked_for_the_host_must_be_known(server: GrpcServer, port: int) -> None:
    async with rest_of(server, tokens_required=False) as rest:
        for host, status in (("jobs.example", 200), ("localhost:1", 200), ("[::1]:80", 200), ("evil.example", 403)):
            async with rest.session.get(rest.base + "/openapi.json", headers={"Host": host}) as response:
                assert response.status == status, host


async def test_logs_are_events_that_say_where_to_go_on(rest: RestClient, fakes: Fakes) -> None:
    async with asyncio.timeout(HANG_S), rest.events(LOGS, TOKEN) as events:
        first = await anext(events)
        assert (first.id, first.json["logs"][0]["content"]) == ("30", "aGVsbG8K")
        fakes.logs.end.set()
        rest_of_them = [(e.id, e.event) async for e in events]
    assert rest_of_them == [("60", "message"), ("", "end")]
    async with rest.events(f"{LOGS}?offset=5", TOKEN, last="30") as events:
        await anext(events)
    assert fakes.recorder.calls[-1] == ("stream", "alice", JOB.id, 30)


async def test_a_stream_that_cannot_begin_answers_a_status(rest: RestClient, fakes: Fakes) -> None:
    fakes.recorder.error = errors.NotFoundError("there is no job")
    status, answer = await rest.call("GET", LOGS, token=TOKEN)
    assert (status, answer["message"]) == (404, "there is no job")
    status, answer = await rest.call("GET", LOGS, token=TOKEN, headers={"Last-Event-ID": "x"})
    assert status == 400


async def test_a_stream_that_fails_says_why(rest: RestClient, fakes: Fakes) -> None:
    fakes.logs.failure = errors.CorruptedError("the log cannot be read")
    fakes.logs.end.set()
    async with rest.events(LOGS, TOKEN) as events:
        await anext(events)
        last = await anext(events)
    assert (last.event, last.json["message"]) == ("failed", "the log cannot be read")


async def test_a_server_that_stops_ends_the_stream_for_its_reader_to_come_again(rest: RestClient, fakes: Fakes) -> None:
    fakes.logs.failure = errors.UnavailableError("the server stops")
    fakes.logs.end.set()
    async with rest.events(LOGS, TOKEN) as events:
        assert [e.id async for e in events] == ["30"]


async def test_a_reader_that_leaves_closes_the_stream(rest: RestClient, fakes: Fakes) -> None:
    fakes.logs.flood = True
    async with rest.events(LOGS, TOKEN) as events:
        await anext(events)
    async with asyncio.timeout(HANG_S):
        await fakes.logs.closed.wait()


async def test_a_job_is_watched_until_its_end(rest: RestClient, fakes: Fakes) -> None:
    def be(**change: Any) -> None:
        fakes.jobs.views[0] = JobView(JOB.project_id, encode_job(replace(JOB, **change)))
        rest.changes.publish(JOB.id)

    async with asyncio.timeout(HANG_S), rest.events(GET, TOKEN) as events:
        first = await anext(events)
        assert first.json["status"] == "EXECUTING"
        be(status_details="nearly done")
        assert (await anext(events)).json["statusDetails"] == "nearly done"
        be(status=JobStatus.SUCCESS)
        last = await anext(events)
        assert [e.event async for e in events] == ["end"]
    async with rest.events(GET, TOKEN, last=last.id) as events:
        assert [e.event async for e in events] == ["end"]


async def test_a_watch_ends_with_its_token(rest: RestClient, fakes: Fakes) -> None:
    async with asyncio.timeout(HANG_S), rest.events(GET, TOKEN) as events:
        await anext(events)
        fakes.identity.good = "another"
        last = await anext(events)
    assert (last.event, last.json["code"]) == ("failed", 16)
