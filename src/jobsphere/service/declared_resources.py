"""The kinds of things that a project gives to its jobs, as :mod:`jobsphere.service.declaring` wants them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Generic

from jobsphere.domain.declared import STORED, Entry, Field, Key, Kind, OnChange, Path, Reference, Shape, Value
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError
from jobsphere.domain.image import complete
from jobsphere.domain.resource import Subject
from jobsphere.domain.resources import (
    B,
    Dataset,
    DockerImage,
    Resource,
    S3Connector,
    Secret,
    SparkConnector,
    check_secret,
)
from jobsphere.domain.resources import check_secret_name as check_variable
from jobsphere.domain.spark import SparkMode
from jobsphere.service.connectors import Connectors, check_connector
from jobsphere.service.datasets import Datasets, check_dataset
from jobsphere.service.declaring import Fields, Hand, Places, ReadValue
from jobsphere.service.images import ImageResources, check_image
from jobsphere.service.resources import Resources
from jobsphere.service.secrets import Secrets
from jobsphere.service.sparks import Sparks, check_spark


class InProject(Hand, Generic[B]):
    """What is the same for all of them."""

    def __init__(self, service: Resources[B], places: Places) -> None:
        self._resources = service
        self._places = places

    @abstractmethod
    def fields_of(self, resource: Resource[B]) -> Mapping[str, Value]:
        """The fields of one that is there."""

    @abstractmethod
    async def set(self, who: Subject, project_id: str, name: str, fields: Fields) -> None:
        """Make it, or change it to be so."""

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        found: list[Entry] = []
        for place, project in await self._places.projects(who):
            for resource in await self._resources.all(who, project.id):
                jobs = [job.id for job in await self._resources.users(resource)]
                found.append(
                    Entry(
                        Key(self.kind.name, (*place, resource.name)),
                        self.fields_of(resource),
                        in_use=f"the job {jobs[0]} uses it" if jobs else "",
                        product=isinstance(resource.body, Dataset) and bool(resource.body.job_id),
                    )
                )
        return found

    async def add(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        path = entry.key.path
        await self.set(who, await self._places.project_id(who, path), path[-1], Fields(entry.fields))

    async def change(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        await self.add(who, entry)

    async def remove(self, who: Subject, path: Path) -> None:
        """See :class:`Hand`."""
        await self._resources.delete(who, await self._places.project_id(who, path), path[-1])


class SecretKind(InProject[Secret]):
    """Secrets."""

    kind = Kind("secret", "secrets", "project", {"value": Field(Shape.SECRET, required=True)})

    def __init__(self, secrets: Secrets, places: Places, read: ReadValue) -> None:
        super().__init__(secrets, places)
        self._secrets = secrets
        self._read = read

    def fields_of(self, resource: Resource[Secret]) -> Mapping[str, Value]:
        """See :class:`InProject`."""
        return {"value": STORED if resource.body.sealed else Reference()}

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        name, reference = entry.key.path[-1], Fields(entry.fields).reference("value")
        value = None if reference == STORED else self._read(reference)
        if value is None:
            check_variable(name)
        else:
            check_secret(name, value)

    async def set(self, who: Subject, project_id: str, name: str, fields: Fields) -> None:
        """See :class:`InProject`."""
        await self._secrets.set(who, project_id, name, _value(self._read, fields.reference("value")))

    async def holds(self, who: Subject, path: Path, wanted: str) -> bool:
        """See :class:`Hand`."""
        return await self._secrets.holds(who, await self._places.project_id(who, path), path[-1], wanted)


class ImageKind(InProject[DockerImage]):
    """Docker images: a password by a secret of the project, or by a reference."""

    kind = Kind(
        "image",
        "images",
        "project",
        {
            "image": Field(required=True),
            "username": Field(),
            "password-secret": Field(names="secret", instead_of="password"),
            "password": Field(Shape.SECRET, instead_of="password-secret"),
        },
    )

    def __init__(self, images: ImageResources, secrets: Secrets, places: Places, read: ReadValue) -> None:
        super().__init__(images, places)
        self._images = images
        self._secrets = secrets
        self._read = read

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        return await _by_name(who, await super().present(who), self.kind, self._secrets, self._places)

    def fields_of(self, resource: Resource[DockerImage]) -> Mapping[str, Value]:
        """See :class:`InProject`."""
        body = resource.body
        return {
            "image": body.reference,
            "username": body.username,
            "password-secret": body.password_secret,
            "password": STORED if body.password_sealed else Reference(),
        }

    def canonical(self, entry: Entry) -> Entry:
        """See :class:`Hand`; what is no image stays as it is written, and is refused then."""
        image = str(entry.fields.get("image", ""))
        return replace(entry, fields={**entry.fields, "image": complete(image) or image}) if image else entry

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        fields, has_password = Fields(entry.fields), entry.fields["password"] != Reference()
        check_image(
            entry.key.path[-1],
            fields.text("image"),
            fields.text("username"),
            fields.text("password-secret"),
            has_password,
        )

    async def set(self, who: Subject, project_id: str, name: str, fields: Fields) -> None:
        """See :class:`InProject`."""
        reference, password = fields.reference("password"), None
        if reference != STORED:
            # A reference that leads nowhere is let through for what is stored already.
            password = "" if reference == Reference() else self._read(reference)
        login = fields.text("username"), fields.text("password-secret")
        await self._images.set(who, project_id, name, fields.text("image"), *login, password)

    async def holds(self, who: Subject, path: Path, wanted: str) -> bool:
        """See :class:`Hand`."""
        return await self._images.holds(who, await self._places.project_id(who, path), path[-1], wanted)


class DatasetKind(InProject[Dataset]):
    """Datasets from a folder. Another content is another dataset; those that jobs made are nobody's to declare."""

    kind = Kind(
        "dataset",
        "datasets",
        "project",
        {
            "folder": Field(Shape.FOLDER, required=True, on_change=OnChange.REPLACE),
            "description": Field(),
            "labels": Field(Shape.LABELS),
        },
    )

    def __init__(self, datasets: Datasets, places: Places) -> None:
        super().__init__(datasets, places)
        self._datasets = datasets

    def fields_of(self, resource: Resource[Dataset]) -> Mapping[str, Value]:
        """See :class:`InProject`."""
        body = resource.body
        folder = str(self._datasets.folder(resource))
        return {"folder": folder, "description": body.description, "labels": tuple(sorted(body.labels))}

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        fields = Fields(entry.fields)
        check_dataset(entry.key.path[-1], fields.text("description"), fields.labels())

    async def set(self, who: Subject, project_id: str, name: str, fields: Fields) -> None:
        """See :class:`InProject`."""
        about = fields.text("description"), fields.labels()
        await self._datasets.create(who, project_id, name, [FilePath(fields.text("folder"))], *about)

    async def change(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        path, fields = entry.key.path, Fields(entry.fields)
        project_id = await self._places.project_id(who, path)
        await self._datasets.describe(who, project_id, path[-1], fields.text("description"), fields.labels())

    async def holds(self, who: Subject, path: Path, wanted: str) -> bool:
        """See :class:`Hand`."""
        project_id = await self._places.project_id(who, path)
        return await self._datasets.holds(who, project_id, path[-1], FilePath(wanted))


class S3Kind(InProject[S3Connector]):
    """S3 connectors."""

    kind = Kind(
        "S3 connector",
        "s3",
        "project",
        {
            "bucket": Field(required=True),
            "endpoint": Field(),
            "region": Field(),
            "prefix": Field(),
            "access-key-secret": Field(names="secret"),
            "secret-key-secret": Field(names="secret"),
            "read-write": Field(Shape.FLAG),
        },
    )

    def __init__(self, connectors: Connectors, secrets: Secrets, places: Places) -> None:
        super().__init__(connectors, places)
        self._connectors = connectors
        self._secrets = secrets

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        return await _by_name(who, await super().present(who), self.kind, self._secrets, self._places)

    def fields_of(self, resource: Resource[S3Connector]) -> Mapping[str, Value]:
        """See :class:`InProject`."""
        body = resource.body
        return {
            "bucket": body.bucket,
            "endpoint": body.endpoint,
            "region": body.region,
            "prefix": body.prefix,
            "access-key-secret": body.access_key_secret,
            "secret-key-secret": body.secret_key_secret,
            "read-write": not body.read_only,
        }

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        check_connector(entry.key.path[-1], _connector(Fields(entry.fields)))

    async def set(self, who: Subject, project_id: str, name: str, fields: Fields) -> None:
        """See :class:`InProject`."""
        await self._connectors.set(who, project_id, name, _connector(fields))


def _connector(fields: Fields) -> S3Connector:
    return S3Connector(
        fields.text("bucket"),
        fields.text("endpoint"),
        fields.text("region"),
        fields.text("prefix"),
        fields.text("access-key-secret"),
        fields.text("secret-key-secret"),
        not fields.flag("read-write"),
    )


class SparkKind(InProject[SparkConnector]):
    """Spark connectors."""

    kind = Kind(
        "Spark connector",
        "spark",
        "project",
        {
            "mode": Field(),
            "host": Field(),
            "params": Field(Shape.LABELS),
            "secret-params": Field(Shape.LABELS, names="secret"),
        },
    )

    def __init__(self, sparks: Sparks, secrets: Secrets, places: Places) -> None:
        super().__init__(sparks, places)
        self._sparks = sparks
        self._secrets = secrets

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        return await _by_name(who, await super().present(who), self.kind, self._secrets, self._places)

    def fields_of(self, resource: Resource[SparkConnector]) -> Mapping[str, Value]:
        """See :class:`InProject`."""
        body = resource.body
        return {
            "mode": body.mode.name.lower(),
            "host": body.host,
            "params": tuple(sorted(body.params)),
            "secret-params": tuple(sorted(body.secret_params)),
        }

    def canonical(self, entry: Entry) -> Entry:
        """See :class:`Hand`; a mode may be spelled as the vendor's client spells it."""
        mode = str(entry.fields.get("mode", "")).lower().removeprefix("spark_")
        return replace(entry, fields={**entry.fields, "mode": mode or "connect"}) if "mode" in entry.fields else entry

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        check_spark(entry.key.path[-1], _spark(Fields(entry.fields)))

    async def set(self, who: Subject, project_id: str, name: str, fields: Fields) -> None:
        """See :class:`InProject`."""
        await self._sparks.set(who, project_id, name, _spark(fields))


def _spark(fields: Fields) -> SparkConnector:
    mode = fields.text("mode").upper() or SparkMode.CONNECT.name
    if mode not in SparkMode.__members__:
        there = ", ".join(known.lower() for known in SparkMode.__members__)
        raise InvalidArgumentError(f"mode: there is no {mode.lower()[:100]!r}; there are: {there}")
    return SparkConnector(SparkMode[mode], fields.text("host"), fields.labels("params"), fields.labels("secret-params"))


def _value(read: ReadValue, reference: Reference) -> str:
    value = read(reference)
    if value is None:
        raise NotFoundError(f"{reference} is not there any more")
    return value


async def _by_name(who: Subject, entries: list[Entry], kind: Kind, secrets: Secrets, places: Places) -> list[Entry]:
    """With secrets by their names: a single command may have named one by its id."""
    names: dict[Path, dict[str, str]] = {}
    for place, project in await places.projects(who):
        names[place] = {secret.id: secret.name for secret in await secrets.all(who, project.id)}
    to_secret = [name for name, of in kind.fields.items() if of.names == "secret"]
    found: list[Entry] = []
    for entry in entries:
        known = names.get(entry.key.path[:-1], {})
        named = {name: _with_names(entry.fields[name], known) for name in to_secret}
        found.append(replace(entry, fields={**entry.fields, **named}))
    return found


def _with_names(value: Value, known: Mapping[str, str]) -> Value:
    if isinstance(value, tuple):
        return tuple((name, known.get(text, text)) for name, text in value)
    return known.get(value, value) if isinstance(value, str) else value
