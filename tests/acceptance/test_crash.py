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
from pathlib import Path

import grpc
import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from jobsphere.durable import Point
from tests.crash.ended import kinds
from tests.crash.killing import FAULTS, Case, cases
from tests.crash.kinds import Kind, new_project
from tests.crash.ledger import FOLDER, Ledger, state_of
from tests.crash.place import Place
from tests.crash.reached import ELSEWHERE
from tests.grpc_client import Api
from tests.integration.bench import Index, serving
from tests.integration.containers import Podman, Registry, missing, podman_in, registry_in
from tests.live import wait_for
from tests.reliability import Sweep

TRIES, FIRST = 3, "first start"
NOT_REACHED, FAILED = "not reached", "failed"
SEED = 20261124
SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
SAMPLE = int(os.environ.get("JOBSPHERE_CRASH_SAMPLE", 10_000 if SOAK else 2))
"""As many steps of each kind are tried; in soak, all of them."""
ONLY = os.environ.get("JOBSPHERE_CRASH_CASE", "")
"""One case by its words, to look at again."""
QUIET = {"no_proxy": "127.0.0.1", "UV_PYTHON_DOWNLOADS": "never"}
NAMES = (
    *("environment in an image", "unused images", "image pulled", "unused datasets", "image", "unused environments"),
    *("uv environment", "project", "graceful cancel", "delete", "output dataset", "TTL sweep"),
    *("plain", "fork", "damaged input"),
)
"""A long one and a short one in turns: workers get them by twos."""


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman | None]:
    if missing() and "CI" not in os.environ:
        yield None
        return
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        yield opened


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, podman: Podman | None) -> Iterator[Registry | None]:
    if podman is None:
        yield None
        return
    with registry_in(tmp_path_factory.mktemp("registry") / "r") as opened:
        yield opened


@pytest.fixture(scope="session")
def place(
    tmp_path_factory: pytest.TempPathFactory, podman: Podman | None, registry: Registry | None
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("crash")
    environ = {**os.environ, **QUIET}
    if registry is not None:
        environ["CONTAINERS_REGISTRIES_CONF"] = str(registry.conf)
    place = Place(folder, environ)
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
def every(
    tmp_path_factory: pytest.TempPathFactory, podman: Podman | None, registry: Registry | None
) -> Iterator[dict[str, Kind]]:
    with serving(Index(tmp_path_factory.mktemp("wheels"))) as index:
        index.gate.set()
        yield {kind.name: kind for kind in kinds(index, podman, registry)}


_tokens = (f"t{n}" for n in itertools.count())


def run_case(place: Place, api: Api, kind: Kind, case: Case | None) -> tuple[str, list[str]]:
    """Run one job with a kill at a step, or a fault: how it ended, and its steps."""
    token = next(_tokens)
    project = new_project(api, place.project, f"of-{token}")
    prepared = kind.prepare(place, api, project, token)
    wait_for(lambda: not place.unsettled(), "what was prepared has been tidied")
    role, fault = (case.role, FAULTS.get(case.when, (0, 0))[0]) if case else ("", 0)
    with place.armed(case):
        job_id, seen = kind.drive(place, api, project, token, prepared)
        how = kind.check(place, api, job_id, seen, token, role, os.strerror(fault) if fault else "")
        place.check_settled(f"{job_id}-1")
        trace = place.trace()
    return (how if case is None or place.fired else NOT_REACHED), trace


_traces: dict[str, list[str]] = {}


def undisturbed(place: Place, api: Api, kind: Kind) -> list[str]:
    """The steps of a job of this kind."""
    if kind.name not in _traces:
        how, _traces[kind.name] = run_case(place, api, kind, None)
        assert how == "as undisturbed"
    return _traces[kind.name]


def sample(found: list[Case], kind: str, size: int = SAMPLE) -> list[Case]:
    if ONLY:
        return [case for case in found if str(case) == ONLY]
    return sorted(random.Random(f"{SEED} {kind}").sample(found, min(size, len(found))))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_durable_step_loses_nothing(
    name: str, place: Place, every: dict[str, Kind], swept: Callable[[Sweep], None]
) -> None:
    if name not in every:
        pytest.skip("no container engine is installed")
    kind, api = every[name], place.api()
    found = cases(undisturbed(place, api, kind))
    chosen = sample(found, name)
    ends, failures = try_all(place, api, kind, chosen, ledger(name))
    tried = len(chosen) - ends[NOT_REACHED]
    swept(Sweep(name, len(found), tried, ends["as undisturbed"], ends["lost, and told so"]))
    place.restart()
    api.close()
    assert not failures, "\n".join(failures)
    place.check_blobs()


def first_start(folder: Path, case: Case | None) -> tuple[str, list[str]]:
    """Start a server on nothing, run a job, stop it, with a kill at a step; and look at what the next one finds."""
    folder.mkdir()
    place = Place(folder, {**os.environ, **QUIET})
    try:
        with place.armed(case):
            place.start_watched()
            api = place.api()
            job_id = api.create(place.project, "echo hello")
            api.execute(job_id)
            api.wait(job_id)
            wait_for(lambda: not place.unsettled(), "it is tidied")
            api.close()
            place.end()
            trace = place.trace()
        fired = place.fired
        place = Place(folder, {**os.environ, **QUIET})
        place.start_watched()
        api = place.api()
        assert api.get(job_id).status == pb.SUCCESS
        assert api.stdout(job_id) == b"hello\n"
        place.check_settled(f"{job_id}-1")
        api.close()
    finally:
        place.end()
    return ("as undisturbed" if case is None or fired else NOT_REACHED), trace


def first_trace(folder: Path) -> list[str]:
    if FIRST not in _traces:
        _traces[FIRST] = first_start(folder / "undisturbed", None)[1]
    return _traces[FIRST]


@pytest.mark.timeout(3600)
def test_every_step_is_on_the_way_of_some_kind(place: Place, every: dict[str, Kind], tmp_path: Path) -> None:
    """Or it is named with the tests that kill at it."""
    api, reached = place.api(), set(first_trace(tmp_path))
    for kind in every.values():
        reached |= set(undisturbed(place, api, kind))
    api.close()
    points = {Point(line.split()[1]) for line in reached}
    expected = set(Point) - set(ELSEWHERE) - (set() if "image" in every else {Point.IMAGE_RECORD, Point.PORTABLE_MADE})
    assert (sorted(expected - points), sorted(points - expected)) == ([], [])


@pytest.mark.timeout(3600)
def test_a_kill_at_any_step_of_the_first_start_and_of_the_stop_loses_nothing(
    tmp_path: Path, swept: Callable[[Sweep], None]
) -> None:
    trace = first_trace(tmp_path)
    found = [case for case in cases(trace) if case.point.startswith(("server.", "tls.", "store.schema", "store.close"))]
    chosen, failures, known = sample(found, "first start", SAMPLE // 2), list[str](), ledger(FIRST)
    known.begin(len(chosen))
    for number, case in enumerate(chosen):
        if str(case) in known.ends:
            continue
        try:
            known.note(str(case), first_start(tmp_path / str(number), case)[0])
        except Exception as error:  # noqa: BLE001  the others are tried all the same
            failures.append(f"{case}: {type(error).__name__}: {error}")
    ends = Counter(known.ends.get(str(case), FAILED) for case in chosen)
    swept(Sweep("first start and stop", len(found), len(chosen) - ends[NOT_REACHED], ends["as undisturbed"], 0))
    assert not failures, "\n".join(failures)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", FAULTS)
@pytest.mark.parametrize("name", ["plain", "uv environment", "output dataset", "TTL sweep"] if SOAK else ["plain"])
def test_a_step_that_fails_is_told_and_nothing_is_lost(
    name: str, way: str, place: Place, every: dict[str, Kind], tried: Callable[[str, int, int], None]
) -> None:
    kind, api = every[name], place.api()
    api.retried |= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    api.retried_http |= {507}
    found = cases(undisturbed(place, api, kind), [way])
    chosen = sample(found, f"{name} {way}", SAMPLE // 2)
    ends, failures = try_all(place, api, kind, chosen, ledger(f"{name} {way}"))
    reached = len(chosen) - ends[NOT_REACHED]
    tried(f"disk {way} at each durable step", reached, reached - ends[FAILED])
    api.close()
    assert not failures, "\n".join(failures)
    assert not [words for words in api.told if "disk" not in words and "UNAVAILABLE" not in words]


def ledger(sweep: str) -> Ledger:
    """Where a whole sweep is written down as it goes."""
    return Ledger(sweep, FOLDER / state_of() if SOAK and not ONLY else None)


def try_all(place: Place, api: Api, kind: Kind, chosen: list[Case], known: Ledger) -> tuple[Counter[str], list[str]]:
    """Run a job for each case that is not known yet: how often they ended how, and what went wrong.

    How often a step is done varies (two looks at a job may find what three do): one that does not come is waited for in
    some more jobs.
    """
    failures = list[str]()
    known.begin(len(chosen))
    for case in chosen:
        if str(case) in known.ends:
            continue
        try:
            hows = (run_case(place, api, kind, case)[0] for _ in range(TRIES))
            known.note(str(case), next((how for how in hows if how != NOT_REACHED), NOT_REACHED))
        except Exception as error:  # noqa: BLE001  the others are tried all the same
            failures.append(f"{case}: {type(error).__name__}: {error}\n{place.news()}")
            place.forgive()
    return Counter(known.ends.get(str(case), FAILED) for case in chosen), failures
