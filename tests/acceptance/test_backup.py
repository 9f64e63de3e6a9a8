"""A backup made beside a server with jobs and uploads under way; what is restored reads the same."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.wiring import desk, resources
from tests.grpc_client import TERMINAL, Api
from tests.live import BIN, HANG_S, LiveServer, live_server, wait_for

HOST_CHECKS = {"Sandbox and limits", "Containers", "Disk space", "Open files", "Clock"}
PASSPHRASE = "correct horse battery"


def command(*words: str | Path, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([BIN / "jobsphere", *words], input=stdin, capture_output=True, text=True, timeout=HANG_S,
                          check=False)  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def reads(api: Api, job: pb.Job) -> dict[str, Any]:
    """All that the API says of a job: itself, its log, its files."""
    files = [*job.output_files, *job.log_files, *job.job_parameters.input_files]
    return {
        "job": api.get(job.id).SerializeToString(),
        "log": [message.SerializeToString() for message in api.logs(job.id)],
        "files": api.download(job.id, files),
    }


def listed(api: Api, project: str) -> dict[str, int]:
    request = service_pb.ListProjectJobRequest(project_id=project, page_size=1000)
    return {job.id: job.status for job in api.call(api.jobs.List, request).jobs}


class Traffic(threading.Thread):
    """Jobs with uploads, one after the other, until it is told to stop."""

    def __init__(self, server: LiveServer, project: str) -> None:
        super().__init__(daemon=True)
        self.server, self.project, self.done = server, project, threading.Event()
        self.made: list[str] = []

    def run(self) -> None:
        api = Api.of(self.server)
        number = 0
        while not self.done.is_set():
            number += 1
            content = {f"in{number}.txt": os.urandom(200_000)}
            job_id = api.create(self.project, f"cat in{number}.txt > out.txt; echo done",
                                content, output_files=[pb.FileDesc(path="out.txt")])  # fmt: skip
            api.execute(job_id)
            self.made.append(job_id)
            if number % 3 == 0:
                api.wait(job_id)
                api.call(api.jobs.DeleteData, service_pb.DeleteProjectJobDataRequest(job_id=job_id))
        api.close()


def test_what_had_ended_reads_the_same_after_a_restore(tmp_path: Path) -> None:
    secret = "a secret that no backup shows"
    with live_server(tmp_path / "data") as server:
        api = Api.of(server)
        project = asyncio.run(desk.default_project_id(server.data_dir))
        asyncio.run(
            resources.change(
                server.data_dir,
                "jobsphere secret set",
                project,
                "TOKEN",
                lambda op, who, p: op.secrets.set(who, p, "TOKEN", secret),
            )
        )
        (tmp_path / "table.csv").write_text("a,b\n")
        table = [tmp_path / "table.csv"]
        asyncio.run(
            resources.change(
                server.data_dir,
                "jobsphere dataset create",
                project,
                "table",
                lambda op, who, p: op.datasets.create(who, p, "table", table, "", ()),
            )
        )
        ProjectDisk(server.data_dir, project).put(tmp_path / "table.csv", "deep/")
        waiting = api.create(project, "cat late.txt", {"late.txt": b"late"}, upload=False)
        running = api.create(project, "echo under way; sleep 1000")
        api.execute(running)
        wait_for(lambda: api.get(running).status == pb.EXECUTING, "the long job runs")
        traffic = Traffic(server, project)
        traffic.start()
        wait_for(lambda: len(traffic.made) > 2, "there is traffic")

        passphrase = tmp_path / "passphrase"
        passphrase.write_text(PASSPHRASE)
        backup = tmp_path / "backup"
        told = command("backup", backup, "--passphrase-file", passphrase, "--data-dir", server.data_dir).stdout
        assert "Backed up" in told

        looked = subprocess.run([BIN / "jobsphere", "doctor", "--json", "--data-dir", server.data_dir],
                                capture_output=True, text=True, timeout=HANG_S, check=False)  # fmt: skip
        of_directory = [check for check in json.loads(looked.stdout) if check["looked_at"] not in HOST_CHECKS]
        assert [finding for check in of_directory for finding in check["findings"]] == []

        traffic.done.set()
        traffic.join()
        assert any(api.get(job).status == pb.SUCCESS for job in traffic.made)
        restored = tmp_path / "restored"
        ended = json.loads(
            command("restore", backup, "--passphrase-file", passphrase, "--data-dir", restored, "--json").stdout
        )["ended_jobs"]
        assert running in ended

        with live_server(restored) as second:
            new = Api.of(second)
            now = listed(new, project)
            same = [id_ for id_ in now if id_ not in ended and now[id_] in TERMINAL]
            kept = [id_ for id_ in same if not api.get(id_).data_cleared]
            assert len(kept) > 2
            for id_ in kept:
                assert reads(new, new.get(id_)) == reads(api, api.get(id_))
            assert now[running] == pb.ERROR
            assert "restored from a backup" in new.get(running).status_details
            assert new.stdout(running) == b"under way\n"
            assert now[waiting] == pb.CREATING
            _, dataset = asyncio.run(resources.show_dataset(restored, project, "table"))
            assert (dataset / "table.csv").read_text() == "a,b\n"
            assert [entry.path for entry in ProjectDisk(restored, project).list("deep")] == ["deep/table.csv"]
            again = new.create(project, "printenv TOKEN", env=pb.Environment(vars={}))
            new.execute(again)
            assert new.wait(again).status == pb.SUCCESS
            assert new.stdout(again).decode().strip() == secret
            new.close()
        assert not [path for path in backup.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        api.cancel(running)
        api.wait(running)
        api.close()
