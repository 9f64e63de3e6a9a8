"""conda environments: the document of a ``conda_yaml``, checked and made canonical."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from jobsphere.domain.errors import InvalidArgumentError

DEFAULT_CHANNEL = "conda-forge"
MAX_YAML_CHARS = 64 * 1024
_IGNORED = frozenset({"name", "prefix"})
_KNOWN = frozenset({"channels", "dependencies"})
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)*")
_CHANNEL_URL = re.compile(r"(?:https?|file)://[!-~]+", re.IGNORECASE)
_NAME = re.compile(r"_{0,2}[A-Za-z0-9][A-Za-z0-9._-]*")
# What may follow the name: versions, a build string, or both of them in brackets. Nothing that names a file or a URL.
_TEXT = r"A-Za-z0-9._*+!=<>~|, "
_PINS = re.compile(rf"[{_TEXT}()^$-]*(?:\[(?:version|build|build_number) ?=[{_TEXT}'\"-]+\])?")


@dataclass(frozen=True, slots=True)
class CondaPackages:
    """What conda brings: channels (names or URLs, the first wins) and specs (``[channel::]name[ pins]``), sorted.

    Channel URLs may carry credentials. ``pip``: lines of the document's pip section, not looked at yet.
    """

    channels: tuple[str, ...] = field(repr=False)
    specs: tuple[str, ...] = field(repr=False)
    pip: tuple[str, ...] = field(default=(), repr=False)

    def without_pip(self, python_version: str, needs_python: bool) -> CondaPackages:
        """The part that conda solves. A python is added if a version is asked for or pip packages need one."""
        specs = self.specs
        if (python_version or needs_python) and not any(name_of(s) == "python" for s in specs):
            specs = tuple(sorted({*specs, f"python {python_version}.*" if python_version else "python"}))
        return replace(self, specs=specs, pip=())


def split_channel(spec: str) -> tuple[str, str]:
    """The channel of a spec (empty: any) and the rest."""
    channel, _, rest = spec.rpartition("::")
    return channel, rest


def name_of(spec: str) -> str:
    """The package that a spec is about, in lower case."""
    found = _NAME.match(split_channel(spec)[1])
    return found.group().lower() if found else ""


def read_conda(document: object) -> CondaPackages:
    """Check the parsed YAML.

    Raises:
        InvalidArgumentError: with the entry that cannot be, and what it should look like.
    """
    if not isinstance(document, dict):
        _refuse("must be a mapping with the keys channels and dependencies")
    top: dict[object, object] = document  # pyright: ignore[reportUnknownVariableType, reportAssignmentType]
    unknown = [str(key) for key in top if key not in _IGNORED | _KNOWN]
    if unknown:
        _refuse(f"the key {unknown[0][:50]!r} is not supported; there are: channels, dependencies, name, prefix")
    channels = [_channel(c) for c in _items(top.get("channels"), "channels")]
    specs: set[str] = set()
    pip: list[str] = []
    for item in _items(top.get("dependencies"), "dependencies"):
        if isinstance(item, dict):
            pip += _pip(item)  # pyright: ignore[reportUnknownArgumentType]
        else:
            specs.add(_spec(item))
    used = [c for s in sorted(specs) if (c := split_channel(s)[0])]
    named = [c for c in channels if c != "nodefaults"] or [DEFAULT_CHANNEL]
    return CondaPackages(tuple(dict.fromkeys([*named, *used])), tuple(sorted(specs)), tuple(pip))


def _refuse(what: str) -> None:
    raise InvalidArgumentError(f"conda_yaml: {what}")


def _items(value: object, where: str) -> Iterable[object]:
    if value is not None and not isinstance(value, list):
        _refuse(f"{where} must be a list, one entry a line beginning with '- '")
    return value or ()  # pyright: ignore[reportReturnType]


def _channel(value: object) -> str:
    """Never shown: it may carry credentials."""
    text = value.strip().rstrip("/") if isinstance(value, str) else ""
    if not _CHANNEL_NAME.fullmatch(text) and not _CHANNEL_URL.fullmatch(text):
        _refuse("a channel must be a name such as conda-forge, or a URL with http://, https:// or file://")
    return text


def _spec(value: object) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    channel, rest = split_channel(text)
    name = _NAME.match(rest)
    if not name or not _PINS.fullmatch(rest[name.end() :]):
        shown = "an entry with a URL" if "//" in text or "@" in text else repr(text[:200])
        _refuse(
            f"dependencies: {shown} is not a package such as numpy, numpy=1.26, 'numpy >=1.26,<3' or channel::numpy"
        )
    return f"{_channel(channel)}::{rest}" if channel else rest


def _pip(item: dict[object, object]) -> list[str]:
    if list(item) != ["pip"]:
        _refuse("dependencies: the only nested section that is supported is pip:")
    lines = list(_items(item["pip"], "pip"))
    if not all(isinstance(line, str) for line in lines):
        _refuse("pip: every entry must be a line as in requirements.txt; put it into quotes")
    return [str(line) for line in lines]
