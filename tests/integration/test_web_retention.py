"""An upload over HTTP keeps to the project's quota, and does not outlive its job and its project."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from tests.unit.world import PROJECT, WHO, World, a_file, a_spec

from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.domain.ports import BlobGrant
from jobsphere.domain.quota import Quota
from jobsphere.web.app import build_app, serve

CONTENT = b"0123456789"


@dataclass
class Web:
    """The world behind a real port."""

    world: World
    signer: HmacUrlSigner
    client: aiohttp.ClientSession

    async def put(self, content: bytes = CONTENT) -> tuple[int, str]:
        expires = self.world.clock.now() + timedelta(minutes=5)
        grant = BlobGrant("PUT", PROJECT, hashlib.sha256(content).hexdigest(), len(content), expires)
        async with self.client.put(self.signer.sign(grant), data=content) as response:
            return response.status, await response.text()


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    world = await World(tmp_path, quota=Quota(bytes=len(CONTENT))).open()
    listening = socket.create_server(("127.0.0.1", 0))
    signer = HmacUrlSigner(os.urandom(32), f"http://127.0.0.1:{listening.getsockname()[1]}", world.clock)
    app = build_app(
        signer, world.blobs, lambda: True, known=world.store.get_project, admit=world.quotas.uploading,
        settle=world.data.settle,
    )  # fmt: skip
    runner = await serve(app, listening)
    async with aiohttp.ClientSession() as client:
        yield Web(world, signer, client)
    await runner.cleanup()


async def test_what_a_job_waits_for_stays(web: Web) -> None:
    await web.world.created(a_spec(input_files=(a_file("in", CONTENT),)))
    for _ in range(2):  # a repeat is no more
        assert (await web.put())[0] == 200
    assert await web.world.blobs.held(PROJECT) == {a_file("in", CONTENT).sha256}


async def test_what_nobody_waits_for_any_more_goes(web: Web) -> None:
    job = await web.world.created(a_spec(input_files=(a_file("in", CONTENT),)))
    await web.world.jobs.delete(WHO, job.id)
    assert (await web.put())[0] == 200
    assert await web.world.blobs.held(PROJECT) == set()


async def test_more_than_the_project_may_have_is_refused_with_the_figures(web: Web) -> None:
    await web.world.created(a_spec(input_files=(a_file("in", CONTENT),)))
    assert (await web.put())[0] == 200
    status, text = await web.put(b"x")
    assert status == 507
    assert "10 B are stored (10 B in files of jobs), 1 B more would be, 10 B may be" in text
