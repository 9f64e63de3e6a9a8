"""The spawner: found by any path, one for a data directory, gone when there is nothing left to do."""

import asyncio
import json
import os
import stat
import sys

import pytest
from supervisors import open_node, until

from jobsphere.domain.errors import UnavailableError
from jobsphere.runner import spawner
from jobsphere.runner.generation import generation_of
from jobsphere.runner.local import LocalRunner


async def test_a_data_directory_of_any_length_will_do(tmp_path):
    deep = tmp_path / ("long" * 20) / ("longer" * 20)
    deep.mkdir(parents=True)
    async with open_node(deep) as node:
        assert (await node.run("true")).ended.code == 0


async def test_there_is_one_spawner_however_many_are_started(tmp_path):
    async with open_node(tmp_path) as node:
        runners = [node.new_runner() for _ in range(3)]
        await asyncio.gather(*(r.launch(node.plan("sleep 1000", f"a{n}")) for n, r in enumerate(runners)))
        for n in range(3):
            await node.observed(f"a{n}", lambda seen: seen.started)
        assert len({node.spawner(f"a{n}") for n in range(3)}) == 1
        for runner in runners:
            await runner.close()


async def test_it_goes_when_nobody_needs_it_and_comes_back(tmp_path):
    async with open_node(tmp_path) as node:
        await node.run("true")
        await node.runner.close()
        await until(lambda: not (tmp_path / "run/spawner.sock").exists(), "the end of the spawner")
        node.runner = node.new_runner()
        assert (await node.run("true", "a2")).ended.code == 0


async def test_what_it_cannot_do_it_says(tmp_path):
    async with open_node(tmp_path) as node:
        await node.run("true")
        channel = spawner.connect(str(tmp_path / "run"))
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        for request in (b"no json\n", b"{}\n", b"[]\n"):
            writer.write(request)
            assert "error" in json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()


async def test_a_node_that_cannot_start_one_is_unavailable(tmp_path):
    async with open_node(tmp_path) as node:
        runner = LocalRunner(tmp_path, "here", [sys.executable, "-c", "raise SystemExit(3)"], node.takers())
        with pytest.raises(UnavailableError, match="here"):
            await runner.launch(node.plan("echo once"))
        assert (await node.run("echo once")).ended.code == 0
        assert await node.text() == "once\n"
    await runner.close()


async def test_only_the_owner_can_look_into_a_run_directory(tmp_path):
    async with open_node(tmp_path) as node:
        await node.run("true", variables=(("SECRET", "x"),))
        assert stat.S_IMODE(node.at().stat().st_mode) == 0o700
        assert stat.S_IMODE(node.at("plan.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


async def test_a_table_of_the_gpus_is_kept_where_there_are_some(tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'timestamp, index'; echo 'now, 0'; exec sleep 1000\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    async with open_node(tmp_path / "data") as node:
        await node.runner.launch(node.plan("until [ -e go ]; do sleep 0.01; done"))
        await node.printed("now\t0")
        node.at("work/go").touch()
        await node.end()
        assert node.runner.outbox("a1", "gpu_stats.tsv").read_text() == "timestamp\tindex\nnow\t0\n"


async def test_newer_code_launches_by_a_spawner_of_its_own_and_the_older_one_lets_its_jobs_end(tmp_path):
    async with open_node(tmp_path) as node:
        await node.runner.launch(node.plan("until [ -e go ]; do sleep 0.05; done; echo old", "a1"))
        await node.observed("a1", lambda seen: seen.started)
        older = node.spawner("a1")
        await node.runner.close()

        command = [*node.runner._argv, "--generation", "newer"]
        node.runner = LocalRunner(tmp_path, "here", command, node.takers(), generation="newer")
        await node.runner.launch(node.plan("sleep 1000", "a2"))
        await node.observed("a2", lambda seen: seen.started)
        assert node.spawner("a2") != older
        assert node.spawner("a1") == older

        (tmp_path / "attempts/a1/work/go").touch()
        assert (await node.end("a1")).ended.code == 0
        await until(lambda: not os.path.exists(f"/proc/{older}"), "the end of the older spawner")
        assert (await node.runner.observe("a2")).alive


def test_a_generation_is_the_code_and_the_options(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = generation_of(["x"], tmp_path)
    assert generation_of(["x"], tmp_path) == first
    assert generation_of(["y"], tmp_path) != first
    (tmp_path / "a.py").write_text("12")
    assert generation_of(["x"], tmp_path) != first
