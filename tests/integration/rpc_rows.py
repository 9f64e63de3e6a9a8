"""Every method of the served services, each with what it takes, and a whole server in memory to call it on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tests.unit.world import COMMUNITY, NOW, PROJECT, WHO, World

from jobsphere.api.codec import encode_job
from jobsphere.api.server import GrpcServer, Services, implementations
from jobsphere.domain.access import ROLES, Scope
from jobsphere.domain.accounts import AccountKind, Binding
from jobsphere.domain.resource import Community, Project
from jobsphere.domain.resources import S3Connector
from jobsphere.service.accounts import Accounts
from jobsphere.service.audit import Audit
from jobsphere.service.identity import Identity
from jobsphere.service.tokens import Tokens
from jobsphere.store.failing_access import Failing
from jobsphere.store.memory_audit import MemoryAudit

NONE, VIEWER, DEVELOPER, EDITOR, ADMIN, OPERATOR = range(6)
LEVELS = {"viewer": VIEWER, "developer": DEVELOPER, "editor": EDITOR, "admin": ADMIN}
OTHER_PROJECT, OTHER_COMMUNITY, MISSING = "q" * 20, "d" * 20, "z" * 20
ON_PROJECT = {
    **{f"datasphere.community-projects.{name}": level for name, level in LEVELS.items()},
    "datasphere.communities.viewer": VIEWER,
    "datasphere.communities.developer": VIEWER,
    "datasphere.communities.editor": EDITOR,
    "datasphere.communities.admin": ADMIN,
}
"""What each role, on a project or on its community, makes of its holder in the project."""
ON_COMMUNITY = {
    **{f"datasphere.communities.{name}": level for name, level in LEVELS.items()},
    **{f"datasphere.community-projects.{name}": NONE for name in LEVELS},
}


@dataclass(frozen=True)
class Caller:
    """Somebody with a token: which role they have, and whether on what the calls are about or on another such thing."""

    token: str
    role: str = ""
    member: bool = False

    def level(self, on: str) -> int:
        if not self.member:
            return NONE
        return (ON_COMMUNITY if on == "community" else ON_PROJECT)[self.role]

    def __str__(self) -> str:
        return f"{self.role or 'nobody'}{'' if self.member else ' elsewhere' if self.role else ''}"


@dataclass
class Rpcs:
    """A server, its methods, and callers of all kinds."""

    world: World
    channel: grpc.aio.Channel
    methods: Mapping[str, MethodDescriptor]
    audit: MemoryAudit
    audit_faults: Failing[MemoryAudit]
    server: GrpcServer
    callers: list[Caller] = field(default_factory=list[Caller])
    operator: str = ""

    async def call(self, name: str, request: Message, token: str) -> tuple[str, str, Any]:
        """The code, the sentence and the answer (the first one of a stream)."""
        method = self.methods[name]
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        path = f"/{method.containing_service.full_name}/{method.name}"
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        stub = kind(path, type(request).SerializeToString, GetMessageClass(method.output_type).FromString)
        try:
            if method.server_streaming:
                answers = [a async for a in stub(request, metadata=metadata, timeout=20)]
                return "OK", "", answers[0] if answers else None
            return "OK", "", await stub(request, metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or "", None

    def message(self, name: str, /, **fields: Any) -> Message:
        return GetMessageClass(self.methods[name].input_type)(**fields)


@asynccontextmanager
async def rpcs(folder: Path) -> AsyncIterator[Rpcs]:
    """Two communities with a project each; the first has a live job. Tokens are asked for."""
    world = await World(folder, encode=encode_job).open()
    await world.teams.add_community(Community(OTHER_COMMUNITY, "other", NOW, WHO.id), None)
    await world.teams.create_project(Project(OTHER_PROJECT, "other", OTHER_COMMUNITY, NOW, WHO.id), None, None)
    await world.executed()
    tokens = Tokens(b"k" * 32, world.clock)
    audit = world.audit
    faults = Failing(audit)
    identity = Identity(tokens, True, "local", world.accounts, world.clock)
    services = Services(
        world.jobs, world.jobs.operations, world.logs, world.projects, world.communities, world.grants, identity,
        Audit(faults.store, world.clock), world.datasets, world.connectors, world.image_resources,
    )  # fmt: skip
    methods = {
        f"{method.containing_service.name}/{method.name}": method
        for implementation in implementations(services, "127.0.0.1:1")
        for method in implementation.service.methods
    }
    server = GrpcServer(services)
    port = await server.start("127.0.0.1", 0, None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", (("grpc.enable_http_proxy", 0),)) as channel:
        rpcs = Rpcs(world, channel, methods, audit, faults, server)
        rpcs.operator, _ = tokens.issue("root", timedelta(days=1))
        await _add_callers(rpcs)
        yield rpcs
    await server.stop(0)


async def _add_callers(rpcs: Rpcs) -> None:
    accounts = Accounts(rpcs.world.accounts, rpcs.world.clock, rpcs.world.ids)
    for number, (role, member) in enumerate([("", False), *((r, m) for r in ROLES for m in (True, False))]):
        account = await accounts.add(WHO, f"caller-{number}", AccountKind.USER)
        _, token = await accounts.create_token(WHO, account.id, "t", timedelta(days=1))
        if role:
            of_project = ROLES[role].scope is Scope.PROJECT
            places = (PROJECT, OTHER_PROJECT) if of_project else (COMMUNITY, OTHER_COMMUNITY)
            place = places[0] if member else places[1]
            await rpcs.world.accounts.change_bindings(place, [Binding(place, account.id, role)], (), None)
        rpcs.callers.append(Caller(token, role, member))


# What each method takes.

Build = Callable[[Rpcs], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """``on``: ``project``, ``community``, ``operator`` (nobody else may), ``list`` (everybody gets what is theirs),
    ``public`` (no token needed), ``without`` (there is no such method here). ``names``: the field with the id."""

    on: str
    least: int = NONE
    names: str = ""
    build: Build | None = None
    reads: bool = False

    async def request(self, name: str, rpcs: Rpcs, missing: bool = False) -> Message:
        fields = await self.build(rpcs) if self.build else {}
        if missing:
            fields[self.names] = MISSING
        return rpcs.message(name, **fields)


def _this(**fields: Any) -> Build:
    async def build(_: Rpcs) -> dict[str, Any]:
        return dict(fields)

    return build


def _new_name(**fields: Any) -> Build:
    async def build(rpcs: Rpcs) -> dict[str, Any]:
        return {"name": f"n-{rpcs.world.ids.new()}", **fields}

    return build


def _job(field_name: str = "job_id") -> Build:
    async def build(rpcs: Rpcs) -> dict[str, Any]:
        return {field_name: (await rpcs.world.created()).id}

    return build


async def _ended_job(rpcs: Rpcs) -> dict[str, Any]:
    job = await rpcs.world.created()
    await rpcs.world.jobs.cancel(WHO, job.id, "", False)
    return {"job_id": job.id}


async def _operation(rpcs: Rpcs) -> dict[str, Any]:
    return {"operation_id": (await rpcs.world.executed()).operation_id}


async def _spec(rpcs: Rpcs) -> dict[str, Any]:
    return {
        "project_id": PROJECT,
        "job_parameters": {"cmd": "true", "cloud_instance_types": [{"name": "c1.4"}]},
    }


def _same_bindings(resource_id: str) -> Build:
    async def build(rpcs: Rpcs) -> dict[str, Any]:
        held = await rpcs.world.accounts.bindings_on(resource_id)
        bindings = [{"role_id": b.role_id, "subject": {"id": b.account_id, "type": "userAccount"}} for b in held]
        return {"resource_id": resource_id, "access_bindings": bindings}

    return build


def _no_deltas(resource_id: str) -> Build:
    return _this(resource_id=resource_id, access_binding_deltas=[])


async def _dataset(rpcs: Rpcs) -> dict[str, Any]:
    dataset = await rpcs.world.datasets.create(WHO, PROJECT, f"n-{rpcs.world.ids.new()}", [Path(__file__)])
    return {"project_id": PROJECT, "dataset_id": dataset.id}


async def _connector(rpcs: Rpcs) -> dict[str, Any]:
    connector = await rpcs.world.connectors.set(WHO, PROJECT, "bucket", S3Connector("bucket"))
    return {"project_id": PROJECT, "s3_id": connector.id}


def _image(field_name: str) -> Build:
    async def build(rpcs: Rpcs) -> dict[str, Any]:
        image = await rpcs.world.image_resources.set(WHO, PROJECT, "image", "registry.example.org/a:1")
        return {"project_id": PROJECT, field_name: image.id}

    return build


_CHANGE = {"update_mask": {"paths": ["description"]}, "description": "new"}

ROWS: Mapping[str, Row] = {
    "ProjectJobService/Create": Row("project", DEVELOPER, "project_id", _spec),
    "ProjectJobService/Clone": Row("project", DEVELOPER, "source_job_id", _job("source_job_id")),
    "ProjectJobService/Execute": Row("project", DEVELOPER, "job_id", _job()),
    "ProjectJobService/Cancel": Row("project", DEVELOPER, "job_id", _job()),
    "ProjectJobService/ReadStdLogs": Row("project", VIEWER, "job_id", _ended_job, reads=True),
    "ProjectJobService/ReadLogs": Row("project", VIEWER, "job_id", _ended_job, reads=True),
    "ProjectJobService/DownloadJobFiles": Row("project", VIEWER, "job_id", _job(), reads=True),
    "ProjectJobService/List": Row("project", VIEWER, "project_id", _this(project_id=PROJECT), reads=True),
    "ProjectJobService/Get": Row("project", VIEWER, "job_id", _job(), reads=True),
    "ProjectJobService/Delete": Row("project", DEVELOPER, "job_id", _job()),
    "ProjectJobService/DeleteData": Row("project", DEVELOPER, "job_id", _job()),
    "ProjectJobService/DeleteAllData": Row("project", DEVELOPER, "project_id", _this(project_id=PROJECT)),
    "ProjectJobService/SetDataTtl": Row("project", DEVELOPER, "job_id", _job()),
    "DatasetService/Activate": Row("project", EDITOR, "project_id", _dataset),
    "DatasetService/Deactivate": Row("without"),
    "S3Service/Activate": Row("project", EDITOR, "project_id", _connector),
    "S3Service/Deactivate": Row("project", EDITOR, "project_id", _connector),
    "DockerImageService/Activate": Row("project", EDITOR, "project_id", _image("docker_id")),
    "DockerImageV2Service/SetActive": Row("project", EDITOR, "project_id", _image("image_id")),
    "OperationService/Get": Row("project", VIEWER, "operation_id", _operation, reads=True),
    "OperationService/Cancel": Row("project", DEVELOPER, "operation_id", _operation),
    "ProjectService/Create": Row("community", DEVELOPER, "community_id", _new_name(community_id=COMMUNITY)),
    "ProjectService/Update": Row("project", EDITOR, "project_id", _this(project_id=PROJECT, **_CHANGE)),
    # Refused for the live job, to those who may ask for it: what the calls are about stays.
    "ProjectService/Delete": Row("project", EDITOR, "project_id", _this(project_id=PROJECT)),
    "ProjectService/Open": Row("without"),
    "ProjectService/Get": Row("project", VIEWER, "project_id", _this(project_id=PROJECT), reads=True),
    "ProjectService/List": Row("list", VIEWER, "", _this(community_id=COMMUNITY), reads=True),
    "ProjectService/GetUnitBalance": Row("without", reads=True),
    "ProjectService/SetUnitBalance": Row("without"),
    "ProjectService/Execute": Row("without"),
    "ProjectService/ListAccessBindings": Row(
        "project", VIEWER, "resource_id", _this(resource_id=PROJECT), reads=True
    ),
    "ProjectService/SetAccessBindings": Row("project", ADMIN, "resource_id", _same_bindings(PROJECT)),
    "ProjectService/UpdateAccessBindings": Row("project", ADMIN, "resource_id", _no_deltas(PROJECT)),
    "ProjectService/AddResource": Row("without"),
    "ProjectService/RemoveResource": Row("without"),
    "ProjectService/ResizeDisk": Row("without"),
    "ProjectService/GetRestrictionsMeta": Row("without", reads=True),
    "ProjectService/GetRestrictions": Row("without", reads=True),
    "ProjectService/SetRestrictions": Row("without"),
    "CommunityService/Create": Row("operator", OPERATOR, "", _new_name()),
    "CommunityService/Get": Row("community", VIEWER, "community_id", _this(community_id=COMMUNITY), reads=True),
    "CommunityService/Update": Row("community", EDITOR, "community_id", _this(community_id=COMMUNITY, **_CHANGE)),
    # Refused for its projects, to those who may ask for it.
    "CommunityService/Delete": Row("community", EDITOR, "community_id", _this(community_id=COMMUNITY)),
    "CommunityService/List": Row("list", VIEWER, reads=True),
    "CommunityService/ListAccessBindings": Row(
        "community", VIEWER, "resource_id", _this(resource_id=COMMUNITY), reads=True
    ),
    "CommunityService/SetAccessBindings": Row("community", ADMIN, "resource_id", _same_bindings(COMMUNITY)),
    "CommunityService/UpdateAccessBindings": Row("community", ADMIN, "resource_id", _no_deltas(COMMUNITY)),
    "CommunityService/AddResource": Row("without"),
    "CommunityService/RemoveResource": Row("without"),
    "CommunityService/GetRestrictionsMeta": Row("without", reads=True),
    "CommunityService/GetRestrictions": Row("without", reads=True),
    "CommunityService/SetRestrictions": Row("without"),
    "IamTokenService/Create": Row("public"),
    "IamTokenService/CreateForServiceAccount": Row("public"),
    "IamTokenService/Revoke": Row("public"),
    "ApiEndpointService/Get": Row("public", reads=True),
    "ApiEndpointService/List": Row("public", reads=True),
}  # fmt: skip
"""One row for each method that is served: a new method without one fails the tests."""
