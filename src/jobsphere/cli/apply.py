"""``jobsphere apply`` and ``jobsphere export``: everything that a server has, in one file; whether it runs or not."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobsphere.cli.options import DataDir, data_dir_of
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.text import one_line

if TYPE_CHECKING:
    from jobsphere.domain.declared import Plan, Step, Value
    from jobsphere.wiring.apply import Applied

_WOULD_CHANGE = 2
_COLOURS = {"+": "green", "~": "yellow", "±": "magenta", "-": "red"}


def apply(
    *,
    file: Annotated[Path, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)],
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    prune: Annotated[bool, Parameter(negative="")] = False,
    data_dir: DataDir = None,
) -> None:
    """Make what a file declares: users, communities, projects, roles, secrets, images, datasets, connectors.

    The file is checked as a whole first, and every error is told with its line. Then each step that is needed is done,
    in an order that fits, and written to the audit log; after an interruption apply the file again. What the file does
    not name stays as it is.

    With --dry-run the exit code is 0 if nothing would change and 2 if something would; 1 is an error.

    Parameters
    ----------
    file
        The file (YAML); - for stdin.
    dry_run
        Only print what would be done.
    prune
        Also remove what a section of the file does not name, unless it is in use. Sections that the file does not have
        are left alone.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import apply as applying

    try:
        text = sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{file} is no UTF-8 text") from None
    base = Path.cwd() if file == Path("-") else file.absolute().parent
    applied = asyncio.run(
        applying.apply(
            data_dir_of(data_dir), text, base, _planned if dry_run else _noted, _done, dry_run=dry_run, prune=prune
        )
    )
    if not dry_run:
        print(f"{len(applied.plan.steps)} done." if applied.plan.steps else "Nothing to do.")  # noqa: T201
    elif applied.plan.steps:
        sys.exit(_WOULD_CHANGE)


def export(*, data_dir: DataDir = None) -> None:
    """Print everything that the server has as a file for `jobsphere apply`; of secrets only the names.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import apply as applying

    sys.stdout.write(asyncio.run(applying.export(data_dir_of(data_dir))))


def _noted(applied: Applied) -> None:
    for note in applied.notes:
        print(f"jobsphere: {note}", file=sys.stderr)  # noqa: T201


def _planned(applied: Applied) -> None:
    _noted(applied)
    for step in applied.plan.steps:
        _print_step(step)
    for key, why in applied.plan.kept:
        _print(f"= {key} stays: {why}", "dim")
    _print(_summary(applied.plan), "bold")


def _done(step: Step) -> None:
    _print_step(step)


def _print_step(step: Step) -> None:
    colour = _COLOURS[step.verb.value]
    _print(f"{step.verb.value} {step.entry.key}", colour)
    for name, before, after in step.changes():
        if step.was is not None:
            _print(f"    {name}: {_shown(before)} -> {_shown(after)}", colour)
        elif after not in ("", False, ()) and str(after) != "(none)":
            _print(f"    {name}: {_shown(after)}", colour)


def _shown(value: Value | None) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{key}: {text}" for key, text in value) + "}"
    return repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _summary(plan: Plan) -> str:
    counts = {sign: sum(step.verb.value == sign for step in plan.steps) for sign in _COLOURS}
    if not plan.steps:
        return "Nothing would change."
    words = zip(("to add", "to change", "to make anew", "to remove"), counts.values(), strict=True)
    return ", ".join(f"{count} {word}" for word, count in words if count) + "."


def _print(text: str, style: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(soft_wrap=True, highlight=False).print(Text(one_line(text), style=style))
