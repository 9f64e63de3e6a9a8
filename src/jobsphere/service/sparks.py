"""Spark connectors of projects: add, list and delete."""

from __future__ import annotations

import re

from jobsphere.domain.access import Action
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Job
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import sealed_secret
from jobsphere.domain.resources import Resource, SparkConnector, check_name
from jobsphere.domain.spark import SparkMode
from jobsphere.service.resources import Backing, Resources

MAX_PARAMS = 100
MAX_VALUE_CHARS = 16 * 1024
_HOST = re.compile(r"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/(?:;[0-9A-Za-z_-]+=[^\s;@/]*)*)?")
_TOKEN = re.compile(r";token=", re.IGNORECASE)
_PARAM = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,255}")


class Sparks(Resources[SparkConnector]):
    """What can be done with Spark connectors."""

    def __init__(self, backing: Backing) -> None:
        super().__init__(SparkConnector, backing)

    async def add(
        self, who: Subject, project_id: str, name: str, connector: SparkConnector
    ) -> Resource[SparkConnector]:
        """Make a Spark known to the project's jobs.

        Raises:
            NotFoundError: no such project.
            AlreadyExistsError: the project has a connector of that name.
            InvalidArgumentError: a name, the host or a parameter cannot be.
            FailedPreconditionError: the project lacks a secret that is to be a parameter.
        """
        await self._check(who, project_id, name, connector)
        return await self._add(who, project_id, name, connector)

    async def set(
        self, who: Subject, project_id: str, name: str, connector: SparkConnector
    ) -> Resource[SparkConnector]:
        """As :meth:`add`; one that is there gets to be so, under its id, for jobs that start from now on."""
        await self._check(who, project_id, name, connector)
        return await self._set(who, project_id, name, lambda _: connector)

    async def _check(self, who: Subject, project_id: str, name: str, connector: SparkConnector) -> None:
        await self._backing.access.project(who, project_id, Action.RESOURCE_CHANGE)
        check_spark(name, connector)
        for param, secret in connector.secret_params:
            await sealed_secret(self._backing.resources, project_id, secret, f"secret_params: {param}")

    def _uses(self, job: Job, resource: Resource[SparkConnector]) -> bool:
        return resource.id == job.spec.spark_connector_id


def check_spark(name: str, connector: SparkConnector) -> None:
    """Refuse what can be no connector. The text never shows a parameter's value.

    Raises:
        InvalidArgumentError: see :meth:`Sparks.add`.
    """
    check_name(name)
    _check_host(connector)
    names = [param for param, _ in (*connector.params, *connector.secret_params)]
    if len(names) > MAX_PARAMS:
        raise InvalidArgumentError(f"params: {len(names)}, while the limit is {MAX_PARAMS}")
    for param in names:
        if not _PARAM.fullmatch(param):
            raise InvalidArgumentError(f"params: {param[:100]!r} is not the name of a session parameter")
        if names.count(param) > 1:
            raise InvalidArgumentError(f"params: {param!r} is given more than once")
    for param, value in connector.params:
        if "\0" in value or len(value) > MAX_VALUE_CHARS:
            raise InvalidArgumentError(f"params: {param}: is longer than {MAX_VALUE_CHARS} characters or holds a NUL")
    for param, secret in connector.secret_params:
        if not secret:
            raise InvalidArgumentError(f"secret_params: {param}: names no secret")


def _check_host(connector: SparkConnector) -> None:
    host = connector.host
    if not host:
        if connector.mode is not SparkMode.LOCAL:
            raise InvalidArgumentError(f"host: is missing; only a connector of the mode {SparkMode.LOCAL} has none")
        return
    if _TOKEN.search(host):
        raise InvalidArgumentError(
            "host: holds a token; make it the project's secret SPARK_CONNECT_AUTHENTICATE_TOKEN, which Spark reads"
        )
    if not _HOST.fullmatch(host):
        raise InvalidArgumentError("host: is not written as name:port, or as name:port/;use_ssl=true")
