"""One real server for all acceptance tests that do not stop it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.live import EXAMPLES, PLACE, Client, LiveServer, live_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("acceptance")
    with live_at(os.environ[PLACE], folder) if PLACE in os.environ else live_server(folder / "data") as running:
        yield running


def live_at(place: str, folder: Path) -> AbstractContextManager[LiveServer]:
    from tests.places import live_place  # what it takes is imported where it is asked for only

    return live_place(place, folder)


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Client:
    return server.client()


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the examples."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / name))

    return copy
