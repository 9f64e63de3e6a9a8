"""What the two clients do not share: how to call, to wait, and to work with files meanwhile."""

from __future__ import annotations

from asyncio import sleep, to_thread

import grpc
import grpc.aio
from httpx import AsyncClient as Http

from jobsphere.client.connection import Connection

__all__ = ["Channel", "Http", "open_channel", "sleep", "to_thread"]

Channel = grpc.aio.Channel


def open_channel(connection: Connection) -> Channel:
    """A channel to the server; it connects when it is first used."""
    return grpc.aio.secure_channel(connection.endpoint, connection.credentials, connection.options)
