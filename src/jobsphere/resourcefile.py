"""The file of resources: read with the line of everything, and written. The one place that knows its spelling. Pure.

Sections nest as the kinds do: a section maps names to things, and among a thing's fields are the sections of what is in
it. Scalars are text, whatever they look like: ``3.10`` is not a number, and ``on`` no truth value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from jobsphere.domain.access import ROLES, Scope, role_named
from jobsphere.domain.declared import Declared, Entry, Field, Key, Kind, Path, Problem, Reference, Shape, Value
from jobsphere.domain.errors import InvalidArgumentError

MAX_CHARS = 1 << 20
_MAX_DEPTH = 16
_PLAIN = re.compile(r"[A-Za-z0-9_/.][\w/.:@+-]*(?<!:)", re.ASCII)
_FLAGS = {"true": True, "false": False}
_HEAD = """\
# What this server has, for `jobsphere apply -f FILE`. Values of secrets are in no file: each is a variable's.
# A variable that is not set leaves what the server has; set it to give the value to a server that has none.
"""


def read(text: str, kinds: Sequence[Kind]) -> tuple[Declared, list[Problem]]:
    """What a file declares, as far as it can be read, and all that is wrong with how it is written."""
    reader = _Reader(kinds)
    if len(text) > MAX_CHARS:
        return Declared(), [Problem(1, f"has {len(text)} characters, while the limit is {MAX_CHARS}")]
    try:
        refused = _shape_problem(text)
        if refused:
            return Declared(), [refused]
        top = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Declared(), [Problem(mark.line + 1 if mark else 1, error.problem or error.context or "is no YAML")]
    except yaml.YAMLError:
        return Declared(), [Problem(1, "holds a character that cannot be part of YAML")]
    if top is None:
        reader.problem_at(1, "declares nothing")
    else:
        reader.things_in(top, Key("", ()), {})
    return Declared(tuple(reader.entries), frozenset(reader.sections)), reader.problems


def write(entries: Sequence[Entry], kinds: Sequence[Kind]) -> str:
    """The file that declares these, whole; a value that only the server has becomes a reference to a variable."""
    return "\n".join([_HEAD, *_Writer(entries, kinds).sections(Key("", ()), "")]) + "\n"


def _shape_problem(text: str) -> Problem | None:
    """Before anything is built of it: what a few bytes could blow up, or keep the parser busy with for long."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > _MAX_DEPTH:
            return Problem(line, "is nested too deeply")
        if documents > 1:
            return Problem(line, "holds a second document")
        if isinstance(event, yaml.AliasEvent):
            return Problem(line, "aliases (*name) are not supported; write the entries out")
    return None


@dataclass(slots=True)
class _Reader:
    kinds: Sequence[Kind]
    entries: list[Entry] = field(default_factory=list[Entry])
    sections: set[Key] = field(default_factory=set[Key])
    problems: list[Problem] = field(default_factory=list[Problem])

    def problem(self, node: Node, text: str) -> None:
        self.problem_at(node.start_mark.line + 1, text)

    def problem_at(self, line: int, text: str) -> None:
        self.problems.append(Problem(line, text))

    def things_in(self, node: Node, parent: Key, fields: Mapping[str, Field]) -> list[tuple[str, Node, Node]]:
        """Read the sections of what is in ``parent``: its own fields, which are left to read."""
        inside = {kind.section: kind for kind in self.kinds if kind.parent == parent.kind}
        left: list[tuple[str, Node, Node]] = []
        for name, key_node, value in self._pairs(node, str(parent) if parent.kind else "the file"):
            if name in fields:
                left.append((name, key_node, value))
            elif name not in inside:
                here = ", ".join([*fields, *inside])
                self.problem(key_node, f"{parent if parent.kind else 'the file'}: no {name!r} here; there are: {here}")
            elif isinstance(value, MappingNode):
                self.sections.add(Key(inside[name].name, parent.path))
                self._section(value, inside[name], parent)
            else:
                self.problem(value, f"{name}: maps names to what they are; write {{}} to say that there are none")
        return left

    def _section(self, node: MappingNode, kind: Kind, parent: Key) -> None:
        for name, key_node, value in self._pairs(node, kind.section):
            if kind.grant:
                self._roles(kind, (*parent.path, name), value)
            else:
                self._thing(kind, Key(kind.name, (*parent.path, name)), key_node, value)

    def _thing(self, kind: Kind, key: Key, key_node: Node, value: Node) -> None:
        at = len(self.entries)
        lines = {"": key_node.start_mark.line + 1}
        fields: dict[str, Value] = {}
        if self._is_reference(kind, value):
            pairs = [("value", key_node, value)]
        elif _is_null(value):
            pairs = []
        else:
            pairs = self.things_in(value, key, kind.fields)
        for name, field_node, field_value in pairs:
            lines[name] = field_node.start_mark.line + 1
            read_value = self._value(f"{key}: {name}", kind.fields[name].shape, field_value)
            if read_value is not None:
                fields[name] = read_value
        self.entries.insert(at, Entry(key, fields, lines))

    def _is_reference(self, kind: Kind, value: Node) -> bool:
        """A kind that is a value by reference and nothing else is written without naming its only field."""
        return list(kind.fields) == ["value"] and not _is_null(value)

    def _roles(self, kind: Kind, path: Path, value: Node) -> None:
        scope = Scope.PROJECT if kind.parent == "project" else Scope.COMMUNITY
        known: set[str] = set()
        for item in value.value if isinstance(value, SequenceNode) else [value]:
            text = self._text(f"{kind.section}: {path[-1]}", item)
            if text is None:
                continue
            try:
                role = role_named(text, scope).id
            except InvalidArgumentError as error:
                self.problem(item, f"{kind.section}: {path[-1]}: {error.public}")
                continue
            if role in known:
                self.problem(item, f"{kind.section}: {path[-1]}: {text} is there twice")
            known.add(role)
            self.entries.append(Entry(Key(kind.name, (*path, role)), lines={"": item.start_mark.line + 1}))

    def _value(self, where: str, shape: Shape, node: Node) -> Value | None:
        match shape:
            case Shape.LABELS:
                pairs = [(name, self._text(f"{where}: {name}", value)) for name, _, value in self._pairs(node, where)]
                return tuple(sorted((name, text) for name, text in pairs if text is not None))
            case Shape.SECRET:
                return self._reference(where, node)
            case Shape.FLAG:
                text = self._text(where, node)
                if text is not None and text not in _FLAGS:
                    self.problem(node, f"{where}: is true or false")
                return _FLAGS.get(text or "")
            case Shape.TEXT | Shape.FOLDER:
                return self._text(where, node)

    def _reference(self, where: str, node: Node) -> Reference | None:
        how = f"{where}: is {{env: VARIABLE}} or {{file: PATH}}, and never the value itself"
        if not isinstance(node, MappingNode):
            self.problem(node, how)
            return None
        found = {name: self._text(f"{where}: {name}", value) for name, _, value in self._pairs(node, where)}
        if len(found) != 1 or not found.keys() <= {"env", "file"}:
            self.problem(node, how)
            return None
        if not all(found.values()):
            return None
        return Reference(found.get("env") or "", found.get("file") or "")

    def _text(self, where: str, node: Node) -> str | None:
        if isinstance(node, ScalarNode) and not _is_null(node):
            return str(node.value)
        self.problem(node, f'{where}: is to be a text (an empty one is written as "")')
        return None

    def _pairs(self, node: Node, where: str) -> Iterator[tuple[str, Node, Node]]:
        """The entries of a mapping; what is none, or there twice, is a problem."""
        if not isinstance(node, MappingNode):
            self.problem(node, f"{where}: is to map names to what they are")
            return
        known: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or _is_null(key):
                self.problem(key, f"{where}: holds a name that is no text")
                continue
            if key.value in known:
                self.problem(key, f"{where}: {key.value!r} is there twice")
                continue
            known.add(key.value)
            yield key.value, key, value


class _Writer:
    def __init__(self, entries: Sequence[Entry], kinds: Sequence[Kind]) -> None:
        self._kinds = kinds
        self._entries = [entry for entry in entries if not entry.product]
        self._variables: set[str] = set()

    def sections(self, parent: Key, indent: str) -> Iterator[str]:
        for kind in self._kinds:
            if kind.parent != parent.kind:
                continue
            depth = len(parent.path)
            inside = [e for e in self._entries if e.key.kind == kind.name and e.key.path[:depth] == parent.path]
            if inside:
                yield f"{indent}{kind.section}:"
                yield from (
                    self._roles(kind, inside, depth, indent)
                    if kind.grant
                    else self._things(kind, inside, indent + "  ")
                )

    def _roles(self, kind: Kind, entries: Sequence[Entry], depth: int, indent: str) -> Iterator[str]:
        scope = Scope.PROJECT if kind.parent == "project" else Scope.COMMUNITY
        of: dict[str, list[str]] = {}
        for entry in entries:
            role = ROLES[entry.key.path[-1]]
            shown = role.level.name.lower() if role.scope is scope else role.id
            of.setdefault(entry.key.path[depth], []).append(shown)
        for account, roles in of.items():
            yield f"{indent}  {_scalar(account)}: [{', '.join(roles)}]"

    def _things(self, kind: Kind, entries: Sequence[Entry], indent: str) -> Iterator[str]:
        for entry in entries:
            name = _scalar(entry.key.path[-1])
            only = entry.fields.get("value")
            if isinstance(only, Reference):
                yield f"{indent}{name}: {self._reference(entry.key, only)}"
                continue
            fields = list(self._fields(kind, entry, indent + "  "))
            inside = [*fields, *self.sections(entry.key, indent + "  ")]
            yield f"{indent}{name}:" if inside else f"{indent}{name}: {{}}"
            yield from inside

    def _fields(self, kind: Kind, entry: Entry, indent: str) -> Iterator[str]:
        for name, of in kind.fields.items():
            value = entry.fields[name]
            if value == of.shape.value:
                continue
            if isinstance(value, Reference):
                yield f"{indent}{name}: {self._reference(entry.key, value)}"
            elif isinstance(value, tuple):
                yield f"{indent}{name}: {{{', '.join(f'{_scalar(k)}: {_scalar(v)}' for k, v in value)}}}"
            elif isinstance(value, bool):
                yield f"{indent}{name}: {str(value).lower()}"
            else:
                comment = "  # on the server's machine" if of.shape is Shape.FOLDER else ""
                yield f"{indent}{name}: {_scalar(value)}{comment}"

    def _reference(self, key: Key, value: Reference) -> str:
        if not value.stored:
            place = ("env", value.variable) if value.variable else ("file", value.file)
            return f"{{{place[0]}: {_scalar(place[1])}}}"
        wanted = "VALUE_OF_" + re.sub(r"\W", "_", "_".join(key.path), flags=re.ASCII).upper()
        name, number = wanted, 1
        while name in self._variables:
            number += 1
            name = f"{wanted}_{number}"
        self._variables.add(name)
        return f"{{env: {name}}}  # the value stays with the server"


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.style and node.value in ("", "~")


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    dumped = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))
    return str(dumped).rstrip("\n")
