"""Bytes go by a time to live, DeleteData, DeleteAllData, Delete or unused, beside jobs that need the same ones.

Two projects have jobs that run, one that waits to be executed, and jobs that have ended; all of them share an input and
an environment, and those of a project a dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.datasphere.v2.project_pb2 import Project
from yandex.cloud.datasphere.v2.project_service_pb2 import CreateProjectRequest, GetProjectRequest
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub

from tests.acceptance.jobfiles import log_text, run_dir
from tests.commands import jobsphere
from tests.crash.place import Place
from tests.grpc_client import Api
from tests.integration.bench import Index, serving
from tests.live import live_server, wait_for

SHARED = os.urandom(100_000)
OUT = [pb.FileDesc(path="out.txt"), pb.FileDesc(path="own.txt")]
READS = """import hashlib, importlib, os, sys, time
print('up', flush=True)
while not os.path.exists('go') and 'wait' in sys.argv:
    time.sleep(0.02)
import alpha
shared = hashlib.sha256(open('shared.bin', 'rb').read()).hexdigest()
data = open(sys.argv[1] + '/f.txt').read() if os.path.isdir(sys.argv[1]) else 'none'
open('out.txt', 'w').write(f'{shared} {alpha.version} {data}')
open('own.txt', 'w').write('own of ' + os.environ['NAME'])
"""


@dataclass
class Jobs:
    """Jobs on a server that looks for what has expired all the time."""

    place: Place
    api: Api
    index: Index

    def create(self, project: str, name: str, alpha: str, dataset: str = "", wait: str = "") -> str:
        files = {"main.py": READS.encode(), "shared.bin": SHARED, "own.bin": f"in of {name}".encode()}
        python = pb.PythonEnv(
            python_version=f"{sys.version_info[0]}.{sys.version_info[1]}",
            requirements=[f"alpha=={alpha}"],
            pip_options=pb.PipOptions(index_url=self.index.url()),
        )
        env = pb.Environment(vars={"NAME": name}, python_env=python)
        cmd = f"python main.py {f'${{{dataset}}}' if dataset else 'none'} {wait}"
        datasets = [dataset] if dataset else []
        return self.api.create(project, cmd, files, name=name, env=env, output_files=OUT, dataset_ids=datasets)

    def running(self, project: str, name: str, alpha: str, dataset: str = "") -> str:
        job_id = self.create(project, name, alpha, dataset, "wait")
        self.api.execute(job_id)
        wait_for(lambda: "up\n" in log_text(self.place.data_dir, job_id), "the program runs")
        return job_id

    def ended(self, project: str, name: str, alpha: str, dataset: str = "") -> str:
        job_id = self.create(project, name, alpha, dataset)
        self.api.execute(job_id)
        self.check(job_id, alpha, "data\n" if dataset else "none")
        wait_for(lambda: (self.place.data_dir / "ended" / f"{job_id}-1").exists(), "it is tidied")
        return job_id

    def check(self, job_id: str, alpha: str, data: str) -> None:
        """It has ended well, with its outputs."""
        job = self.api.wait(job_id)
        assert job.status == pb.SUCCESS, job.status_details
        found = self.api.download(job_id, job.output_files)
        assert found["out.txt"].decode() == f"{hashlib.sha256(SHARED).hexdigest()} {alpha} {data}"

    def left(self, project: str, job_id: str, name: str) -> list[str]:
        """What is on the disk of a job's own: its run directory, its own input and its own output."""
        own = [hashlib.sha256(f"{what} of {name}".encode()).hexdigest() for what in ("in", "own")]
        blobs = [path for sha in own for path in self.place.data_dir.glob(f"blobs/{project}/??/{sha}")]
        return [str(path) for path in (*blobs, *self.place.data_dir.glob(f"*/{job_id}-1"))]

    def shared(self, project: str) -> bool:
        return bool([*self.place.data_dir.glob(f"blobs/{project}/??/{hashlib.sha256(SHARED).hexdigest()}")])

    def environments(self) -> int:
        return len([*self.place.data_dir.glob("environments/*.ready")])

    def datasets(self) -> set[str]:
        return {path.name for path in self.place.data_dir.glob("datasets/*/*")}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    (tmp_path / "wheels").mkdir()
    place = Place(tmp_path, {**os.environ, "no_proxy": "127.0.0.1", "UV_PYTHON_DOWNLOADS": "never"})
    with serving(Index(tmp_path / "wheels")) as index:
        index.gate.set()
        index.add("alpha", "1.0")
        index.add("alpha", "2.0")
        try:
            place.start_watched()
            api = place.api()
            yield Jobs(place, api, index)
            api.close()
        finally:
            place.end()


def dataset(place: Place, folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "f.txt").write_text("data\n")
    return jobsphere(place.data_dir, "dataset", "create", name, str(folder)).strip()


def other_project(api: Api, beside: str) -> str:
    projects, made = ProjectServiceStub(api.channel), Project()
    community = api.call(projects.Get, GetProjectRequest(project_id=beside)).community_id
    asked = CreateProjectRequest(community_id=community, name="other")
    assert api.call(projects.Create, asked).response.Unpack(made)
    return made.id


def test_what_goes_takes_nothing_along_that_others_need(jobs: Jobs, tmp_path: Path) -> None:
    place, api, a = jobs.place, jobs.api, jobs.place.project
    b = other_project(api, a)
    used, unused = dataset(place, tmp_path / "d", "used"), dataset(place, tmp_path / "d", "unused")
    expiring = jobs.ended(a, "expiring", "2.0", used)
    cleared = jobs.ended(a, "cleared", "1.0", used)
    deleted = jobs.ended(a, "deleted", "1.0", unused)
    others = jobs.ended(b, "others", "1.0")
    of_a, of_b = jobs.running(a, "of-a", "1.0", used), jobs.running(b, "of-b", "1.0")
    created = jobs.create(a, "created", "1.0", used)
    gone = ((a, expiring, "expiring"), (a, cleared, "cleared"), (a, deleted, "deleted"), (b, others, "others"))
    assert all(len(jobs.left(*one)) == 3 for one in gone)
    assert (jobs.environments(), jobs.datasets()) == (2, {used, unused})

    api.call(api.jobs.SetDataTtl, service_pb.SetProjectJobDataTtlRequest(job_id=expiring, ttl=Duration(nanos=1000)))
    api.call(api.jobs.DeleteData, service_pb.DeleteProjectJobDataRequest(job_id=cleared))
    api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=deleted))
    api.call(api.jobs.DeleteAllData, service_pb.DeleteAllProjectJobDataRequest(project_id=b))
    wait_for(lambda: not any(jobs.left(*one) for one in gone), "the bytes of those that went are gone")
    with place.evicting("environments"):
        wait_for(lambda: jobs.environments() == 1, "the environment that nobody uses goes")
    with place.evicting("datasets"):
        wait_for(lambda: jobs.datasets() == {used}, "the dataset that nobody uses goes")
    assert "jobsphere dataset expiry" in jobsphere(place.data_dir, "audit")
    assert jobs.shared(a)
    assert jobs.shared(b)
    for running in (of_a, of_b):
        assert api.get(running).status == pb.EXECUTING
    for kept in ((a, created, "created"), (a, of_a, "of-a"), (b, of_b, "of-b")):
        assert jobs.left(*kept)
    for going in (expiring, cleared, others):
        assert (api.get(going).status, api.get(going).data_cleared) == (pb.SUCCESS, True)
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        api.jobs.Get(service_pb.GetProjectJobRequest(job_id=deleted))

    for running in (of_a, of_b):
        (run_dir(place.data_dir, running) / "work" / "go").touch()
    jobs.check(of_a, "1.0", "data\n")
    jobs.check(of_b, "1.0", "none")
    api.execute(created)
    jobs.check(created, "1.0", "data\n")

    # The last that refer to it take along what all have shared.
    for project in (a, b):
        api.call(api.jobs.DeleteAllData, service_pb.DeleteAllProjectJobDataRequest(project_id=project))
        wait_for(lambda p=project: not [*place.data_dir.glob(f"blobs/{p}/??/*")], "no blob is left")
    place.check_settled(f"{created}-1")
    assert os.listdir(place.data_dir / "ended") == []


LATER = """import sys
from datetime import timedelta
from jobsphere.system import SystemClock
real = SystemClock.now
SystemClock.now = lambda self: real(self) + timedelta(days=10)
from jobsphere.cli.main import app
app(sys.argv[1:])
"""
"""The command ``jobsphere`` ten days from now."""


@contextmanager
def server_in_ten_days(data: Path, days: str = "") -> Generator[None]:
    ports = [word for name in ("grpc", "proxy", "http") for word in (f"--{name}-port", "0")]
    command = [sys.executable, "-c", LATER, "up", "--data-dir", str(data), *ports]
    environ = {**os.environ, **({"JOBSPHERE_DATASET_DAYS": days} if days else {})}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert "ready" in process.stdout.readline()
            yield
        finally:
            process.terminate()


def test_a_dataset_goes_when_it_was_unused_for_as_long_as_is_set_and_by_default_never(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        folder = tmp_path / "d"
        folder.mkdir()
        (folder / "f.txt").write_text("data\n")
        unused, used = [jobsphere(server.data_dir, "dataset", "create", n, str(folder)).strip() for n in ("a", "b")]
        api, project = Api.of(server), server.client().project
        job_id = api.create(project, f"cat ${{{used}}}/f.txt", dataset_ids=[used])
        api.execute(job_id)
        assert api.wait(job_id).status == pb.SUCCESS
        waiting = api.create(project, f"cat ${{{used}}}/f.txt", dataset_ids=[used])
        ttl = Duration(seconds=90 * 86400)
        api.call(api.jobs.SetDataTtl, service_pb.SetProjectJobDataTtlRequest(job_id=waiting, ttl=ttl))
        api.close()
        server.stop()

        def listed() -> set[str]:
            return {str(found["id"]) for found in json.loads(jobsphere(server.data_dir, "dataset", "list", "--json"))}

        data = server.data_dir
        looked_at = data / "datasets" / project / used
        for days in ("", "11"):
            os.utime(looked_at, (0, 0))
            with server_in_ten_days(data, days):
                if days:  # the datasets are looked at in the order in which they were made
                    wait_for(lambda: looked_at.stat().st_mtime > 0, "that a job refers to it is noted")
            assert listed() == {used, unused}
        with server_in_ten_days(data, "9"):
            wait_for(lambda: listed() == {used}, "the one that no job refers to goes")
        assert {path.name for path in data.glob("datasets/*/*")} == {used}
        (row,) = [
            r for r in json.loads(jobsphere(data, "audit", "--json")) if r["action"] == "jobsphere dataset expiry"
        ]
        assert (row["subject_name"], row["project_id"]) == ("server", project)
        assert f"dataset_id={unused}" in row["target"]
        server.start()
        api = Api.of(server)
        api.execute(waiting)
        assert api.wait(waiting).status == pb.SUCCESS
        assert api.stdout(waiting) == b"data\n"
        api.close()
