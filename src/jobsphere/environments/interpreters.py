"""Where Python interpreters of this host are looked for."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobsphere.domain.ports import Workbench

DEFAULT_SEARCH_PATH: Sequence[str] = (
    "$PATH",
    "~/.pyenv/versions/*/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/opt/python/*/bin",
    "~/.local/share/uv/python/*/bin",
)
"""Directories, tried in this order; globs (the newest match first), ``~`` and ``$PATH`` are resolved when used."""

_QUESTION = "import sys; print('interpreter', '%d.%d' % sys.version_info[:2], sys.executable)"


def find_interpreter(version: str, search_path: Sequence[str], env: Mapping[str, str], bench: Workbench) -> str | None:
    """The path of an interpreter that, asked itself, is of ``version`` (``major.minor``); None if there is none.

    What only bears the name is passed over: version managers put programs of that name on PATH that refuse to run.
    """
    for directory in _directories(search_path, env):
        candidate = os.path.join(directory, f"python{version}")
        if os.access(candidate, os.X_OK):
            found = _itself(candidate, version) or _ask(candidate, version, env, bench)
            if found:
                return found
    return None


def _directories(search_path: Sequence[str], env: Mapping[str, str]) -> Iterator[str]:
    seen: set[str] = set()
    for entry in search_path:
        matches = env.get("PATH", "").split(os.pathsep) if entry == "$PATH" else _matches(entry)
        for directory in matches:
            if directory.startswith("/") and directory not in seen:
                seen.add(directory)
                yield directory


def _matches(entry: str) -> list[str]:
    return sorted(glob.glob(str(Path(entry).expanduser())), key=_by_numbers, reverse=True)


def _by_numbers(path: str) -> list[tuple[int, str]]:
    """3.11.10 is newer than 3.11.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def _itself(candidate: str, version: str) -> str | None:
    """The candidate, if it is the very program that this process runs: no need to start it to know its version."""
    path = os.path.realpath(candidate)
    is_own = path == os.path.realpath(sys.executable) and version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    return path if is_own else None


def _ask(candidate: str, version: str, env: Mapping[str, str], bench: Workbench) -> str | None:
    lines: list[str] = []
    code = bench.run([candidate, "-I", "-c", _QUESTION], env, lines.append)
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        is_version, _, executable = rest.partition(" ")
        if code == 0 and word == "interpreter" and is_version == version and executable:
            return executable
    return None
