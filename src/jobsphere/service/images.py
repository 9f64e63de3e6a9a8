"""The images of a project's jobs: what its own resources say, before the container engine is asked."""

from __future__ import annotations

from dataclasses import replace

from jobsphere.domain.access import Action
from jobsphere.domain.attempt import ImagePlan
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.image import complete
from jobsphere.domain.job import DockerImageSpec, Job, JobSpec
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import Images
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import ResourceStore, Sealer, sealed_secret
from jobsphere.domain.resources import DockerImage, Resource, check_name
from jobsphere.service.resources import Backing, Resources


class ImageResources(Resources[DockerImage]):
    """What can be done with the images that a project has under a name."""

    def __init__(self, backing: Backing, sealer: Sealer) -> None:
        super().__init__(DockerImage, backing)
        self._sealer = sealer

    async def add(
        self,
        who: Subject,
        project_id: str,
        name: str,
        image: str,
        username: str = "",
        secret: str = "",
        password: str = "",
    ) -> Resource[DockerImage]:
        """Give an image a name and an id, and maybe a login: its password by a secret of the project, or as it is.

        Raises:
            NotFoundError: no such project.
            AlreadyExistsError: the project has an image of that name.
            InvalidArgumentError: the name or the image is none, or half of the login is missing.
            FailedPreconditionError: the project has no such secret.
        """
        body = await self._body(who, project_id, name, image, username, secret, password)
        return await self._add(who, project_id, name, body)

    async def set(
        self,
        who: Subject,
        project_id: str,
        name: str,
        image: str,
        username: str = "",
        secret: str = "",
        password: str | None = "",
    ) -> Resource[DockerImage]:
        """As :meth:`add`; one that is there gets to be so, under its id. ``password`` None: the one that is stored."""
        if password is not None:
            body = await self._body(who, project_id, name, image, username, secret, password)
            return await self._set(who, project_id, name, lambda _: body)
        stored = (await self.find(who, project_id, name, Action.RESOURCE_CHANGE)).body.password_sealed
        reference = check_image(name, image, username, secret, bool(stored))
        return await self._set(
            who,
            project_id,
            name,
            lambda was: DockerImage(reference, username, secret, was.password_sealed if was else stored),
        )

    async def holds(self, who: Subject, project_id: str, name: str, password: str) -> bool:
        """Whether that is the password that is sealed with the image.

        Raises:
            NotFoundError: no such project, or no such image.
            CorruptedError: none of the keys opens it.
        """
        sealed = (await self.find(who, project_id, name, Action.RESOURCE_CHANGE)).body.password_sealed
        return bool(sealed) and self._sealer.holds(project_id, sealed, password)

    async def activate(self, who: Subject, project_id: str, named: str) -> Operation:
        """Make sure that jobs can use it: they always can.

        Raises:
            NotFoundError: no such project, or no such image in it.
        """
        await self.find(who, project_id, named, Action.RESOURCE_CHANGE)
        return await self._done(who, project_id, OperationKind.ACTIVATE_IMAGE)

    async def _body(
        self, who: Subject, project_id: str, name: str, image: str, username: str, secret: str, password: str
    ) -> DockerImage:
        await self._backing.access.project(who, project_id, Action.RESOURCE_CHANGE)
        reference = check_image(name, image, username, secret, bool(password))
        if secret:
            await sealed_secret(self._backing.resources, project_id, secret, "password")
        sealed = self._sealer.seal(project_id, password) if password else ""
        return DockerImage(reference, username, secret, sealed)

    def _uses(self, job: Job, resource: Resource[DockerImage]) -> bool:
        return job.spec.env.docker_image_resource_id in (resource.name, resource.id)


def check_image(name: str, image: str, username: str, secret: str, has_password: bool) -> str:
    """The complete reference of an image that a project may have.

    Raises:
        InvalidArgumentError: the name or the image is none, or half of the login is missing.
    """
    check_name(name)
    reference = complete(image)
    if reference is None:
        shown = "the image" if "@" in image else repr(image[:200])
        raise InvalidArgumentError(f"image: {shown} is none; write it as registry/name:tag")
    if bool(username) is not bool(secret or has_password) or (secret and has_password):
        raise InvalidArgumentError("a username goes with one password: by a secret, or by its value")
    if ":" in username or any(not c.isprintable() for c in username):
        raise InvalidArgumentError("username: may hold no colon and no control character")
    return reference


class ProjectImages:
    """The :class:`jobsphere.domain.ports.Images` that jobs are given.

    Args:
        engine: The images of the host, which know nothing of projects.
        resources: Where the projects' images and secrets are.
    """

    def __init__(self, engine: Images, resources: ResourceStore) -> None:
        self._engine = engine
        self._resources = resources

    async def accept(self, project_id: str, spec: JobSpec) -> JobSpec:
        """See :meth:`jobsphere.domain.ports.Images.accept`."""
        resolved = await self._resolved(project_id, spec)
        await self._password(project_id, resolved)
        try:
            accepted = await self._engine.accept(project_id, resolved)
        except InvalidArgumentError as error:
            own = await self._resources.list_resources(DockerImage, project_id)
            of_project = "".join(f", {image.name} ({image.id})" for image in own)
            raise InvalidArgumentError(error.public + of_project) from error
        return accepted if resolved is spec else spec

    async def plan(self, project_id: str, spec: JobSpec) -> ImagePlan | None:
        """See :meth:`jobsphere.domain.ports.Images.plan`."""
        resolved = await self._resolved(project_id, spec)
        plan = await self._engine.plan(project_id, resolved)
        password = await self._password(project_id, resolved)
        return replace(plan, password_sealed=password) if plan and password else plan

    async def _resolved(self, project_id: str, spec: JobSpec) -> JobSpec:
        """The spec with the project's image of that id or name, written out; other ids are the engine's to know."""
        named = spec.env.docker_image_resource_id
        for image in await self._resources.list_resources(DockerImage, project_id) if named else ():
            if named in (image.id, image.name):
                body = image.body
                by_url = DockerImageSpec(
                    body.reference,
                    body.username,
                    password_ds_secret_name=body.password_secret,
                    password_sealed=body.password_sealed,
                )
                return replace(spec, env=replace(spec.env, docker_image_resource_id="", docker_image_spec=by_url))
        return spec

    async def _password(self, project_id: str, spec: JobSpec) -> str:
        """The sealed password that the spec names; empty if it names none."""
        image = spec.env.docker_image_spec
        if image is None or not image.password_ds_secret_name:
            return ""
        where = "env.docker_image_spec.password_ds_secret_name"
        return await sealed_secret(self._resources, project_id, image.password_ds_secret_name, where)
