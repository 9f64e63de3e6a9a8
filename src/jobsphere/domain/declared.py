"""Resources in one shape, whether a file declares them or they are there, and the steps from the one to the other.

What a field means is said by its :class:`Field`, what a kind has by its :class:`Kind`: nothing here knows one by name.
A field that is not declared stays as it is, and of something new has the shape's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from jobsphere.domain.resource import Labels

Path = tuple[str, ...]
"""The names that lead to a thing: ``(community, project, secret)``."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a value is: in a variable or in a file. The value itself is never in it.

    ``stored``: only the server has it. With nothing set: there is no value.
    """

    variable: str = ""
    file: str = ""
    stored: bool = False

    def __str__(self) -> str:
        if self.stored:
            return "(the stored value)"
        if self.variable:
            return f"(the variable {self.variable})"
        return f"(the file {self.file})" if self.file else "(none)"


STORED = Reference(stored=True)
Value = str | bool | Labels | Reference
_NOTHING: Mapping[str, Value] = MappingProxyType({})


class Shape(Enum):
    """What a field holds; the value is its default."""

    TEXT = ""
    FLAG = False
    LABELS = ()
    SECRET = Reference()
    """A value by reference."""
    FOLDER = "."
    """A folder of this host, of which the content counts. Always to be declared, so it has no real default."""


class OnChange(Enum):
    """What becomes of a thing whose field is to have another value."""

    UPDATE = 1
    REPLACE = 2
    """It is removed and made anew, under another id."""
    REFUSE = 3


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind.

    ``names``: it names a thing of that kind in the same project; labels do by their values.
    ``instead_of``: the other field goes when it is set.
    """

    shape: Shape = Shape.TEXT
    required: bool = False
    names: str = ""
    instead_of: str = ""
    on_change: OnChange = OnChange.UPDATE


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing. ``parent``: the kind that it is in (empty: none); a ``grant`` ends in user and role."""

    name: str
    section: str
    parent: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict[str, Field])
    grant: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """What a thing is known by."""

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind} {'/'.join(self.path)}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A thing: of a file with those fields that are written there, of the server with all.

    ``lines``: where the file has it, and (by name) its fields. ``in_use``: why it must not go. ``product``: a job made
    it; no file declares it.
    """

    key: Key
    fields: Mapping[str, Value] = field(default_factory=dict[str, Value])
    lines: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)
    in_use: str = ""
    product: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a file, and where (from 1)."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What a file says. ``sections``: those that it has, by kind and parent, so that prune can be held to them."""

    entries: tuple[Entry, ...] = ()
    sections: frozenset[Key] = frozenset()


class Verb(Enum):
    """What is done to a thing; the value is its sign in a diff."""

    ADD = "+"
    CHANGE = "~"
    REPLACE = "±"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class Step:
    """One change. ``entry`` has all fields as they are to be; of what is removed, and in ``was``, as they are."""

    verb: Verb
    entry: Entry
    was: Entry | None = None

    def changes(self) -> list[tuple[str, Value | None, Value | None]]:
        """Field, value before and value after, of the fields that differ."""
        if self.verb is Verb.REMOVE:
            return []
        before: Mapping[str, Value] = self.was.fields if self.was else _NOTHING
        return [(n, before.get(n), v) for n, v in self.entry.fields.items() if before.get(n) != v]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in the order to take them, and what prune leaves, each with the reason."""

    steps: tuple[Step, ...] = ()
    kept: tuple[tuple[Key, str], ...] = ()


def defaults(kind: Kind) -> dict[str, Value]:
    """The fields of a thing of which nothing is said."""
    return {name: of.shape.value for name, of in kind.fields.items()}


def merged(kind: Kind, entry: Entry, was: Entry | None) -> Entry:
    """The thing as it is to be: what is declared over what is there."""
    blank = defaults(kind)
    fields = blank | dict(was.fields if was else _NOTHING) | dict(entry.fields)
    for name, value in entry.fields.items():
        other = kind.fields[name].instead_of
        if other and other not in entry.fields and value != blank[name]:
            fields[other] = blank[other]
    return Entry(entry.key, fields, entry.lines)


def plan(kinds: Sequence[Kind], declared: Declared, present: Sequence[Entry], *, prune: bool) -> Plan:
    """What is to be done, so that all that is declared is there.

    Args:
        kinds: All kinds, each after those that it names or is in.
        declared: What the file says, without a :func:`problems`.
        present: All that is there. A reference or folder that leads to what is stored stands there as it is declared.
        prune: Also remove what the file's sections do not name and nobody uses.
    """
    order = {kind.name: number for number, kind in enumerate(kinds)}
    there = {entry.key: entry for entry in present}
    steps = [
        step
        for entry in sorted(declared.entries, key=lambda e: order[e.key.kind])
        if (step := _step(kinds[order[entry.key.kind]], entry, there.get(entry.key)))
    ]
    if not prune:
        return Plan(tuple(steps))
    going, kept = _pruned(kinds, declared, there, steps)
    going.sort(key=lambda e: -order[e.key.kind])
    return Plan((*steps, *(Step(Verb.REMOVE, entry, entry) for entry in going)), kept)


def problems(kinds: Sequence[Kind], declared: Declared, present: Iterable[Entry]) -> list[Problem]:
    """What is wrong with a file that can be read: a field that is missing or cannot change, a name that nothing has."""
    there, by_name = {entry.key: entry for entry in present}, {kind.name: kind for kind in kinds}
    known = there.keys() | {entry.key for entry in declared.entries}
    found: list[Problem] = []
    for entry in declared.entries:
        kind, was = by_name[entry.key.kind], there.get(entry.key)
        for name, of in kind.fields.items():
            line = entry.lines.get(name, entry.lines.get("", 0))
            declares = name in entry.fields
            if of.required and not declares and was is None:
                found.append(Problem(line, f"{entry.key}: lacks {name}"))
            if declares and was and of.on_change is OnChange.REFUSE and was.fields[name] != entry.fields[name]:
                found.append(Problem(line, f"{entry.key}: {name} cannot be changed; remove it first, then apply this"))
        for key in uses(kind, entry):
            if key not in known:
                line = next((entry.lines[n] for n, v in entry.fields.items() if key.path[-1] in _named(v)), 0)
                text = f"{entry.key}: there is no {key}, neither in the file nor on the server"
                found.append(Problem(line or entry.lines.get("", 0), text))
    return found


def uses(kind: Kind, entry: Entry) -> list[Key]:
    """The things that it names: with one of them gone it would be broken."""
    if kind.grant:
        return [Key("user", entry.key.path[-2:-1])]
    named = ((of.names, _named(entry.fields.get(name, ""))) for name, of in kind.fields.items() if of.names)
    return [Key(names, (*entry.key.path[:-1], value)) for names, values in named for value in values]


def _named(value: Value) -> list[str]:
    """The names in a field that names things."""
    if isinstance(value, tuple):
        return [text for _, text in value]
    return [value] if isinstance(value, str) and value else []


def parent_of(kind: Kind, key: Key) -> Key:
    """What it is in; for the outermost kinds a key without a path."""
    return Key(kind.parent, key.path[:-2] if kind.grant else key.path[:-1])


def _step(kind: Kind, entry: Entry, was: Entry | None) -> Step | None:
    wanted = merged(kind, entry, was)
    if was is None:
        return Step(Verb.ADD, wanted)
    differing = [name for name, value in wanted.fields.items() if was.fields[name] != value]
    if not differing:
        return None
    again = any(kind.fields[name].on_change is OnChange.REPLACE for name in differing)
    return Step(Verb.REPLACE if again else Verb.CHANGE, wanted, was)


def _pruned(
    kinds: Sequence[Kind], declared: Declared, there: Mapping[Key, Entry], steps: Sequence[Step]
) -> tuple[list[Entry], tuple[tuple[Key, str], ...]]:
    """What goes, and what stays although no section names it. Whatever stays keeps all that it uses or is in."""
    by_name = {kind.name: kind for kind in kinds}
    stays = {entry.key: entry for entry in declared.entries} | {step.entry.key: step.entry for step in steps}
    going: dict[Key, Entry] = {}
    named: set[Key] = set()
    for kind in kinds:
        for key, entry in there.items():
            if key.kind == kind.name and key not in stays and not entry.product:
                parent = parent_of(kind, key)
                if Key(kind.name, parent.path) in declared.sections:
                    named.add(key)
                if key in named or parent in going:
                    going[key] = entry
    remaining = {key: stays.get(key, entry) for key, entry in there.items() if key not in going} | stays
    kept: list[tuple[Key, str]] = []
    while reasons := _reasons(by_name, going, remaining, named):
        for key, why in reasons.items():
            remaining[key] = going.pop(key)
            if key in named:
                kept.append((key, why))
    return list(going.values()), tuple(kept)


def _reasons(
    by_name: Mapping[str, Kind], going: Mapping[Key, Entry], remaining: Mapping[Key, Entry], named: set[Key]
) -> dict[Key, str]:
    """Of what is to go: what must stay, as matters are, and why."""
    users: dict[Key, str] = {}
    for key, entry in remaining.items():
        kind = by_name[key.kind]
        users |= dict.fromkeys((*uses(kind, entry), parent_of(kind, key)), f"{key} needs it")
    found = {key: entry.in_use or users.get(key, "") for key, entry in going.items()}
    for key in going:
        if key not in named and parent_of(by_name[key.kind], key) not in going:
            found[key] = "what it is in stays"
    return {key: why for key, why in found.items() if why}
