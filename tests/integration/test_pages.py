"""The pages without a browser: what a form must show, what headers say, who sees what, and what never shows."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rpc_rows import OTHER_PROJECT, PROJECT, Rpcs, rpcs
from tests.unit.world import WHO

from jobsphere.api.rest.inside import call_inside
from jobsphere.domain.capacity import GIB
from jobsphere.domain.job import Argument, EnvironmentSpec, JobSpec
from jobsphere.domain.resource import Subject
from jobsphere.domain.resources import SparkConnector
from jobsphere.service.audit import Audit
from jobsphere.service.board import Board
from jobsphere.service.guesses import AT_ONCE
from jobsphere.store.finding import MemoryJobFinder
from jobsphere.web.app import build_app, serve
from jobsphere.web.pages import SESSION, Behind, Leader, PagesMount
from jobsphere.web.pages.views.job import clone_request
from jobsphere.web.pages.visit import VISITOR, local_path

SPEC = JobSpec("train ${RATE}", instance_types=("c1.4",), arguments=(Argument("RATE", "1"),))


@dataclass(frozen=True)
class Built:
    fingerprint: str = "f" * 64
    what: str = "Python 3.12, numpy<b>"
    size_bytes: int = 5 << 20
    last_used: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    build_seconds: float = 2.5
    in_use: bool = False
    complete: bool = True


@dataclass
class Pulled:
    reference: str = "registry.example/team/base:1"
    image_id: str = "d" * 64
    size_bytes: int = 7 << 30
    last_used: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    in_use: bool = True


@dataclass
class Site:
    """The pages over a world, and a visitor without a browser."""

    rpcs: Rpcs
    base: str
    session: aiohttp.ClientSession
    audited: list[tuple[str, str, str]] = field(default_factory=list)
    leads: list[Leader | None] = field(default_factory=lambda: [None])

    async def get(self, path: str, token: str = "", **headers: str) -> tuple[int, str, Mapping[str, str]]:
        cookies = f"{SESSION}={token}; {VISITOR}=v" if token else f"{VISITOR}=v"
        sent = {"Cookie": cookies, "Accept": "text/html", **headers}
        async with self.session.get(self.base + path, headers=sent, allow_redirects=False) as response:
            return response.status, await response.text(), response.headers

    async def post(self, path: str, token: str, fields: Mapping[str, str], **headers: str) -> tuple[int, str, str]:
        """Send a form with the token that a page gave: status, text, where it leads."""
        if "form_token" not in fields:
            _, page, _ = await self.get("/sign-in", token)
            given = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
            assert given
            fields = {**fields, "form_token": given[1]}
        sent = {"Cookie": f"{SESSION}={token}; {VISITOR}=v", **headers}
        url = self.base + path
        async with self.session.post(url, data=fields, headers=sent, allow_redirects=False) as response:
            return response.status, await response.text(), response.headers.get("Location", "")

    def caller(self, role: str, member: bool = True) -> str:
        return next(c.token for c in self.rpcs.callers if c.role.endswith(f"projects.{role}") and c.member == member)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with rpcs(tmp_path) as running:
        world = running.world
        audited: list[tuple[str, str, str]] = []

        async def call(name: str, request: Mapping[str, Any], token: str | None, peer: Sequence[Any] | None) -> Any:
            return await call_inside(running.server.registrar, name, request, token, peer)

        def audit(
            who: Subject, action: str, ids: Sequence[tuple[str, str]], origin: str
        ) -> AbstractAsyncContextManager[None]:
            @asynccontextmanager
            async def noting() -> AsyncIterator[None]:
                audited.append((who.id, action, dict(ids)["name"]))
                assert origin.startswith("127.0.0.1:")
                yield

            return noting()

        async def leader() -> Leader | None:
            return leads[-1]

        leads: list[Leader | None] = [None]
        memory = world.store._inner
        board = Board(world.store, MemoryJobFinder(memory), world.access, world.accounts, world.types)
        behind = Behind(
            running.server._services.identity, board, world.logs, world.communities,
            world.secrets, world.image_resources, world.datasets, world.connectors, world.sparks,
            Audit(running.audit, world.clock), call, audit, lambda: [Built()], 50 * GIB, lambda: [Pulled()], 60 * GIB,
            leader, b"s" * 32, True,
        )  # fmt: skip
        listening = socket.create_server(("127.0.0.1", 0))
        app = build_app(None, None, lambda: True, parts=[PagesMount(behind)])  # type: ignore[arg-type]
        runner = await serve(app, listening)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Site(running, f"http://127.0.0.1:{listening.getsockname()[1]}", session, audited, leads)
        await runner.cleanup()


async def test_who_is_not_signed_in_is_led_to_the_door_and_back(site: Site) -> None:
    status, _, headers = await site.get(f"/projects/{PROJECT}?q=a b")
    assert (status, headers["Location"]) == (303, f"/sign-in?next=%2Fprojects%2F{PROJECT}%3Fq%3Da%2Bb")
    status, _, _ = await site.get("/jobs/x", "a-wrong-token")
    assert status == 303
    token = await site.rpcs.world.accounts.list_credentials()
    assert token
    status, _, location = await site.post("/sign-in", "", {"token": site.caller("viewer"), "next": "//evil.example"})
    assert (status, location) == (303, "/")
    assert (await site.post("/sign-in", "", {"token": "wrong"}))[0] == 401


async def test_who_guesses_tokens_at_the_door_is_stopped(site: Site) -> None:
    known = site.caller("viewer")
    assert (await site.get("/projects", known))[0] == 200
    guesses = [(await site.post("/sign-in", "", {"token": f"jsp_{n:040}"}))[0] for n in range(AT_ONCE + 5)]
    assert guesses[0] == 401
    assert guesses[-1] == 429
    assert (await site.get("/projects", site.caller("admin")))[0] == 429
    assert (await site.get("/projects", known))[0] == 200


@pytest.mark.parametrize("path", ["//evil", "/\\evil", "https://evil", "evil", "", "/a\r\nX: y", "javascript:1"])
def test_no_link_leads_elsewhere_after_signing_in(path: str) -> None:
    assert local_path(path) == "/"
    assert local_path("/jobs/x?a=1#log") == "/jobs/x?a=1#log"


async def test_pages_say_what_they_may_do(site: Site) -> None:
    for path in ("/sign-in", "/projects", "/nowhere", "/jobs/none", "/assets/live.js"):
        _, _, headers = await site.get(path, site.caller("viewer"))
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


async def test_pages_hold_no_script_and_no_style_of_their_own(site: Site) -> None:
    job = await site.rpcs.world.created(SPEC)
    for path in (
        f"/jobs/{job.id}",
        f"/projects/{PROJECT}",
        "/queue",
        "/audit",
        "/environments",
        f"/jobs/{job.id}/fork",
    ):
        status, page, _ = await site.get(path, site.rpcs.operator)
        assert status == 200, path
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", page), path
        assert all(url.startswith(("/", "?", "#")) for url in re.findall(r'(?:href|src|action)="([^"]*)"', page)), path


async def test_every_form_needs_its_token_and_our_own_page(site: Site) -> None:
    job = await site.rpcs.world.executed(SPEC)
    token, path = site.caller("developer"), f"/jobs/{job.id}/cancel"
    for given in ("", "0" * 64, "ä"):
        assert (await site.post(path, token, {"form_token": given}))[0] == 403
    assert (await site.post(path, token, {}, Origin="http://evil.example"))[0] == 403
    async with site.session.post(site.base + path, json={}, headers={"Cookie": f"{SESSION}={token}"}) as response:
        assert response.status == 400
    assert not (await site.rpcs.world.store.get_job(job.id)).cancel
    assert (await site.post(path, token, {}))[0] == 303
    assert (await site.rpcs.world.store.get_job(job.id)).cancel


async def test_roles_hold_and_other_projects_are_not_there(site: Site) -> None:
    job = await site.rpcs.world.created(SPEC)
    viewer, stranger = site.caller("viewer"), site.caller("viewer", member=False)
    for verb in ("cancel", "delete", "fork", "execute"):
        status, words, _ = await site.post(f"/jobs/{job.id}/{verb}", viewer, {})
        assert (status, "you may not" in words) == (403, True), verb
    for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/live", f"/jobs/{job.id}/log", f"/jobs/{job.id}/files/0"):
        assert (await site.get(path, stranger))[0] == 404, path
    for path in (f"/projects/{PROJECT}", f"/projects/{PROJECT}/resources", f"/projects/{PROJECT}/datasets/d.tar"):
        assert (await site.get(path, stranger))[0] == 404, path
    for path in ("/audit", "/environments"):
        assert (await site.get(path, viewer))[0] == 403, path
    _, page, _ = await site.get("/projects", stranger)
    assert OTHER_PROJECT in page
    assert PROJECT not in page


async def test_the_queue_names_only_what_the_visitor_may_see(site: Site) -> None:
    job = await site.rpcs.world.executed(SPEC)
    _, page, _ = await site.get("/queue?part=1", site.caller("viewer"))
    assert job.id in page
    _, page, _ = await site.get("/queue?part=1", site.caller("viewer", member=False))
    assert job.id not in page
    assert "a job of another project" in page


async def test_the_queue_tells_the_operator_who_leads(site: Site) -> None:
    for leader, said in (
        (None, ()),
        (Leader("b1:/srv/<one>", True), ("b1:/srv/&lt;one&gt;</b> leads: this one",)),
        (Leader("b2:/srv/two", False), ("b2:/srv/two</b> leads.",)),
        (Leader("", False), ("No server leads",)),
    ):
        site.leads[:] = [leader]
        _, page, _ = await site.get("/queue?part=1", site.rpcs.operator)
        assert all(words in page for words in said)
        assert ("leads" in page) == bool(said)
        assert "leads" not in (await site.get("/queue?part=1", site.caller("admin")))[1]


async def test_a_secret_goes_in_and_never_comes_out(site: Site) -> None:
    path = f"/projects/{PROJECT}/secrets"
    fields = {"name": "KEY", "value": "line one\r\nline two"}
    assert (await site.post(path, site.caller("developer"), fields))[0] == 403
    assert (await site.post(path, site.caller("editor"), fields))[0] == 303
    assert await site.rpcs.world.secrets.holds(WHO, PROJECT, "KEY", "line one\nline two")
    _, page, _ = await site.get(f"/projects/{PROJECT}/resources", site.caller("editor"))
    assert "KEY" in page
    assert "line one" not in page
    status, page, _ = await site.post(path, site.caller("editor"), {"name": "no name!", "value": "another-value"})
    assert (status, "another-value" in page) == (400, False)
    assert (await site.post(f"{path}/KEY/delete", site.caller("editor"), {}))[0] == 303
    assert [entry[1:] for entry in site.audited if entry[2] == "KEY"][1:] == [
        ("secret set", "KEY"),
        ("secret delete", "KEY"),
    ]


async def test_a_spark_is_shown_without_its_parameters(site: Site) -> None:
    connector = SparkConnector(host="spark.example:15002", params=(("spark.pin", "hush"),))
    calc = await site.rpcs.world.sparks.add(WHO, PROJECT, "calc", connector)
    _, page, _ = await site.get(f"/projects/{PROJECT}/resources", site.caller("viewer"))
    assert "SPARK_CONNECT at spark.example:15002" in page
    assert calc.id in page
    assert "hush" not in page


async def test_variables_of_a_job_show_without_their_values(site: Site) -> None:
    job = await site.rpcs.world.created(
        JobSpec("true", instance_types=("c1.4",), env=EnvironmentSpec((("V", "hush"),)))
    )
    _, page, _ = await site.get(f"/jobs/{job.id}", site.rpcs.operator)
    assert "<code>V</code>" in page
    assert "hush" not in page


async def test_a_dataset_is_saved_as_one_archive(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "big.bin").write_bytes(b"x" * 3_000_000)
    made = await site.rpcs.world.datasets.create(WHO, PROJECT, "data", [folder])
    url = f"{site.base}/projects/{PROJECT}/datasets/{made.id}.tar"
    async with site.session.get(url, headers={"Cookie": f"{SESSION}={site.caller('viewer')}"}) as response:
        assert response.status == 200
        with tarfile.open(fileobj=BytesIO(await response.read())) as archive:
            sizes = {member.name: member.size for member in archive if member.isfile()}
    assert sizes == {"data/big.bin": 3_000_000}


async def test_environments_are_shown_to_the_operator(site: Site) -> None:
    _, page, _ = await site.get("/environments", site.rpcs.operator)
    assert "numpy&lt;b&gt;" in page
    assert "5 MiB of 50 GiB" in page
    assert "registry.example/team/base:1" in page
    assert "7 GiB of 60 GiB" in page


async def test_what_is_not_there_is_a_404_and_a_wrong_verb_a_405(site: Site) -> None:
    assert (await site.get("/assets/../app.py"))[0] == 404
    assert (await site.get("/assets/%2e%2e/app.py"))[0] == 404
    assert (await site.get("/sign-out"))[0] == 405
    status, page, _ = await site.get("/nowhere", Accept="*/*")
    assert (status, page) == (404, "404: there is nothing here\n")


async def test_a_fork_changes_what_the_form_changes(site: Site) -> None:
    job = await site.rpcs.world.created(SPEC, timedelta(hours=1))
    form = {"name": "n", "cmd": "train ${RATE}", "argument RATE": "2", "type": ""}
    changed = clone_request(job, form)
    assert changed["jobParametersOverrides"] == {"arguments": [{"name": "RATE", "value": "2"}]}
    assert changed["dataTtl"] == "3600s"
    same = clone_request(job, {"cmd": "train ${RATE}", "type": "c1.4"})
    assert same["jobParametersOverrides"] == {}
    other = clone_request(job, {"cmd": "a\r\nb", "type": "c1.8"})["jobParametersOverrides"]
    assert other == {"cmd": "a\nb", "cloudInstanceTypes": [{"name": "c1.8"}]}
    strange = await site.rpcs.world.created(replace(SPEC, cmd="echo \x1b[1m \u202e ${RATE}"))
    _, page, _ = await site.get(f"/jobs/{strange.id}/fork", site.caller("developer"))
    assert r"echo \x1b[1m \u202e ${RATE}" in page
    assert clone_request(strange, {"cmd": r"echo \x1b[1m \u202e ${RATE}"})["jobParametersOverrides"] == {}
    status, _, location = await site.post(f"/jobs/{job.id}/fork", site.caller("developer"), form)
    fork = await site.rpcs.world.store.get_job(location.removeprefix("/jobs/"))
    assert (status, fork.parent_job_id, fork.spec.arguments[0].value) == (303, job.id, "2")
    _, page, _ = await site.get(location, site.caller("viewer"))
    assert f"/jobs/{job.id}" in page


def test_a_server_that_shows_no_page_loads_nothing_for_them() -> None:
    late = ("jinja2", "google.protobuf.json_format", "jobsphere.api.rest.server", "jobsphere.web.pages.app")
    program = f"import sys, jobsphere.wiring.server; print([m for m in {late} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
