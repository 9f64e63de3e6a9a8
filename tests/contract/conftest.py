"""A database of PostgreSQL for each test, made as a copy of one that the migrations have made."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.postgres import PASSWORD, Postgres

from jobsphere.store.postgres_connection import Address
from jobsphere.store.postgres_schema import ensure_schema


@pytest.fixture(scope="session")
def made(postgres: Postgres) -> str:
    """The database that the others are copies of."""
    name = postgres.new_database()
    # In a thread: a test may ask from within its event loop.
    making = threading.Thread(target=lambda: asyncio.run(ensure_schema(Address(postgres.url(name), PASSWORD))))
    making.start()
    making.join()
    return name


@pytest.fixture
def address(postgres: Postgres, made: str) -> Address:
    """An empty database of this version's schema."""
    return Address(postgres.url(postgres.new_database(made)), PASSWORD)
