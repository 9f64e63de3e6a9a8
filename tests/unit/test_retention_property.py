"""Whatever is created, run, cleared, deleted and swept, in whatever order and at once: what is referred to stays."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.world import PROJECT, WHO, World, a_file, a_spec, attempt, chunks

from jobsphere.blob.local import LocalBlobStore
from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.domain.artifact import ArtifactKind
from jobsphere.domain.attempt import Collected, CollectedFile, Ended, EndReason, Started
from jobsphere.domain.errors import FailedPreconditionError, NotFoundError
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.ports import JobStore
from jobsphere.engine.retention import Retention
from jobsphere.runner.directories import Takers
from jobsphere.service.data import JobData
from jobsphere.store.failing import FailingJobStore
from jobsphere.wiring import desk, resources

CONTENTS = [b"a", b"b", b"c", b"d"]
"""Few, so that jobs share them."""
content = st.sampled_from(CONTENTS)
which = st.integers(0, 99)


class Pauses:
    """Lets others go on in between, as a seed says: the same in each repeat."""

    def __init__(self) -> None:
        self.random = Random(0)

    async def __call__(self) -> None:
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)

    async def instead_of_a_thread(self, work: Callable[..., object], *args: object) -> object:
        await self()
        result = work(*args)
        await self()
        return result


class PausingStore(FailingJobStore):
    """A store whose calls take a while, before and after their effect."""

    def __init__(self, inner: JobStore, pauses: Pauses) -> None:
        super().__init__(inner)
        self._pauses = pauses

    async def _call(self, call: str, run: Callable[[], Awaitable[Any]]) -> Any:
        await self._pauses()
        result = await run()
        await self._pauses()
        return result


class LocalWorld(World):
    """The world with blobs on a real disk, and a store that takes its time."""

    def __init__(self, folder: Path, pauses: Pauses) -> None:
        super().__init__(folder, places=99)
        self.store = PausingStore(self.store, pauses)
        for holder in (self.jobs, self.reconciler, self.access):
            holder._store = self.store
        self.put_blobs(LocalBlobStore(folder / "blobs"))

    def put_blobs(self, blobs: LocalBlobStore) -> None:
        """As a start of the server does."""
        self.local = blobs
        for holder in (self.artifacts, self.reconciler):
            holder._blobs = blobs
        self.runner.takers = Takers(blobs, self.dataset_files)
        self.data = JobData(self.store, blobs, self.nodes, self.clock)
        self.jobs._data = self.data


class Life(RuleBasedStateMachine):
    """Jobs of one project, and every way in which bytes come and go. Some steps are done at once."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.pauses = Pauses()
        self.patched = mock.patch.object(asyncio, "to_thread", self.pauses.instead_of_a_thread)
        self.patched.start()
        self.world = LocalWorld(Path(self.folder.name), self.pauses)
        self.do(self.world.open())
        self.inputs: dict[str, list[bytes]] = {}
        """Of all jobs that there ever were."""
        self.brought: set[str] = set()
        """Jobs whose inputs were all there once."""
        self.waiting: list[Coroutine[Any, Any, object]] = []

    @property
    def ids(self) -> list[str]:
        return list(self.inputs)

    @rule(seed=st.integers(0, 1 << 16))
    def take_other_turns(self, seed: int) -> None:
        self.pauses.random.seed(seed)

    def do(self, work: Coroutine[Any, Any, object]) -> Any:
        return self.loop.run_until_complete(work)

    def now_or_at_once(self, work: Coroutine[Any, Any, object], later: bool) -> None:
        """Do it, together with what was put off; or put it off."""
        self.waiting.append(work)
        if not later:
            self.settle()

    def settle(self) -> None:
        work, self.waiting = self.waiting, []

        async def together() -> list[object]:
            return await asyncio.gather(*work, return_exceptions=True)

        for result in self.do(together()):
            if isinstance(result, BaseException) and not isinstance(result, FailedPreconditionError | NotFoundError):
                raise result

    def job(self, number: int) -> Job | None:
        with suppress(NotFoundError):
            return self.do(self.world.store.get_job(self.ids[number % len(self.ids)]))
        return None

    @rule(
        inputs=st.lists(content, max_size=3, unique=True), later=st.booleans(), ttl=st.booleans(), bring=st.booleans()
    )
    def create(self, inputs: list[bytes], later: bool, ttl: bool, bring: bool) -> None:
        async def work() -> None:
            files = tuple(a_file(f"in{n}", data) for n, data in enumerate(inputs))
            spec = a_spec(input_files=files)
            submitted = await self.world.jobs.create(WHO, PROJECT, spec, "", "", "", timedelta(days=1) if ttl else None)
            self.inputs[submitted.job_id] = inputs
            if bring or not submitted.uploads:
                await self._bring(submitted.job_id, {upload.file.sha256 for upload in submitted.uploads})

        self.now_or_at_once(work(), later)

    @precondition(lambda self: self.ids)
    @rule(number=which, later=st.booleans())
    def bring(self, number: int, later: bool) -> None:
        """The URLs outlive the job."""
        id_ = self.ids[number % len(self.ids)]
        files = {a_file("x", data).sha256 for data in self.inputs[id_]}
        self.now_or_at_once(self._bring(id_, files), later)

    async def _bring(self, id_: str, wanted: set[str]) -> None:
        for data in self.inputs[id_]:
            file = a_file("x", data)
            if file.sha256 in wanted:
                await self.world.local.receive(PROJECT, file.sha256, len(data), chunks(data))
                await self.world.data.settle(PROJECT, file.sha256)
        self.brought.add(id_)

    @precondition(lambda self: self.ids)
    @rule(number=which, later=st.booleans())
    def execute(self, number: int, later: bool) -> None:
        if self.job(number) is not None:
            self.now_or_at_once(self.world.jobs.execute(WHO, self.ids[number % len(self.ids)]), later)

    @precondition(lambda self: self.ids)
    @rule(number=which, outputs=st.lists(content, max_size=2, unique=True), later=st.booleans())
    def run(self, number: int, outputs: list[bytes], later: bool) -> None:
        job = self.job(number)
        if job is None or job.status is not JobStatus.PREPARING:
            return
        self.do(self.world.reconcile(job))

        async def work() -> None:
            files = []
            for place, data in enumerate(outputs):
                path = self.world.outbox / attempt(job) / f"o{place}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                files.append(CollectedFile(ArtifactKind.OUTPUT, a_file(f"out{place}", data), f"o{place}"))
            now = self.world.clock.now()
            for record in (Started(now), Ended(now, EndReason.EXITED, 0, None, ""), Collected(now, tuple(files))):
                await self.world.runner.become(attempt(job), record)
            await self.world.reconcile(job, 2)

        self.now_or_at_once(work(), later)

    @precondition(lambda self: self.ids)
    @rule(number=which, later=st.booleans())
    def delete(self, number: int, later: bool) -> None:
        if self.job(number) is not None:
            self.now_or_at_once(self.world.jobs.delete(WHO, self.ids[number % len(self.ids)]), later)

    @precondition(lambda self: self.ids)
    @rule(number=which, later=st.booleans())
    def delete_data(self, number: int, later: bool) -> None:
        if self.job(number) is not None:
            self.now_or_at_once(self.world.jobs.delete_data(WHO, self.ids[number % len(self.ids)]), later)

    @rule(later=st.booleans())
    def delete_all_data(self, later: bool) -> None:
        self.now_or_at_once(self.world.jobs.delete_all_data(WHO, PROJECT), later)

    @rule(hours=st.integers(1, 30), later=st.booleans())
    def time_passes(self, hours: int, later: bool) -> None:
        self.world.clock.pass_by(3600 * hours)
        retention = Retention(self.world.store, self.world.clock, self.world.data.clear, 60)
        self.now_or_at_once(retention.sweep(), later)

    @rule()
    def restart(self) -> None:
        self.settle()
        self.world.put_blobs(LocalBlobStore(Path(self.folder.name) / "blobs"))
        self.do(self.world.data.sweep())

    @invariant()
    def what_is_referred_to_is_there_and_nothing_else(self) -> None:
        if self.waiting:
            return
        referred: set[str] = set()
        needed: set[str] = set()
        for job in self.do(self.world.store.jobs_in(list(JobStatus))):
            if not job.data_cleared:
                files = {f.sha256 for f in job.spec.uploads() + job.artifacts.files()}
                referred |= files
                needed |= files if job.id in self.brought else set()
        held = self.do(self.world.local.held(PROJECT))
        assert needed <= held <= referred

    def teardown(self) -> None:
        try:
            self.settle()
            self.what_is_referred_to_is_there_and_nothing_else()
        finally:
            self.patched.stop()
            self.loop.close()
            self.folder.cleanup()


SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=1000 if SOAK else 25,
    stateful_step_count=40,
    deadline=None,
    derandomize=not SOAK,
    # To make a failure smaller takes minutes here; the same run fails the same way.
    phases=tuple(Phase) if SOAK else (Phase.generate,),
)


async def test_what_a_new_job_refers_to_in_the_last_moment_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World(tmp_path).open()
    file = a_file("in", b"a")
    await world.blobs.receive(PROJECT, file.sha256, 1, chunks(b"a"))
    job = await world.created(a_spec(input_files=(file,)))
    remove = world.blobs.remove

    async def remove_late(project_id: str, sha256s: Any, wanted: Any) -> None:
        submitted = await world.jobs.create(WHO, PROJECT, a_spec(input_files=(file,)), "", "", "", None)
        assert submitted.uploads == ()
        await remove(project_id, sha256s, wanted)

    monkeypatch.setattr(world.blobs, "remove", remove_late)
    await world.jobs.delete(WHO, job.id)
    assert await world.blobs.held(PROJECT) == {file.sha256}


async def test_a_deleted_projects_files_are_gone_at_once(tmp_path: Path) -> None:
    project = await desk.change(tmp_path, "x", [], lambda d, who: d.projects.create(who, "short-lived"))
    project_id = project[0].id
    ProjectDisk(tmp_path, project_id).folder().joinpath("a.txt").write_text("x")
    (tmp_path / "a.txt").write_text("x")
    await resources.change(
        tmp_path,
        "jobsphere dataset create",
        project_id,
        "a",
        lambda op, who, p: op.datasets.create(who, p, "a", [tmp_path / "a.txt"], "", ()),
    )
    await desk.change(tmp_path, "x", [], lambda d, who: d.projects.delete(who, project_id))
    left = [path for path in tmp_path.rglob("*") if project_id in path.parts and path.is_file()]
    assert left == []
    assert not (tmp_path / "disks" / project_id).exists()
