"""One real server for all acceptance tests that do not stop it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import EXAMPLES, Client, LiveServer, live_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("acceptance") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Client:
    return server.client()


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the examples."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / name))

    return copy
