"""Every method x every role x whether it is held here, elsewhere or not at all: who may what, over a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rpc_rows import COMMUNITY, MISSING, ON_COMMUNITY, ON_PROJECT, PROJECT, ROWS, VIEWER, Caller, Row, Rpcs, rpcs

from jobsphere.domain.access import ROLES

CLOSED = {"NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED", "INTERNAL"}
GUARDED = {name: row for name, row in ROWS.items() if row.on in {"project", "community"}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Rpcs]:
    async with rpcs(tmp_path) as running:
        yield running


async def test_every_method_of_the_served_services_has_its_row(server: Rpcs) -> None:
    assert set(ROWS) == set(server.methods)
    assert set(ROLES) == set(ON_PROJECT) == set(ON_COMMUNITY)
    assert len(server.callers) == 1 + 2 * len(ROLES)


@pytest.mark.parametrize("name", GUARDED)
async def test_a_role_opens_what_it_opens_and_nothing_more(server: Rpcs, name: str) -> None:
    row = ROWS[name]
    for caller in server.callers:
        request = await row.request(name, server)
        code, words, _ = await server.call(name, request, caller.token)
        level = caller.level(row.on)
        if level >= row.least:
            assert code not in CLOSED, (str(caller), words)
        elif level:
            assert code == "PERMISSION_DENIED", (str(caller), words)
            assert "datasphere." in words
        else:
            await _is_told_as_missing(server, name, row, caller, code, words, getattr(request, row.names))
    code, words, _ = await server.call(name, await row.request(name, server), server.operator)
    assert code not in CLOSED, words


async def _is_told_as_missing(
    server: Rpcs, name: str, row: Row, caller: Caller, code: str, words: str, named: str
) -> None:
    """What somebody without a role is told of a thing that is there: the words for one that is not."""
    missing = await server.call(name, await row.request(name, server, missing=True), caller.token)
    assert (code, words.replace(named, MISSING)) == missing[:2], str(caller)
    assert code == "NOT_FOUND", (str(caller), words)


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.on == "without"])
async def test_what_there_is_not_is_told_with_a_sentence_to_everybody(server: Rpcs, name: str) -> None:
    for token in (*(c.token for c in server.callers), server.operator):
        code, words, _ = await server.call(name, server.message(name), token)
        assert (code, ": " in words) == ("UNIMPLEMENTED", True), words


async def test_only_the_operator_makes_communities(server: Rpcs) -> None:
    name = "CommunityService/Create"
    for caller in server.callers:
        code, _, _ = await server.call(name, await ROWS[name].request(name, server), caller.token)
        assert code == "PERMISSION_DENIED", str(caller)
    assert (await server.call(name, await ROWS[name].request(name, server), server.operator))[0] == "OK"


async def test_lists_hold_what_the_caller_may_see(server: Rpcs) -> None:
    for caller in server.callers:
        _, _, projects = await server.call(
            "ProjectService/List", server.message("ProjectService/List", community_id=COMMUNITY), caller.token
        )
        seen = caller.level("project") >= VIEWER
        assert [p.id for p in projects.projects] == ([PROJECT] if seen else []), str(caller)
        _, _, communities = await server.call(
            "CommunityService/List", server.message("CommunityService/List"), caller.token
        )
        seen = caller.level("community") >= VIEWER
        assert (COMMUNITY in [c.id for c in communities.communities]) == seen, str(caller)


@pytest.mark.parametrize("name", ROWS)
async def test_without_a_token_only_the_public_methods_answer(server: Rpcs, name: str) -> None:
    row = ROWS[name]
    for token in ("", "wrong", "jsp_wrong", "js2.1.t-x.y"):
        code, _, _ = await server.call(name, server.message(name), token)
        assert (code == "UNAUTHENTICATED") == (row.on != "public"), code
