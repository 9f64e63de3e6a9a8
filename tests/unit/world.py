"""Service and engine over ports in memory, with a clock that stands still: a whole server without a process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.contract.ports_blobs import MemoryBlobStore, MemoryDiskBytes
from tests.contract.ports_memory_nodes import MemoryNodes
from tests.contract.ports_memory_runner import MemoryRunner

from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.signing import ServerTransfers
from jobsphere.domain.access_ports import TeamStore
from jobsphere.domain.artifact import ArtifactKind, File, FileDesc
from jobsphere.domain.attempt import (
    Collected,
    CollectedFile,
    ContainerEngine,
    Ended,
    EndReason,
    EngineKind,
    ImagePlan,
    Started,
)
from jobsphere.domain.capacity import GIB, InstanceTypes, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.domain.image import has_image
from jobsphere.domain.job import Job, JobSpec, Phase
from jobsphere.domain.node_ports import Node
from jobsphere.domain.quota import Quota
from jobsphere.domain.resource import Community, Project, Subject
from jobsphere.domain.tracing import UNTRACED, Tracer
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provisioner
from jobsphere.engine.reconciler import Reconciler
from jobsphere.runner.directories import Takers
from jobsphere.service.access import Access
from jobsphere.service.artifacts import Artifacts
from jobsphere.service.changes import Changes
from jobsphere.service.communities import Communities
from jobsphere.service.connectors import Connectors
from jobsphere.service.data import JobData
from jobsphere.service.datasets import Datasets
from jobsphere.service.grants import Grants
from jobsphere.service.images import ImageResources, ProjectImages
from jobsphere.service.jobs import Jobs
from jobsphere.service.logs import Logs, Readers
from jobsphere.service.projects import Projects
from jobsphere.service.quotas import Quotas
from jobsphere.service.resources import Backing
from jobsphere.service.secrets import Secrets
from jobsphere.service.sparks import Sparks
from jobsphere.store.failing import FailingJobStore, FailingResourceStore
from jobsphere.store.failing_access import Failing
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.memory_access import MemoryAccounts, MemoryTeams
from jobsphere.store.records import dump
from jobsphere.store.resources import MemoryResourceStore
from jobsphere.store.usage import MemoryJobCounts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WHO = Subject("ann", "ann", operator=True)
PROJECT = "p" * 20
COMMUNITY = "c" * 20
DAY = timedelta(days=1)


class StandingClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class CountedIds:
    """``00000000000000000001`` and so on."""

    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return f"{self.count:020}"


class PlainSigner:
    """URLs that say what they allow."""

    def sign(self, grant) -> str:
        return f"{grant.method} {grant.project_id} {grant.sha256} {grant.size_bytes} {grant.name}"

    def verify(self, method, path, query):
        raise NotImplementedError


class PlainSealer:
    """Sealed is ``<key>|<project>|<secret backwards>``; ``key`` is the one that seals now."""

    key = "k1"

    def seal(self, project_id: str, secret: str) -> str:
        return f"{self.key}|{project_id}|{secret[::-1]}"

    def open(self, project_id: str, sealed: str) -> str:
        _, project, text = sealed.split("|", 2)
        assert project == project_id
        return text[::-1]

    def holds(self, project_id: str, sealed: str, secret: str) -> bool:
        return self.open(project_id, sealed) == secret

    def resealed(self, project_id: str, sealed: str) -> str:
        if sealed.startswith(f"{self.key}|"):
            return sealed
        return self.seal(project_id, self.open(project_id, sealed))


class MemoryImages:
    """An engine that is there or is not."""

    engine: ContainerEngine | None = ContainerEngine(EngineKind.PODMAN, "podman")

    async def accept(self, project_id: str, spec: JobSpec) -> JobSpec:
        if has_image(spec) and self.engine is None:
            raise FailedPreconditionError("no engine")
        image = spec.env.docker_image_spec
        if image is None or not image.password_plain_text:
            return spec
        image = replace(image, password_plain_text="", password_sealed=f"sealed for {project_id}")
        return replace(spec, env=replace(spec.env, docker_image_spec=image))

    async def plan(self, project_id: str, spec: JobSpec) -> ImagePlan | None:
        if not has_image(spec):
            return None
        if self.engine is None:
            raise UnavailableError("no engine")
        image = spec.env.docker_image_spec
        sealed = image.password_sealed if image else ""
        return ImagePlan("docker.io/library/python:3.10", self.engine, password_sealed=sealed)


def node_for(places: int) -> InstanceTypes:
    """A node that has room for so many jobs of the smallest type at a time, its CPUs being the bound."""
    return InstanceTypes(NodeCapacity(4.0 * places, 32 * GIB * places + GIB), jobs_at_once=places)


def alone(types: InstanceTypes, name: str = "here") -> ClusterTypes:
    """One node with these types."""
    return ClusterTypes(lambda: {name: Node(name, types.node)}, lambda _: types, [size[0] for size in types.sizes])


class World:
    """Everything above the ports, put together as the server does."""

    def __init__(
        self,
        folder: Path,
        places: int = 2,
        quota: Quota = Quota(),  # noqa: B008 - it is frozen
        encode: Callable[[Job], bytes] = dump,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self.clock, self.ids, self.changes = StandingClock(), CountedIds(), Changes()
        self.seconds = 0.0
        memory = MemoryJobStore(encode)
        self.store = FailingJobStore(memory)
        self.audit = memory.audit
        self.accounts = MemoryAccounts(memory)
        self.failing_teams = Failing[TeamStore](MemoryTeams(memory, self.accounts))
        self.teams = self.failing_teams.store
        self.blobs = MemoryBlobStore(folder / "scratch")
        self.outbox = folder / "outbox"
        self.dataset_files = LocalDatasets(folder / "datasets")
        self.runner = MemoryRunner(self.outbox, Takers(self.blobs, self.dataset_files))
        has = node_for(places)
        self.nodes = MemoryNodes(has.node, self.runner)
        self.types = ClusterTypes(self.nodes.all, lambda _: has)
        self.readers = Readers(self.clock, lambda: self.seconds)
        self.access = Access(self.store, self.teams, self.accounts, lambda: self.seconds)
        self.artifacts = Artifacts(self.blobs, ServerTransfers(PlainSigner()), self.clock)
        self.data = JobData(self.store, self.blobs, self.nodes, self.clock)
        self.woken: list[str] = []
        self.resources = FailingResourceStore(MemoryResourceStore())
        self.engine_images = MemoryImages()
        self.images = ProjectImages(self.engine_images, self.resources)
        self.sealer = PlainSealer()
        self.backing = Backing(self.resources, self.store, self.access, self.clock, self.ids)
        self.secrets = Secrets(self.backing, self.sealer)
        self.connectors = Connectors(self.backing)
        self.sparks = Sparks(self.backing)
        self.image_resources = ImageResources(self.backing, self.sealer)
        self.disks = MemoryDiskBytes()
        self.quotas = Quotas(quota, self.store, MemoryJobCounts(memory), self.blobs, self.resources, self.disks)
        self.datasets = Datasets(self.backing, self.dataset_files, self.quotas)
        self.jobs = Jobs(
            self.store, self.artifacts, self.data, self.access, self.changes, self.readers, self.clock, self.ids,
            self.woken.append, self.images, self.types, self.resources, self.quotas,
        )  # fmt: skip
        self.logs = Logs(self.store, self.nodes, self.access, self.changes, self.readers)
        self.communities = Communities(self.teams, self.access, self.clock, self.ids)
        self.projects = Projects(
            self.store, self.teams, self.communities, self.access, self.data.drop, self.clock, self.ids
        )
        self.grants = Grants(self.accounts, self.access, self.clock, self.ids)
        self.provisioner = Provisioner(
            self.resources, self.images, lambda project_id: Path("/disks") / project_id, self.dataset_files
        )
        self.products = Products(self.resources, self.dataset_files, self.nodes, self.clock)
        self.dispatcher = Dispatcher(self.types)
        self.reconciler = Reconciler(
            self.store, self.nodes, self.blobs, self.clock, self.dispatcher, self.changes.publish,
            self.woken.append, self.provisioner, self.products, running_at_once=self.quotas.running,
            monotonic=lambda: self.seconds, tracer=tracer,
        )  # fmt: skip

    async def open(self) -> World:
        """With its project."""
        await self.teams.add_community(Community(COMMUNITY, "default", NOW, WHO.id), None)
        await self.teams.create_project(Project(PROJECT, "default", COMMUNITY, NOW, WHO.id), None, None)
        return self

    async def created(self, spec: JobSpec | None = None, ttl: timedelta | None = DAY) -> Job:
        """A new job without inputs."""
        submitted = await self.jobs.create(WHO, PROJECT, spec or a_spec(), "job", "", "", ttl)
        return await self.store.get_job(submitted.job_id)

    async def executed(self, spec: JobSpec | None = None) -> Job:
        """A job that waits for a place."""
        job = await self.created(spec)
        await self.jobs.execute(WHO, job.id)
        return await self.store.get_job(job.id)

    async def running(self, spec: JobSpec | None = None) -> Job:
        """A job whose program runs."""
        job = await self.executed(spec)
        await self.reconcile(job)
        await self.runner.become(attempt(job), Started(self.clock.now()))
        return await self.reconcile(job)

    async def reconcile(self, job: Job, times: int = 1) -> Job:
        """Look at the job; how it is then."""
        for _ in range(times):
            await self.reconciler.reconcile(job.id)
        return await self.store.get_job(job.id)

    async def ends(
        self, job: Job, reason: EndReason = EndReason.EXITED, code: int | None = 0, message: str = ""
    ) -> None:
        """The attempt ends, and all is collected: a stdout.txt with the word ``out``."""
        phase = None if reason is EndReason.EXITED and code == 0 else Phase.RUN
        await self.runner.become(attempt(job), Ended(self.clock.now(), reason, code, phase, message))
        await self.runner.become(attempt(job), self.collected(job))

    def collected(self, job: Job) -> Collected:
        """What the supervisor collects."""
        path = self.outbox / (job.attempt.id if job.attempt else attempt(job)) / "stdout.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"out")
        return Collected(
            self.clock.now(), (CollectedFile(ArtifactKind.LOG, a_file("stdout.txt", b"out"), "stdout.txt"),)
        )


def attempt(job: Job) -> str:
    """The id of the job's attempt."""
    return f"{job.id}-1"


def a_file(path: str, content: bytes, var: str = "") -> File:
    return File(FileDesc(path, var), hashlib.sha256(content).hexdigest(), len(content))


def a_spec(**more: object) -> JobSpec:
    return JobSpec(**({"cmd": "true", "instance_types": ("c1.4",)} | more))  # type: ignore[arg-type]


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
