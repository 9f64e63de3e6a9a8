"""What is declared, and what there is: the frame in which each kind is read and changed by its own service.

A kind is one class here (:class:`Hand`) and its place in the list of hands: each after those that it names or is in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath

from jobsphere.domain.declared import (
    STORED,
    Declared,
    Entry,
    Key,
    Kind,
    Path,
    Plan,
    Problem,
    Reference,
    Shape,
    Step,
    Value,
    Verb,
    merged,
    plan,
    problems,
)
from jobsphere.domain.errors import JobsphereError, NotFoundError
from jobsphere.domain.resource import Labels, Project, Subject
from jobsphere.service.communities import Communities
from jobsphere.service.projects import Projects

ReadValue = Callable[[Reference], str | None]
"""The value that a reference leads to; None if the variable or the file is not there."""


class Fields:
    """The fields of an entry by their types, which the reader of the file has seen to."""

    def __init__(self, fields: Mapping[str, Value]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """A text, or a folder's path."""
        value = self._fields[name]
        assert isinstance(value, str)
        return value

    def flag(self, name: str) -> bool:
        """A truth value."""
        return self._fields[name] is True

    def labels(self, name: str = "labels") -> Labels:
        """Labels."""
        value = self._fields[name]
        assert isinstance(value, tuple)
        return value

    def reference(self, name: str) -> Reference:
        """Where a value is."""
        value = self._fields[name]
        assert isinstance(value, Reference)
        return value


class Hand(ABC):
    """How one kind is read and changed. What is changed goes through the service that everybody uses."""

    kind: Kind

    @abstractmethod
    async def present(self, who: Subject) -> list[Entry]:
        """All of the kind that are there."""

    def canonical(self, entry: Entry) -> Entry:
        """A declared one with its fields spelled as they are stored."""
        return entry

    @abstractmethod
    def check(self, entry: Entry) -> None:
        """Refuse what the service would refuse whatever the state.

        Raises:
            InvalidArgumentError: it would.
        """

    @abstractmethod
    async def add(self, who: Subject, entry: Entry) -> None:
        """Make it."""

    async def change(self, who: Subject, entry: Entry) -> None:
        """Let what is there be so; for kinds that have a field that can change."""
        raise NotImplementedError

    @abstractmethod
    async def remove(self, who: Subject, path: Path) -> None:
        """Remove it.

        Raises:
            FailedPreconditionError: it is in use by now.
        """

    async def holds(self, who: Subject, path: Path, wanted: str) -> bool:
        """Whether that value (or what is in that folder) is what is stored; for kinds with such a field."""
        raise NotImplementedError


class Places:
    """Communities and projects by the names that lead to them. Sees everything: for the operator."""

    def __init__(self, communities: Communities, projects: Projects) -> None:
        self._communities = communities
        self._projects = projects

    async def community_id(self, who: Subject, path: Path) -> str:
        """The id of the community.

        Raises:
            NotFoundError: there is none.
        """
        for community in await self._communities.all(who):
            if community.name == path[0]:
                return community.id
        raise NotFoundError(f"there is no community {path[0]!r} any more")

    async def projects(self, who: Subject) -> list[tuple[Path, Project]]:
        """All projects, oldest first."""
        names = {community.id: community.name for community in await self._communities.all(who)}
        return [((names[p.community_id], p.name), p) for p in await self._projects.all() if p.community_id in names]

    async def project_id(self, who: Subject, path: Path) -> str:
        """The id of the project that the path leads to, or into.

        Raises:
            NotFoundError: there is none.
        """
        for place, project in await self.projects(who):
            if place == path[:2]:
                return project.id
        raise NotFoundError(f"there is no project {'/'.join(path[:2])!r} any more")


class Declaring:
    """Plans what a file asks for, and does it."""

    def __init__(self, hands: Sequence[Hand], read: ReadValue) -> None:
        self._hands = {hand.kind.name: hand for hand in hands}
        self._read = read
        self.kinds = tuple(hand.kind for hand in hands)

    async def present(self, who: Subject) -> list[Entry]:
        """All that is there."""
        return [entry for hand in self._hands.values() for entry in await hand.present(who)]

    async def plan(self, who: Subject, declared: Declared, *, prune: bool) -> tuple[Plan, list[Problem], list[str]]:
        """What is to be done; what is wrong with the file, and then nothing is; and what is worth a word.

        A secret whose variable or file is not there stays as it is, if it is there.
        """
        spelled = tuple(self._hands[entry.key.kind].canonical(entry) for entry in declared.entries)
        declared = replace(declared, entries=spelled)
        present = {entry.key: entry for entry in await self.present(who)}
        found, notes = problems(self.kinds, declared, present.values()), list[str]()
        for entry in declared.entries:
            name = ""
            try:
                for name, shape in self._references(entry):
                    present |= await self._compared(who, entry, name, shape, present, notes)
                name = ""
                hand = self._hands[entry.key.kind]
                hand.check(merged(hand.kind, entry, present.get(entry.key)))
            except JobsphereError as error:
                where = f"{entry.key}: {name}" if name else str(entry.key)
                found.append(Problem(entry.lines.get(name, 0), f"{where}: {error.public}"))
        planned = Plan() if found else plan(self.kinds, declared, list(present.values()), prune=prune)
        for step in planned.steps:
            if step.verb is Verb.REPLACE and step.was and step.was.in_use:
                text = f"{step.entry.key}: it cannot be made anew now: {step.was.in_use}"
                found.append(Problem(step.entry.lines.get("", 0), text))
        if found:
            return Plan(), sorted(set(found), key=lambda p: (p.line, p.text)), []
        return planned, [], notes

    async def take(self, who: Subject, step: Step) -> None:
        """Do one step.

        Raises:
            JobsphereError: what the kind's service says.
        """
        hand = self._hands[step.entry.key.kind]
        if step.verb in (Verb.REMOVE, Verb.REPLACE):
            await hand.remove(who, step.entry.key.path)
        if step.verb is Verb.CHANGE:
            await hand.change(who, step.entry)
        elif step.verb is not Verb.REMOVE:
            await hand.add(who, step.entry)

    def _references(self, entry: Entry) -> list[tuple[str, Shape]]:
        """The declared fields whose content is elsewhere."""
        fields = self._hands[entry.key.kind].kind.fields
        elsewhere = (Shape.SECRET, Shape.FOLDER)
        return [(name, fields[name].shape) for name in entry.fields if fields[name].shape in elsewhere]

    async def _compared(
        self, who: Subject, entry: Entry, name: str, shape: Shape, present: Mapping[Key, Entry], notes: list[str]
    ) -> dict[Key, Entry]:
        """What is there, with the field as it is declared if that leads to what is stored."""
        key, declared, was = entry.key, entry.fields[name], present.get(entry.key)
        wanted = self._read(declared) if isinstance(declared, Reference) else str(declared)
        stored = was is not None and (shape is Shape.FOLDER or was.fields[name] == STORED)
        if wanted is None:
            if not stored:
                raise NotFoundError(f"{declared} is not there, and the server has no value yet")
            notes.append(f"{key}: {declared} is not there; its {name} stays as it is")
        if shape is Shape.FOLDER and not (wanted and FilePath(wanted).is_dir()):
            raise NotFoundError(f"there is no folder {wanted}")
        if was is None or not stored:
            return {}
        if wanted is not None and not await self._hands[key.kind].holds(who, key.path, wanted):
            return {}
        return {key: replace(was, fields={**was.fields, name: declared})}
