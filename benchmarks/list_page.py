"""A page of 100 jobs by status: the same time in a small project and a large one, at the first page and deep down."""

from __future__ import annotations

import time

from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from benchmarks.figures import Figure, percentile
from benchmarks.stored_jobs import FEW, MANY, stored

PAGE = 100
PAGES, ROUNDS = 50, 4
COMMON, RARE = "status IN (SUCCESS)", "status IN (ERROR)"


def run() -> list[Figure]:
    """Pages of a status that nearly all have, and of one that few have."""
    few, many = _times(FEW), _times(MANY)
    first, deep, rare = (many[name] for name in ("first", "deep", "rare"))
    small = percentile(few["first"], 50)
    return [
        Figure(f"page of {PAGE}, p99, {MANY:,} jobs", percentile(first, 99), "ms", target=10, at_most=True),
        Figure("the same, median", percentile(first, 50), "ms", small, f"{FEW:,} jobs", target=1.2, at_most=True),
        Figure(f"{PAGES} pages deep, p99", percentile(deep, 99), "ms", target=10, at_most=True),
        Figure("of a rare status, p99", percentile(rare, 99), "ms", target=10, at_most=True),
    ]


def _times(count: int) -> dict[str, list[float]]:
    """Milliseconds of each page by what was asked."""
    place = stored(count)
    found: dict[str, list[float]] = {"first": [], "deep": [], "rare": []}
    with live_server(place.data) as server:
        api, project = Api.of(server), place.project
        for _ in range(ROUNDS * PAGES):
            found["first"].append(_page(api, project, COMMON)[0])
            found["rare"].append(_page(api, project, RARE)[0])
        for _ in range(ROUNDS):
            token = ""
            for _ in range(min(PAGES, count // PAGE) - 1):
                took, token = _page(api, project, COMMON, token)
                found["deep"].append(took)
        api.close()
    return found


def _page(api: Api, project: str, condition: str, token: str = "") -> tuple[float, str]:
    request = pb.ListProjectJobRequest(project_id=project, page_size=PAGE, filter=condition, page_token=token)
    begin = time.perf_counter()
    answer = api.call(api.jobs.List, request)
    took = (time.perf_counter() - begin) * 1000
    assert answer.jobs
    return took, answer.next_page_token
