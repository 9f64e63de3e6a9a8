"""Which nodes a cluster has: the folder ``nodes/`` of the shared one, where agents and operators say so.

::

    nodes/NAME.json    an agent answers for this node, or did so until it was killed
    nodes/NAME.lost    the node is gone with all that ran there; the text says how that is known
    nodes/NAME.drain   the node takes no new attempts; the text says why
    nodes/NAME.lock    held by the living agent of that name; stays for ever

A marker may be there without an agent: an attempt may be a node's that has ended in good order.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from jobsphere.durable import Point, alone, durable, locked, sync_directory, write_private
from jobsphere.runner.records import dumps, loads

FOLDER = "nodes"
"""In the shared folder."""
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")
_AGENT, _LOST, _DRAIN, _LOCK = ".json", ".lost", ".drain", ".lock"
_TEXT_CHARACTERS = 500
_PATIENCE_S, _LOOK_AGAIN_S = 1.0, 0.05
"""Whoever asks whether an agent lives has its lock for a moment, and one that was killed a moment longer."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What an agent says of itself. ``url``: where servers reach it."""

    name: str
    url: str
    capacity: NodeCapacity
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """All that is said of one node. ``lost`` and ``drain``: why, None where it is not said."""

    agent: Registration | None = None
    lost: str | None = None
    drain: str | None = None


class Registry:
    """The nodes of the cluster that has this shared folder. Everything here blocks.

    Every method that is given a name raises InvalidArgumentError for one that no node can have.
    """

    def __init__(self, shared: Path) -> None:
        self._folder = shared / FOLDER

    def read(self) -> Mapping[str, Entry]:
        """All that is said now, by the nodes' names. A file that is damaged, or gone meanwhile, says nothing.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            files = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return {}
        names = {stem for stem, end in map(os.path.splitext, files) if end in {_AGENT, _LOST, _DRAIN}}
        return {name: self._entry(name) for name in sorted(names) if _NAME.fullmatch(name)}

    @contextmanager
    def register(self, agent: Registration) -> Generator[None]:
        """Say that the node is there, for as long as this lasts. One that was lost is not lost any more.

        Raises:
            AlreadyExistsError: another living agent has the name.
        """
        self._made()
        with self._held(agent.name):
            self._write(agent.name, _AGENT, dumps(agent))
            self._remove(agent.name, _LOST)
            try:
                yield
            finally:
                self._remove(agent.name, _AGENT)

    def keep(self, agent: Registration) -> bool:
        """Say it again if it is not said any more: by the agent that is registered. Whether it was said still."""
        if self._entry(agent.name).agent == agent:
            return True
        self._made()
        self._write(agent.name, _AGENT, dumps(agent))
        return False

    def lives(self, name: str) -> bool:
        """Whether an agent of this name is running."""
        path = self._path(name, _LOCK)
        if not path.exists():
            return False
        with alone(path) as free:
            return not free

    def lose(self, name: str, reason: str) -> None:
        """The node is gone with all that ran there: its jobs end. May be said of one that nobody knows any more."""
        self._mark(name, _LOST, reason)

    def drain(self, name: str, reason: str) -> None:
        """The node is to take no new attempts.

        Raises:
            NotFoundError: there is no such node.
        """
        self._known(name)
        self._mark(name, _DRAIN, reason)

    def restore(self, name: str) -> None:
        """Take :meth:`drain` and :meth:`lose` back.

        Raises:
            NotFoundError: there is no such node.
        """
        self._known(name)
        self._remove(name, _DRAIN)
        self._remove(name, _LOST)

    def forget(self, name: str) -> None:
        """Remove all that is said of a node.

        Raises:
            NotFoundError: there is no such node.
            FailedPreconditionError: its agent is running.
        """
        self._known(name)
        if self.lives(name):
            raise FailedPreconditionError(f"the agent of node {name!r} is running; stop it first")
        for end in (_AGENT, _DRAIN, _LOST):
            self._remove(name, end)

    @contextmanager
    def _held(self, name: str) -> Generator[None]:
        until = time.monotonic() + _PATIENCE_S
        while True:
            with alone(self._path(name, _LOCK)) as ours:
                if ours:
                    yield
                    return
            if time.monotonic() > until:
                raise AlreadyExistsError(
                    f"an agent of the name {name!r} is running in this cluster; stop it first, or choose another --name"
                )
            time.sleep(_LOOK_AGAIN_S)

    def _entry(self, name: str) -> Entry:
        text = self._read(name, _AGENT)
        agent = None
        if text is not None:
            try:
                agent = loads(Registration, text)
            except ValueError:  # of another version, or somebody wrote it by hand
                agent = None
        if agent is not None and agent.name != name:
            agent = None
        return Entry(agent, self._words(name, _LOST), self._words(name, _DRAIN))

    def _words(self, name: str, end: str) -> str | None:
        text = self._read(name, end)
        return None if text is None else text.decode(errors="replace").strip()[:_TEXT_CHARACTERS]

    def _read(self, name: str, end: str) -> bytes | None:
        try:
            return self._path(name, end).read_bytes()
        except FileNotFoundError:
            return None

    def _known(self, name: str) -> None:
        if self._entry(name) == Entry():
            there = ", ".join(self.read()) or "none"
            raise NotFoundError(f"there is no node {name!r}; there are: {there}")

    def _mark(self, name: str, end: str, reason: str) -> None:
        self._made()
        self._write(name, end, f"{reason}\n".encode())

    def _made(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write(self, name: str, end: str, content: bytes) -> None:
        path = self._path(name, end)
        with locked(self._folder):
            write_private(path, content, Point.NODE_TOLD)

    def _remove(self, name: str, end: str) -> None:
        path = self._path(name, end)
        if path.exists():
            with durable(Point.NODE_TOLD):
                path.unlink(missing_ok=True)
            sync_directory(self._folder, Point.NODE_TOLD)

    def _path(self, name: str, end: str) -> Path:
        return self._folder / f"{checked_name(name)}{end}"


def checked_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidArgumentError: no node can have it.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(f"a node's name is 1 to 63 of 0-9, A-Z, a-z, ., _ and -, not {name!r}")
    return name
