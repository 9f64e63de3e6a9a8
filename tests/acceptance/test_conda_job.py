"""A job with a conda_yaml through a whole server, by the published API."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.grpc_client import Api
from tests.integration.channels import Channel
from tests.live import live_server


def environment(yaml: str) -> pb.Environment:
    return pb.Environment(python_env=pb.PythonEnv(conda_yaml=yaml))


def test_a_job_runs_in_its_conda_environment(tmp_path: Path) -> None:
    channel = Channel(tmp_path / "conda-forge")
    channel.add("alpha", files={"bin/alpha": b"#!/bin/sh\necho alpha in $CONDA_PREFIX\n"})
    channel.publish()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobsphere.toml").write_text(f'conda_channel_alias = "file://{tmp_path}"\n')
    with live_server(tmp_path / "data") as server:
        api, project = Api.of(server), server.client().project
        job = api.create(project, "alpha", env=environment("dependencies: [alpha]"))
        api.execute(job)
        api.wait(job)
        assert api.get(job).status == pb.SUCCESS
        (prefix,) = [p for p in (tmp_path / "data" / "environments").iterdir() if p.is_dir()]
        assert api.stdout(job).decode() == f"alpha in {prefix}\n"
        job = api.create(project, "alpha", env=environment("dependencies: [absent]"))
        api.execute(job)
        api.wait(job)
        assert api.get(job).status == pb.ERROR
        assert "No candidates were found for absent" in api.get(job).status_details
        with pytest.raises(grpc.RpcError) as caught:
            api.create(project, "alpha", env=environment("dependencies: [a"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
        assert "conda_yaml: line 1, column" in caught.value.details()  # type: ignore[attr-defined]
        api.close()
