"""Calls that several API tests make, and how they fail."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from api_fakes import JOB, TOKEN
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

HANG_S = 60
AUTH = (("authorization", f"Bearer {TOKEN}"),)


def get(jobs: Any, **options: Any) -> Any:
    return jobs.Get(pb.GetProjectJobRequest(job_id=JOB.id), metadata=AUTH, **options)


def execute(jobs: Any) -> Any:
    return jobs.Execute(pb.ExecuteProjectJobRequest(job_id=JOB.id), metadata=AUTH)


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
