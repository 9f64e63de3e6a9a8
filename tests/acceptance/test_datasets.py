"""Datasets through a whole server and the vendor's CLI: made from files, read by a job, made by a job, read at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from yandex.cloud.datasphere.v2 import dataset_service_pb2 as dataset_pb
from yandex.cloud.datasphere.v2.dataset_service_pb2_grpc import DatasetServiceStub
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.acceptance.jobfiles import execute, write_job
from tests.commands import jobsphere
from tests.grpc_client import Api
from tests.live import live_server

READS = """cmd: cat ${DATA}/f.txt > ${OUT}/both.txt; touch ${DATA}/new 2>/dev/null || echo kept
datasets:
- %s:
    var: DATA
output-datasets:
- name: both
  var: OUT
  size: 1Gb
  description: what a job made
  labels: {made: by-job}
"""


def test_from_files_to_a_job_to_the_next_job(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f.txt").write_text("of the dataset\n")
    with live_server(tmp_path / "data") as server:
        data, client, api = server.data_dir, server.client(), Api.of(server)
        dataset_id = jobsphere(data, "dataset", "create", "first", str(tmp_path / "in"), "--label", "a=b").strip()
        config = READS % dataset_id
        words = execute(client, write_job(tmp_path / "job", config))

        assert "kept" in words
        made = re.search(r"\* (\w{20}) \(both\) size: 1 Gb", words)
        assert made, words
        listed = {d["id"]: d for d in json.loads(jobsphere(data, "dataset", "list", "--json"))}
        assert list(listed) == [dataset_id, made[1]]
        assert (listed[dataset_id]["labels"], listed[dataset_id]["size_bytes"]) == ({"a": "b"}, 15)
        new = listed[made[1]]
        assert (new["name"], new["files"], new["description"]) == ("both", 1, "what a job made")
        job = api.get(str(new["job_id"]))
        assert [(d.id, d.desc.labels["made"]) for d in job.output_datasets] == [(made[1], "by-job")]
        stub = DatasetServiceStub(api.channel)
        activate = dataset_pb.ActivateDatasetRequest(dataset_id=dataset_id, project_id=client.project)
        activated = api.call(stub.Activate, activate)
        assert activated.done
        assert activated.response.Is(Empty.DESCRIPTOR)
        assert api.operation(activated.id) == activated
        shown = json.loads(jobsphere(data, "dataset", "show", "both"))
        assert (Path(shown["folder"]) / "both.txt").read_text() == "of the dataset\n"

        next_id = api.create(client.project, f"cat ${{{made[1]}}}/both.txt; sleep 600", dataset_ids=[made[1]])
        api.execute(next_id)
        api.wait(next_id, pb.EXECUTING)
        words = jobsphere(data, "dataset", "delete", "both", code=1)
        assert f"dataset 'both' is in use by: job ({next_id})" in words
        api.cancel(next_id)
        api.wait(next_id)
        assert api.stdout(next_id) == b"of the dataset\n"
        jobsphere(data, "dataset", "delete", "both")
        words = execute(client, write_job(tmp_path / "gone", READS % made[1]), code=1)
        assert f"the project has no dataset '{made[1]}'" in words
        api.close()
