"""``/metrics`` of a real server that has run real jobs."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobsphere.client import Client
from tests.acceptance.jobfiles import write_script
from tests.live import HANG_S, LiveServer, live_server


def metrics(server: LiveServer, token: str = "") -> dict[str, float]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{server.ports['http']}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=HANG_S) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name + "".join(f",{v}" for _, v in sorted(sample.labels.items()))] = sample.value
    return found


def test_jobs_calls_and_files_are_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(write_script(tmp_path / "job", "echo hello > out.txt; exit ${CODE:-0}", "outputs: [out.txt]\n"))
    (tmp_path / "job" / "fails.yaml").write_text("cmd: exit 3\n")
    with live_server(tmp_path / "data") as server:
        before = metrics(server)
        with Client(data_dir=server.data_dir, token="", project="") as client:
            job = client.run()
            job.wait()
            job.download(tmp_path / "got")
            client.run("fails.yaml").wait()

        after = metrics(server)

    assert before["jobsphere_jobs_created_total"] == 0
    assert after["jobsphere_jobs_created_total"] == 2
    assert after["jobsphere_jobs_ended_total,SUCCESS"] == 1
    assert after["jobsphere_jobs_failed_total,program"] == 1
    assert after["jobsphere_job_status_seconds_count,EXECUTING"] == 2
    assert after["jobsphere_files_total,up"] == 1
    assert after["jobsphere_file_bytes_total,down"] == len("hello\n")
    assert after["jobsphere_calls_total,OK,/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Create"] == 2
    assert after["jobsphere_store_writes_total"] >= 8
    assert sum(value for name, value in after.items() if name.startswith("jobsphere_node_cpus,")) > 0
    assert after["jobsphere_jobs_running"] == 0


def test_where_tokens_are_asked_for_the_operators_is_needed(tmp_path: Path) -> None:
    with live_server(tmp_path / "data", "--require-tokens") as server:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            metrics(server)
        assert metrics(server, server.client().exports["YC_IAM_TOKEN"])["jobsphere_jobs_created_total"] == 0
