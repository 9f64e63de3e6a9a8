"""Spark connectors of projects: create, list, change and delete."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from jobsphere.domain.access import Action
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Job
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import sealed_secret
from jobsphere.domain.resources import Resource, SparkConnector, check_name
from jobsphere.domain.spark import SparkMode
from jobsphere.service.resources import Backing, Resources

MAX_PARAMETERS = 100
MAX_PARAMETER_CHARS = 4096

_HOST = r"(?:\[[0-9A-Fa-f:.]+]|[0-9A-Za-z._-]+)"
_ADDRESS = re.compile(rf"{_HOST}(?::[0-9]{{1,5}})?")
_CLUSTER = re.compile(rf"(?:spark://)?{_HOST}(?::[0-9]{{1,5}})?")
_PARAMETER = re.compile(r"[0-9A-Za-z][^\s=\x00-\x1f\x7f]{0,255}")
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
"""The names whose values Spark itself hides (``spark.redaction.regex``)."""


class SparkConnectors(Resources[SparkConnector]):
    """What can be done with Spark connectors."""

    def __init__(self, backing: Backing) -> None:
        super().__init__(SparkConnector, backing)

    async def create(
        self, who: Subject, project_id: str, name: str, connector: SparkConnector
    ) -> Resource[SparkConnector]:
        """Make a Spark known to the project's jobs.

        Raises:
            NotFoundError: no such project.
            AlreadyExistsError: the project has a connector of that name.
            InvalidArgumentError: the name, the master or a parameter cannot be.
            FailedPreconditionError: the project lacks a secret that is to be a parameter.
        """
        await self._check(who, project_id, name, connector)
        return await self._add(who, project_id, name, connector)

    async def set(
        self, who: Subject, project_id: str, name: str, connector: SparkConnector
    ) -> Resource[SparkConnector]:
        """As :meth:`create`; one that is there gets to be so, under its id, for jobs that start from now on."""
        await self._check(who, project_id, name, connector)
        return await self._set(who, project_id, name, lambda _: connector)

    async def update(
        self, who: Subject, project_id: str, named: str, change: Callable[[SparkConnector], SparkConnector]
    ) -> Resource[SparkConnector]:
        """Change one, for jobs that start from now on. ``change`` is called again if another was faster.

        Raises:
            NotFoundError: no such project, or no such connector.
            InvalidArgumentError, FailedPreconditionError: as for :meth:`create`.
        """
        while True:
            was = await self.find(who, project_id, named, Action.RESOURCE_CHANGE)
            new = replace(was, body=change(was.body), version=was.version + 1)
            await self._check(who, project_id, new.name, new.body)
            if await self._backing.resources.update_resource(new, was):
                return new

    async def _check(self, who: Subject, project_id: str, name: str, connector: SparkConnector) -> None:
        await self._backing.access.project(who, project_id, Action.RESOURCE_CHANGE)
        check_spark(name, connector)
        for param, secret in connector.secret_params:
            await sealed_secret(self._backing.resources, project_id, secret, f"secret_params: {param}")

    def _uses(self, job: Job, resource: Resource[SparkConnector]) -> bool:
        return job.spec.spark_connector_id == resource.id


def check_spark(name: str, connector: SparkConnector) -> None:
    """Refuse what can be no Spark connector. No text shows a parameter's value.

    Raises:
        InvalidArgumentError: the master does not go with the mode, or a parameter cannot be one.
    """
    check_name(name)
    _check_master(connector.mode, connector.master)
    names = [name for name, _ in (*connector.params, *connector.secret_params)]
    if len(names) > MAX_PARAMETERS:
        raise InvalidArgumentError(f"params: {len(names)} parameters, while the limit is {MAX_PARAMETERS}")
    for param in names:
        if not _PARAMETER.fullmatch(param):
            raise InvalidArgumentError(f"params: {param[:100]!r} is not the name of a session parameter")
        if names.count(param) > 1:
            raise InvalidArgumentError(f"params: {param!r} has more than one value")
    for param, value in connector.params:
        if len(value) > MAX_PARAMETER_CHARS or "\0" in value:
            raise InvalidArgumentError(f"params: {param!r} has more than {MAX_PARAMETER_CHARS} characters, or a NUL")
        if _SECRET.search(param):
            raise InvalidArgumentError(
                f"params: {param!r} is a secret by its name; put the value into a secret of the project and name that "
                "in the secret parameters"
            )


def _check_master(mode: SparkMode, master: str) -> None:
    if mode is SparkMode.LOCAL and master:
        raise InvalidArgumentError("master: with SPARK_LOCAL there is none; leave it out")
    if mode is SparkMode.CONNECT and not _ADDRESS.fullmatch(master):
        raise InvalidArgumentError("master: is not written as HOST or HOST:PORT, the address of a Spark Connect server")
    if mode is SparkMode.CONTEXT and not _CLUSTER.fullmatch(master):
        raise InvalidArgumentError("master: is not written as HOST (YARN) or spark://HOST:PORT (Spark's own master)")
