"""What the service and the engine need for the resources of projects; see :mod:`jobsphere.domain.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobsphere.domain.resources import B, Resource


class ResourceStore(Protocol):
    """The resources of all projects. A write that returned is durable."""

    async def add_resource(self, resource: Resource[B]) -> None:
        """Store a new one.

        Raises:
            AlreadyExistsError: its id, or its name for the kind within the project, is taken.
        """
        ...

    async def update_resource(self, new: Resource[B], was: Resource[B]) -> bool:
        """Replace ``was`` by ``new`` (of the same id, project, kind and name) if the stored version is ``was``'s.

        Returns:
            False if somebody was first, or it is gone: nothing was written; reload and decide again.
        """
        ...

    async def delete_resource(self, was: Resource[B]) -> bool:
        """Remove it; guarded like :meth:`update_resource`."""
        ...

    async def get_resource(self, kind: type[B], resource_id: str) -> Resource[B]:
        """The resource of that id.

        Raises:
            NotFoundError: there is none of that kind.
        """
        ...

    async def find_resource(self, kind: type[B], project_id: str, name: str) -> Resource[B]:
        """The project's resource of that name.

        Raises:
            NotFoundError: there is none of that kind.
        """
        ...

    async def list_resources(self, kind: type[B], project_id: str | None = None) -> Sequence[Resource[B]]:
        """The resources of a kind, oldest first; of all projects if none is named."""
        ...


class Sealer(Protocol):
    """Encrypts what is to be kept from everybody but the node, and from every other project."""

    def seal(self, project_id: str, secret: str) -> str:
        """The secret as ASCII text; no two are the same.

        Raises:
            FailedPreconditionError: the key cannot be had.
        """
        ...

    def resealed(self, project_id: str, sealed: str) -> str:
        """The same secret sealed with the key that seals now; ``sealed`` itself if it is that already.

        Raises:
            CorruptedError: none of the keys opens it.
            FailedPreconditionError: the key cannot be had.
        """
        ...
