"""Server and supervisors are killed at each durable step of jobs of every kind: every job ends, and as it may.

The default run takes a fixed sample of the points; ``make soak`` takes all of them.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.crash.killing import Case, cases
from tests.crash.kinds import Kind, kinds
from tests.crash.place import Place
from tests.grpc_client import Api
from tests.integration.bench import Index, serving
from tests.integration.containers import Podman, missing, podman_in
from tests.reliability import Sweep

SAMPLE = 3
SEED = 20261124
SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
ONLY = os.environ.get("JOBSPHERE_CRASH_CASE", "")
"""One case by its words, to look at again."""
QUIET = {"no_proxy": "127.0.0.1", "UV_PYTHON_DOWNLOADS": "never"}
NAMES = ("plain", "uv environment", "image", "graceful cancel", "fork", "output dataset", "TTL sweep", "delete")


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman | None]:
    if missing() and "CI" not in os.environ:
        yield None
        return
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        yield opened


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, podman: Podman | None) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("crash")
    place = Place(folder, {**os.environ, **QUIET})
    if podman is not None:
        place.data_dir.mkdir()
        (place.data_dir / "jobsphere.toml").write_text(
            f"container_engine = 'podman'\ncontainer_engine_args = {json.dumps(podman.args)}\n"
            f"container_run_args = {json.dumps(podman.engine.run_args)}\n"
        )
    try:
        place.start_watched()
        yield place
    finally:
        place.end()


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory, podman: Podman | None) -> Iterator[dict[str, Kind]]:
    with serving(Index(tmp_path_factory.mktemp("wheels"))) as index:
        index.gate.set()
        yield {kind.name: kind for kind in kinds(index, podman and podman.containers)}


_tokens = (f"t{n}" for n in itertools.count())


def run_case(place: Place, api: Api, kind: Kind, case: Case | None) -> tuple[str, list[Case]]:
    """Run one job with a kill at a step: how it ended, and all that could have been killed."""
    project, token = place.project, next(_tokens)
    prepared = kind.prepare(place, api, project, token)
    with place.armed(case):
        job_id, seen = kind.drive(place, api, project, token, prepared)
        how = kind.check(place, api, job_id, seen, token, case.role if case else "")
        place.check_settled(f"{job_id}-1")
        trace = place.trace()
    return how, cases(trace)


def sample(found: list[Case], kind: str) -> list[Case]:
    if ONLY:
        return [case for case in found if str(case) == ONLY]
    return found if SOAK else sorted(random.Random(f"{SEED} {kind}").sample(found, min(SAMPLE, len(found))))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_durable_step_loses_nothing(
    name: str, place: Place, every: dict[str, Kind], swept: Callable[[Sweep], None]
) -> None:
    if name not in every:
        pytest.skip("no container engine is installed")
    kind, api = every[name], place.api()
    how, found = run_case(place, api, kind, None)
    assert how == "as undisturbed"
    ends: Counter[str] = Counter()
    tried, failures = sample(found, name), list[str]()
    for case in tried:
        try:
            ends[run_case(place, api, kind, case)[0]] += 1
        except Exception as error:  # noqa: BLE001  the others are tried all the same
            failures.append(f"killed {case}: {type(error).__name__}: {error}\n{place.news()}")
            place.forgive()
    swept(Sweep(name, len(found), len(tried), ends["as undisturbed"], ends["lost, and told so"]))
    place.restart()
    api.close()
    assert not failures, "\n".join(failures)
    assert place.check_blobs()
