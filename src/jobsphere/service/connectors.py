"""S3 connectors of projects: add, list and delete."""

from __future__ import annotations

import re
from dataclasses import replace

from jobsphere.domain.access import Action
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Job
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import sealed_secret
from jobsphere.domain.resources import Resource, S3Connector, check_name
from jobsphere.service.resources import Backing, Resources

_BUCKET = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{1,254}")
_ENDPOINT = re.compile(r"https?://[^\s@/?#]+(/[^\s@?#]*)?")


class Connectors(Resources[S3Connector]):
    """What can be done with S3 connectors."""

    def __init__(self, backing: Backing) -> None:
        super().__init__(S3Connector, backing)

    async def add(self, who: Subject, project_id: str, name: str, connector: S3Connector) -> Resource[S3Connector]:
        """Make a bucket known to the project's jobs.

        Raises:
            NotFoundError: no such project.
            AlreadyExistsError: the project has a connector of that name.
            InvalidArgumentError: a name, the endpoint or the prefix cannot be, or one of the two keys is missing.
            FailedPreconditionError: the project lacks a secret that is to be a key.
        """
        await self._check(who, project_id, name, connector)
        return await self._add(who, project_id, name, connector)

    async def set(self, who: Subject, project_id: str, name: str, connector: S3Connector) -> Resource[S3Connector]:
        """As :meth:`add`; one that is there gets to be so, under its id, for jobs that start from now on."""
        await self._check(who, project_id, name, connector)
        return await self._set(
            who, project_id, name, lambda was: replace(connector, active=was.active) if was else connector
        )

    async def activate(self, who: Subject, project_id: str, named: str) -> Operation:
        """Let jobs use it again. May be repeated.

        Raises:
            NotFoundError: no such project, or no such connector in it.
        """
        await self._be_active(await self.find(who, project_id, named, Action.RESOURCE_CHANGE), active=True)
        return await self._done(who, project_id, OperationKind.ACTIVATE_S3)

    async def deactivate(self, who: Subject, project_id: str, named: str) -> Operation:
        """Let no job use it, without forgetting it. May be repeated.

        Raises:
            NotFoundError: no such project, or no such connector in it.
            FailedPreconditionError: live jobs use it; the text says which.
        """
        found = await self.find(who, project_id, named, Action.RESOURCE_CHANGE)
        await self._check_unused(found)
        await self._be_active(found, active=False)
        return await self._done(who, project_id, OperationKind.DEACTIVATE_S3)

    async def _be_active(self, was: Resource[S3Connector], *, active: bool) -> None:
        while was.body.active is not active:
            new = replace(was, body=replace(was.body, active=active), version=was.version + 1)
            if await self._backing.resources.update_resource(new, was):
                return
            was = await self._backing.resources.find_resource(S3Connector, was.project_id, was.name)

    async def _check(self, who: Subject, project_id: str, name: str, connector: S3Connector) -> None:
        await self._backing.access.project(who, project_id, Action.RESOURCE_CHANGE)
        check_connector(name, connector)
        keys = {"access_key_secret": connector.access_key_secret, "secret_key_secret": connector.secret_key_secret}
        for where, secret in keys.items():
            if secret:
                await sealed_secret(self._backing.resources, project_id, secret, where)

    def _uses(self, job: Job, resource: Resource[S3Connector]) -> bool:
        return resource.id in job.spec.s3_mount_ids


def check_connector(name: str, connector: S3Connector) -> None:
    """Refuse what can be no connector.

    Raises:
        InvalidArgumentError: see :meth:`Connectors.add`.
    """
    check_name(name)
    if not _BUCKET.fullmatch(connector.bucket):
        raise InvalidArgumentError(f"bucket: {connector.bucket[:100]!r} is not the name of one")
    if connector.endpoint and not _ENDPOINT.fullmatch(connector.endpoint):
        raise InvalidArgumentError("endpoint: is not written as http(s)://host:port, without a login")
    if any(part in ("", ".", "..") for part in connector.prefix.split("/")) and connector.prefix:
        raise InvalidArgumentError("prefix: is not written as a/b/c")
    if bool(connector.access_key_secret) is not bool(connector.secret_key_secret):
        raise InvalidArgumentError("access_key_secret, secret_key_secret: go together; one of them is missing")
