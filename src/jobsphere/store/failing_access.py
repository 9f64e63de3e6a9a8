"""Any store that fails where a test wants it to, by the names of its calls."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from jobsphere.store.failing import Faults

T = TypeVar("T")


class Failing(Faults, Generic[T]):
    """A store around another one, with faults. Without any it is the other one."""

    def __init__(self, inner: T) -> None:
        super().__init__()
        self._inner = inner

    @property
    def store(self) -> T:
        """Itself, as the port that it is."""
        return cast("T", self)

    def __getattr__(self, name: str) -> Any:
        """The inner store's call of that name, or the fault."""
        method = getattr(self._inner, name)

        async def call(*args: object, **options: object) -> object:
            return await self._call(name, lambda: method(*args, **options))

        return call
