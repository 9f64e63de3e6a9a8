"""Every command of the vendor's unchanged CLI against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import (
    execute,
    get,
    job_id_in,
    log_text,
    run_dir,
    sleepers,
    start_async,
    wait_status,
    write_job,
)
from tests.live import Client, LiveServer, wait_for

Example = Callable[[str], Path]


def test_execute_brings_log_and_outputs(client: Client, example: Example) -> None:
    folder = example("bash")

    words = execute(client, folder)

    assert "sorting data/names.txt" in words
    assert "wrote 2 lines to result/sorted.txt" in words
    assert "job completed successfully" in words
    assert (folder / "result/sorted.txt").read_text() == "adam\nmira\n"


def test_a_repeated_job_uploads_nothing(client: Client, example: Example) -> None:
    folder = example("bash")
    (folder / "data/names.txt").write_text("some new names\n")

    assert "uploading" in execute(client, folder)
    assert "no files to upload" in execute(client, folder)


def test_python_manual(client: Client, example: Example) -> None:
    folder = example("python-manual")

    words = execute(client, folder)

    assert "counted with packaging" in words
    assert json.loads((folder / "result.json").read_text()) == {"be": 2, "not": 1, "or": 1, "to": 2}


def test_python_auto(server: LiveServer, example: Example) -> None:
    folder = example("python-auto")

    words = execute(server.client(offline=False), folder)

    assert "squares written" in words
    assert (folder / "square.txt").read_text() == "0 1 4 9 16\n"


def test_folders(client: Client, example: Example) -> None:
    folder = example("folders")

    execute(client, folder)

    assert (folder / "upper/a.txt").read_text() == "ONE\n"
    assert (folder / "upper/more/b.txt").read_text() == "TWO\n"


def test_absolute_paths_with_variables(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "outside" / "in.txt"
    source.parent.mkdir()
    source.write_text("from outside\n")
    result = tmp_path / "outside" / "out.txt"
    config = f"cmd: cp ${{IN}} ${{OUT}}\ninputs:\n- {source}: IN\noutputs:\n- {result}: OUT\n"

    execute(client, write_job(tmp_path / "job", config))

    assert result.read_text() == "from outside\n"


def test_a_failing_program_tells_its_code_after_its_outputs(client: Client, tmp_path: Path) -> None:
    config = "cmd: bash fail.sh\ninputs:\n- fail.sh\noutputs:\n- partial.txt\n- never.txt\n"
    folder = write_job(tmp_path / "job", config, fail__sh="echo half > partial.txt\necho no luck >&2\nexit 7\n")

    words = execute(client, folder, code=1)

    assert "Program returned code 7" in words
    assert "never.txt" in words
    assert (folder / "partial.txt").read_text() == "half\n"


def test_the_last_lines_of_a_job_that_ends_at_once_are_shown(client: Client, tmp_path: Path) -> None:
    """The client stops reading when its operation is done: the server tells that only to those who have read all."""
    config = "cmd: bash late.sh\ninputs:\n- late.sh\n"
    # Long enough to end between two polls of the client (every 5 s), so that the end comes right before a poll.
    script = "sleep 4.6\nfor i in $(seq 2000); do echo line $i; done\necho the very last line\n"

    words = execute(client, write_job(tmp_path / "job", config, late__sh=script))

    assert "line 2000" in words
    assert "the very last line" in words


def test_the_end_of_a_flood_is_shown(client: Client, tmp_path: Path) -> None:
    """The connection's window holds more than the client prints in seconds."""
    config = "cmd: bash flood.sh\ninputs:\n- flood.sh\n"

    words = execute(client, write_job(tmp_path / "job", config, flood__sh="seq 300000\necho the very last line\n"))

    assert "- 299999\n" in words
    assert "the very last line" in words


def test_an_unsatisfiable_requirement_ends_in_the_resolvers_words(client: Client, tmp_path: Path) -> None:
    config = """
cmd: python main.py
inputs:
- main.py
env:
  python:
    type: manual
    version: "3.11"
    requirements-file: requirements.txt
    local-paths: [lib]
"""
    folder = write_job(tmp_path / "job", config, main__py="", requirements__txt="packaging==0.0.0.1\n")
    (folder / "lib").mkdir()
    (folder / "lib" / "__init__.py").write_text("")

    words = execute(client, folder, code=1)

    assert "Operation returned error" in words
    assert "FAILED_PRECONDITION" in words
    assert "packaging" in words.partition("Operation returned error")[2]


def test_async_then_attach(server: LiveServer, client: Client, tmp_path: Path) -> None:
    config = "cmd: bash slow.sh\ninputs:\n- slow.sh\noutputs:\n- out.txt\n"
    script = "touch started\nuntil [ -e go ]; do sleep 0.1; done\necho after attach\necho done > out.txt\n"
    folder = write_job(tmp_path / "job", config, slow__sh=script)
    started = start_async(client, folder)
    assert set(started) == {"job_id", "operation_id"}
    wait_status(client, started["job_id"], folder, "EXECUTING")

    work = run_dir(server.node_dir, started["job_id"]) / "work"
    attached = client.start("project", "job", "attach", "--id", started["job_id"], cwd=folder)
    wait_for(lambda: (work / "started").exists(), "the program has started")
    (work / "go").touch()
    words, _ = attached.communicate(timeout=120)

    assert attached.returncode == 0, words
    assert (folder / "out.txt").read_text() == "done\n"


def test_fork_changes_arguments_variables_and_name(client: Client, example: Example, tmp_path: Path) -> None:
    folder = example("bash")
    source = job_id_in(execute(client, folder))
    (folder / "other.txt").write_text("b\na\n")

    words = client.run(
        "project", "job", "fork", "--id", source, "--name", "forked", "--arg", "LIMIT=1", "--var", "NAMES=other.txt",
        "--env-var", "GREETING=forking", "--cloud-instance-type", "c1.8", cwd=folder,
    )  # fmt: skip

    assert "forking other.txt" in words
    assert (folder / "result/sorted.txt").read_text() == "a\n"
    assert get(client, job_id_in(words), tmp_path)["name"] == "forked"


def test_list_and_get(client: Client, example: Example, tmp_path: Path) -> None:
    job_id = job_id_in(execute(client, example("bash")))

    table = client.run("project", "job", "list", "-p", client.project, cwd=tmp_path)
    job = get(client, job_id, tmp_path)

    assert job_id in table
    assert job["status"] == "SUCCESS"
    assert job["name"] == "bash"
    assert job["finished_at"]
    assert job["data_expired_at"] != "Never"


def test_set_data_ttl(client: Client, example: Example, tmp_path: Path) -> None:
    job_id = job_id_in(execute(client, example("bash")))

    client.run("project", "job", "set-data-ttl", "--id", job_id, "--days", "infinity", cwd=tmp_path)
    assert get(client, job_id, tmp_path)["data_expired_at"] == "Never"
    client.run("project", "job", "set-data-ttl", "--id", job_id, "--days", "3", cwd=tmp_path)
    assert get(client, job_id, tmp_path)["data_expired_at"] != "Never"


def test_download_files_with_logs_and_diagnostics(client: Client, example: Example, tmp_path: Path) -> None:
    job_id = job_id_in(execute(client, example("bash")))
    target = tmp_path / "downloaded"

    client.run(
        "project", "job", "download-files", "--id", job_id, "--with-logs", "--with-diagnostics",
        "--output-dir", str(target), cwd=tmp_path,
    )  # fmt: skip

    names = {p.name for p in target.iterdir()}
    assert {"sorted.txt", "stdout.txt", "stderr.txt", "system.log", "docker_stats.tsv"} <= names
    assert "sorting data/names.txt" in (target / "stdout.txt").read_text()


def test_cancel_leaves_no_process(client: Client, tmp_path: Path) -> None:
    config = "cmd: bash long.sh\ninputs:\n- long.sh\n"
    script = "setsid sleep 12345.678 &\necho running\nsleep 12345.678\n"
    folder = write_job(tmp_path / "job", config, long__sh=script)
    job_id = start_async(client, folder)["job_id"]
    wait_for(lambda: len(sleepers("12345.678")) == 2, "both programs run")

    client.run("project", "job", "cancel", "--id", job_id, cwd=folder)

    wait_status(client, job_id, folder, "CANCELLED")
    assert not sleepers("12345.678")


def test_graceful_cancel_saves_outputs(server: LiveServer, client: Client, example: Example) -> None:
    folder = example("graceful-shutdown")
    job_id = start_async(client, folder)["job_id"]
    wait_status(client, job_id, folder, "EXECUTING")
    wait_for(lambda: "training" in log_text(server.node_dir, job_id), "the program has set its trap")

    client.run("project", "job", "cancel", "--id", job_id, "--graceful", cwd=folder)
    wait_status(client, job_id, folder, "CANCELLED")
    client.run("project", "job", "download-files", "--id", job_id, cwd=folder)

    assert "saved at step" in (folder / "checkpoint.txt").read_text()


def test_project_get_and_list(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "project.json"
    client.run("project", "get", "--id", client.project, "--format", "json", "-o", str(out), cwd=tmp_path)
    project = json.loads(out.read_text())

    listed = client.run("project", "list", "-c", project["community_id"], cwd=tmp_path)

    assert project["id"] == client.project
    assert client.project in listed


@pytest.mark.parametrize("command", ["get", "attach", "cancel", "fork"])
def test_an_unknown_job_is_not_found(client: Client, tmp_path: Path, command: str) -> None:
    words = client.run("project", "job", command, "--id", "a" * 20, cwd=tmp_path, code=1)

    assert "NOT_FOUND" in words
    assert "x-request-id" in words
