"""What the two clients do not share: how to call, to wait, and to work with files meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from typing import ParamSpec, TypeVar

import grpc
from httpx import Client as Http

from jobsphere.client.connection import Connection

__all__ = ["Channel", "Http", "open_channel", "sleep", "to_thread"]

P = ParamSpec("P")
T = TypeVar("T")
Channel = grpc.Channel


def open_channel(connection: Connection) -> Channel:
    """A channel to the server; it connects when it is first used."""
    return grpc.secure_channel(connection.endpoint, connection.credentials, connection.options)


def to_thread(function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    """Call it: who blocks anyway needs no thread."""
    return function(*args, **named)
