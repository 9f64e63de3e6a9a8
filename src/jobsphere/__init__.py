"""jobsphere: the DataSphere Jobs service in the open, in Python.

:class:`Client` and :class:`AsyncClient` speak to a server; see :mod:`jobsphere.client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsphere.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    """The client when it is first asked for: a supervisor, which imports this package too, never does."""
    if name in __all__:
        from jobsphere import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
