"""The project's disk through a whole server: filled by the operator, read by jobs, with and without a fence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobsphere.domain.limits import human_size
from jobsphere.runner.sandbox import why_not
from tests.acceptance.jobfiles import execute, write_job
from tests.commands import jobsphere
from tests.live import live_server

CONFIG = "cmd: bash job.sh ${DS_PROJECT_HOME}\ninputs:\n- job.sh\nflags:\n- attach-project-disk\n"
SCRIPT = 'test "$1" = "$DS_PROJECT_HOME" && cat "$1/models/m.txt" && touch "$1/models/new" 2>/dev/null || echo kept\n'


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_jobs_read_what_was_put(tmp_path: Path, sandbox: str) -> None:
    if sandbox == "bubblewrap" and why_not() and "CI" not in os.environ:
        pytest.skip(why_not())
    (tmp_path / "m.txt").write_text("of-the-model\n")
    with live_server(tmp_path / "data", "--sandbox", sandbox) as server:
        data, client = server.data_dir, server.client()
        put = jobsphere(data, "project", "disk", "put", str(tmp_path / "m.txt"), "models/")
        assert put == "1 file (13 B) on the disk now\n"
        words = execute(client, write_job(tmp_path / "job", CONFIG, job__sh=SCRIPT))
        assert "of-the-model" in words
        assert ("kept" in words) is (sandbox == "bubblewrap")
        listed = json.loads(jobsphere(data, "project", "disk", "ls", "--json"))
        assert [(e["path"], e["size_bytes"], e["is_folder"]) for e in listed] == [("models", 13, True)]
        assert "models/m.txt" in jobsphere(data, "project", "disk", "ls", "models")
        jobsphere(data, "project", "disk", "get", "models/m.txt", str(tmp_path / "back.txt"))
        assert (tmp_path / "back.txt").read_text() == "of-the-model\n"
        quota = ["--quota", "bytes=5KiB"]
        jobsphere(data, "project", "update", client.project, *quota)
        (tmp_path / "big").write_bytes(b"x" * 5120)
        refused = jobsphere(data, "project", "disk", "put", str(tmp_path / "big"), code=1)
        assert "may be. Next: " in " ".join(refused.split())
        refused = jobsphere(data, "dataset", "create", "big", str(tmp_path / "big"), code=1)
        assert "may be. Next: " in " ".join(refused.split())
        assert json.loads(jobsphere(data, "dataset", "list", "--json")) == []
        usage = {row["what"]: row for row in json.loads(jobsphere(data, "project", "usage", "--json"))}
        assert usage["bytes on the disk"]["used"] == 13
        assert usage["bytes"]["used"] == 13 + usage["bytes in files of jobs"]["used"]
        assert (usage["bytes"]["quota"], usage["jobs"]["used"]) == (5120, 1)
        assert usage["bytes in files of jobs"]["used"] > 0
        assert human_size(5120) in jobsphere(data, "project", "usage", client.project)
        assert "--recursive" in jobsphere(data, "project", "disk", "rm", "models", code=1)
        jobsphere(data, "project", "disk", "rm", "models", "--recursive")
        assert json.loads(jobsphere(data, "project", "disk", "ls", "--json")) == []
        rows = json.loads(jobsphere(data, "audit", "--action", "jobsphere project disk*", "--json"))
        assert [(row["action"].split()[-1], row["result"]) for row in rows] == [
            ("rm", "OK"),
            ("rm", "FAILED_PRECONDITION"),
            ("put", "RESOURCE_EXHAUSTED"),
            ("put", "OK"),
        ]
        assert "no project 'nope'" in jobsphere(data, "project", "disk", "ls", "--project", "nope", code=1)
