"""``jobsphere.Client`` and the commands about jobs, against a real server running real jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobsphere
from jobsphere.client import Changes, JobFailedError
from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnauthenticatedError
from jobsphere.domain.job import JobStatus
from tests.acceptance.jobfiles import sleepers, write_job, write_script
from tests.live import BIN, HANG_S, LiveServer, live_server, wait_for

CONFIG = """\
name: words
cmd: bash job.sh ${IN} ${OUT} ${N}
args: {N: "2"}
inputs:
- job.sh
- in: IN
outputs:
- out.txt: OUT
- made
"""
SCRIPT = 'echo N is $3; echo aside >&2; cat "$1/a.txt" > "$2"; mkdir made; echo one > made/one; exit ${CODE:-0}\n'


@pytest.fixture
def native(server: LiveServer) -> Iterator[jobsphere.Client]:
    with jobsphere.Client(data_dir=server.data_dir, token="", project="") as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_job(tmp_path / "job", CONFIG, job__sh=SCRIPT)
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_text("hello\n")
    monkeypatch.chdir(folder)
    return folder


def command(server: LiveServer, *args: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [BIN / "jobsphere", *args], cwd=cwd, env=environ(server), capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def environ(server: LiveServer) -> dict[str, str]:
    return {**os.environ, "JOBSPHERE_DATA_DIR": str(server.data_dir), "COLUMNS": "200"}


def test_a_job_from_its_files_to_its_outputs(native: jobsphere.Client, folder: Path) -> None:
    sent: list[tuple[str, int, int]] = []

    job = native.run(progress=lambda *piece: sent.append(piece))
    messages = list(job.logs())
    result = job.wait().check()
    brought = job.download(folder / "here", logs=True)

    assert {path: (done, size) for path, done, size in sent}["job.sh"] == (len(SCRIPT), len(SCRIPT))
    assert [m.text for m in messages if m.source == "stdout"] == ["N is 2"]
    assert [m.text for m in messages if m.source == "stderr"] == ["aside"]
    assert (result.ok, result.return_code, result.missing_outputs) == (True, 0, ())
    assert (folder / "here" / "out.txt").read_text() == "hello\n"
    assert (folder / "here" / "made" / "one").read_text() == "one\n"
    assert {p.name for p in brought} > {"out.txt", "made", "stdout.txt", "system.log"}
    assert not list((folder / "here").glob("*.part"))
    assert native.job(job.id).facts.name == "words"
    assert job.id in [one.id for one in native.jobs([JobStatus.SUCCESS])]
    assert job.id not in [one.id for one in native.jobs([JobStatus.ERROR])]
    assert "words" in job._repr_html_()


def test_a_fork_changes_what_is_named(native: jobsphere.Client, folder: Path) -> None:
    source = native.run()
    source.wait()
    (folder / "other").mkdir()
    (folder / "other" / "a.txt").write_text("changed\n")
    sent: list[str] = []

    changes = Changes(args={"N": "7"}, files={"IN": "other"}, env={"CODE": "3"}, name="again")
    fork = source.fork(changes, progress=lambda path, *_: sent.append(path))
    result = fork.wait()

    assert [m.text for m in fork.logs() if m.source == "stdout"] == ["N is 7"]
    assert set(sent) == {"other"}
    assert (result.ok, result.return_code) == (False, 3)
    with pytest.raises(JobFailedError, match="3") as caught:
        result.check()
    assert caught.value.return_code == 3
    assert fork.download(folder / "there", ["OUT"]) == [folder / "there" / "out.txt"]
    assert (folder / "there" / "out.txt").read_text() == "changed\n"
    facts = fork.facts
    assert (facts.parent_id, facts.name) == (source.id, "again")
    with pytest.raises(InvalidArgumentError, match="NO"):
        source.fork(Changes(args={"NO": "1"}))


def test_a_cancelled_job_says_so_and_one_that_is_gone_too(
    native: jobsphere.Client, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(write_script(tmp_path / "job", "echo up; sleep 33345.01"))
    job = native.run()
    assert next(m.text for m in job.logs() if m.source == "stdout") == "up"
    assert [m.text for m in job.logs(follow=False) if m.source == "stdout"] == ["up"]

    job.cancel(reason="enough")
    result = job.wait()

    assert (result.status, result.return_code) == (JobStatus.CANCELLED, None)
    assert not sleepers("33345.01")
    job.delete()
    with pytest.raises(NotFoundError, match=job.id):
        native.job(job.id)


def test_bad_configs_and_files_are_told(native: jobsphere.Client, folder: Path) -> None:
    (folder / "bad.yaml").write_text("cmd: true\ninputs: [nowhere.txt]\n")
    with pytest.raises(InvalidArgumentError, match=r"bad.yaml: .*nowhere.txt"):
        native.run("bad.yaml")
    with pytest.raises(InvalidArgumentError, match=r"no.yaml: No such file"):
        native.run("no.yaml")
    job = native.run()
    job.wait()
    with pytest.raises(NotFoundError, match=r"'no.txt'; there are: out.txt"):
        job.download(folder, ["no.txt"])


async def test_the_same_for_asyncio(server: LiveServer, folder: Path) -> None:
    async with jobsphere.AsyncClient(data_dir=server.data_dir, token="", project="") as client:
        job = await client.run()
        lines = [m.text async for m in job.logs() if m.source == "stdout"]
        result = await job.wait()
        brought = await job.download(folder / "here")

        assert lines == ["N is 2"]
        assert result.check() is result
        assert brought[0].parent == folder / "here"
        assert job.id in [one.id async for one in client.jobs()]


def test_logs_go_on_when_the_server_comes_back(tmp_path: Path, monkeypatch) -> None:
    script = "echo up; until [ -e go ]; do sleep 0.1; done; echo finished"
    monkeypatch.chdir(write_script(tmp_path / "job", script))
    with (
        live_server(tmp_path / "data") as server,
        jobsphere.Client(data_dir=server.data_dir, token="", project="") as client,
    ):
        job = client.run()
        messages = (m.text for m in job.logs() if m.source == "stdout")
        assert next(messages) == "up"

        ports = server.ports
        server.stop(signal.SIGKILL)
        server.start(ports)
        (server.data_dir / "attempts" / f"{job.id}-1" / "work" / "go").touch()

        assert list(messages) == ["finished"]
        assert job.wait().ok


def test_a_server_that_asks_for_tokens(tmp_path: Path, monkeypatch) -> None:
    folder = write_script(tmp_path / "job", "echo hello")
    monkeypatch.chdir(folder)
    with live_server(tmp_path / "data", "--require-tokens") as server:
        with (
            jobsphere.Client(data_dir=server.data_dir, token="", project="") as client,
            pytest.raises(UnauthenticatedError),
        ):
            client.run()
        with jobsphere.Client(data_dir=server.data_dir, token="forged-1234", project="") as client:
            with pytest.raises(UnauthenticatedError):
                client.run()
            assert "forged-1234" not in repr(vars(client)) + repr(client)
        for name, value in server.client(offline=False).exports.items():
            monkeypatch.setenv(name, value)
        with jobsphere.Client() as client:
            assert client.run().wait().ok
        assert command(server, "run", cwd=folder).stdout == "hello\n"


def test_elsewhere_the_project_must_be_clear(server: LiveServer) -> None:
    command(server, "project", "create", "second", cwd=server.data_dir)
    endpoint, ca_file = f"127.0.0.1:{server.ports['grpc']}", server.data_dir / "tls" / "ca.pem"
    with (
        jobsphere.Client(endpoint, ca_file=ca_file, token="") as client,
        pytest.raises(FailedPreconditionError, match=r"say which project.*\(second\)"),
    ):
        client.project()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="JOBSPHERE_ENDPOINT"):
        jobsphere.Client(data_dir=tmp_path)


def test_the_commands(server: LiveServer, folder: Path) -> None:
    done = command(server, "run", "--to", "got", cwd=folder)
    assert done.stdout == "N is 2\n"
    assert "aside\n" in done.stderr
    assert "The program ended with code 0" in done.stderr
    assert (folder / "got" / "out.txt").read_text() == "hello\n"

    listed = json.loads(command(server, "jobs", "--limit", "1", "--json", cwd=folder).stdout)
    job_id = listed[0]["id"]
    assert (listed[0]["name"], listed[0]["status"]) == ("words", "SUCCESS")
    assert job_id in command(server, "jobs", cwd=folder).stdout
    assert "SUCCESS" in command(server, "jobs", "show", job_id, cwd=folder).stdout
    assert command(server, "logs", job_id, cwd=folder).stdout == "N is 2\n"
    assert "made/" in command(server, "files", job_id, cwd=folder).stdout
    command(server, "files", job_id, "stdout.txt", "--to", "logs", cwd=folder)
    assert (folder / "logs" / "stdout.txt").read_text() == "N is 2\n"

    failed = command(server, "fork", job_id, "--arg", "N=9", "--env", "CODE=5", cwd=folder, code=5)
    assert failed.stdout == "N is 9\n"
    assert "returned code 5" in failed.stderr
    detached = command(server, "fork", job_id, "--detach", cwd=folder).stdout.strip()
    assert command(server, "logs", "-f", detached, cwd=folder).stdout == "N is 2\n"
    command(server, "jobs", "delete", detached, cwd=folder)
    gone = command(server, "logs", detached, cwd=folder, code=1)
    assert gone.stderr.strip() == f"jobsphere: there is no job {detached!r}"


@pytest.mark.parametrize("graceful", [False, True])
def test_ctrl_c_cancels_and_again_kills(server: LiveServer, tmp_path: Path, graceful: bool) -> None:
    mark = f"44345.0{int(graceful)}"
    more = "graceful-shutdown: {signal: SIGTERM, timeout: 1h}\n" if graceful else ""
    script = f"trap 'echo asked' TERM; echo up; sleep {mark} & wait; wait"
    folder = write_script(tmp_path / "job", script, more)
    with (folder / "words.txt").open("w") as out:
        process = subprocess.Popen(
            [BIN / "jobsphere", "run"], cwd=folder, env=environ(server), stdout=out, stderr=subprocess.STDOUT
        )

    def says(word: str) -> None:
        wait_for(lambda: word in (folder / "words.txt").read_text(), f"it says {word}")

    says("up\n")
    process.send_signal(signal.SIGINT)
    if graceful:
        says("again to kill it")
        says("asked")
        process.send_signal(signal.SIGINT)

    assert process.wait(HANG_S) == 1
    says("CANCELLED")
    assert not sleepers(mark)
