"""What `jobsphere apply` and `jobsphere export` are put together from; they run beside a server or without one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from jobsphere import resourcefile
from jobsphere.domain.access import Scope
from jobsphere.domain.declared import Declared, Kind, Plan, Reference, Shape, Step, Value
from jobsphere.domain.errors import InvalidArgumentError, JobsphereError
from jobsphere.service.declared_resources import DatasetKind, ImageKind, S3Kind, SecretKind, SparkKind
from jobsphere.service.declared_teams import CommunityKind, ProjectKind, Roles, Users
from jobsphere.service.declaring import Declaring, Hand, Places, ReadValue
from jobsphere.wiring.desk import Desk, audited, local_subject
from jobsphere.wiring.resources import operator_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Applied:
    """What is to be done, or was, and what is worth a word."""

    plan: Plan
    notes: tuple[str, ...]


async def apply(
    data_dir: Path,
    text: str,
    base: Path,
    planned: Callable[[Applied], None],
    told: Callable[[Step], None],
    *,
    dry_run: bool,
    prune: bool,
) -> Applied:
    """Make it so, or only say what would be done.

    Args:
        data_dir: The data directory, whose server may run.
        text: The file.
        base: What relative paths in it are relative to.
        planned: Called before the first step.
        told: Called after each.
        dry_run: Change nothing.
        prune: Also remove what the file's sections do not name.

    Raises:
        InvalidArgumentError: all that is wrong with the file, each with its line; nothing was done.
        JobsphereError: a step failed, which the text names; those before it are done.
    """

    async def work(desk: Desk, declaring: Declaring) -> Applied:
        who = local_subject()
        declared, problems = resourcefile.read(text, declaring.kinds)
        declared = _absolute(declared, declaring.kinds, base)
        plan, more, notes = await declaring.plan(who, declared, prune=prune)
        if found := sorted({*problems, *more}, key=lambda p: (p.line, p.text)):
            lines = "".join(f"\n  line {p.line}: {p.text}" for p in found)
            raise InvalidArgumentError(f"the file cannot be applied, and nothing was changed:{lines}")
        applied = Applied(plan, tuple(notes))
        planned(applied)
        for number, step in enumerate(plan.steps if not dry_run else ()):
            try:
                async with audited(desk, f"jobsphere apply {step.verb.name.lower()}", _ids(step)):
                    await declaring.take(who, step)
            except JobsphereError as error:
                raise type(error)(
                    f"{step.entry.key}: {error.public} ({number} of {len(plan.steps)} steps are done; "
                    "apply the file again to go on)"
                ) from error
            told(step)
        return applied

    return await _with(data_dir, _reader(base, os.environ), work)


async def export(data_dir: Path) -> str:
    """The file that declares all that there is."""

    async def work(_: Desk, declaring: Declaring) -> str:
        return resourcefile.write(await declaring.present(local_subject()), declaring.kinds)

    return await _with(data_dir, _reader(Path(), {}), work)


def _absolute(declared: Declared, kinds: Sequence[Kind], base: Path) -> Declared:
    """With folders by whole paths, which is how the server names those that it has."""
    folders = {(kind.name, name) for kind in kinds for name, of in kind.fields.items() if of.shape is Shape.FOLDER}

    def whole(kind: str, name: str, value: Value) -> Value:
        if (kind, name) not in folders or not isinstance(value, str):
            return value
        return os.path.normpath(base / Path(value).expanduser())

    entries = (
        replace(e, fields={name: whole(e.key.kind, name, value) for name, value in e.fields.items()})
        for e in declared.entries
    )
    return replace(declared, entries=tuple(entries))


def _reader(base: Path, environ: Mapping[str, str]) -> ReadValue:
    def read(reference: Reference) -> str | None:
        if reference.variable:
            return environ.get(reference.variable)
        path = base / Path(reference.file).expanduser()
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidArgumentError(f"the file {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise InvalidArgumentError(f"the file {path} is no UTF-8 text; encode it, in base64 for example") from None
        return text.removesuffix("\n").removesuffix("\r")

    return read


def _ids(step: Step) -> list[tuple[str, str]]:
    return [("kind", step.entry.key.kind.replace(" ", "-")), ("path", "/".join(step.entry.key.path))]


async def _with(data_dir: Path, read: ReadValue, work: Callable[[Desk, Declaring], Awaitable[T]]) -> T:
    async with operator_of(data_dir) as op:
        desk = op.desk
        await desk.projects.ensure_default(local_subject())
        places = Places(desk.communities, desk.projects)
        hands: list[Hand] = [
            Users(desk.accounts, local_subject()),
            CommunityKind(desk.communities, places),
            Roles(Scope.COMMUNITY, desk.grants, desk.accounts, places, desk.communities),
            ProjectKind(desk.projects, op.store, places),
            Roles(Scope.PROJECT, desk.grants, desk.accounts, places, desk.communities),
            SecretKind(op.secrets, places, read),
            ImageKind(op.images, op.secrets, places, read),
            DatasetKind(op.datasets, places),
            S3Kind(op.connectors, op.secrets, places),
            SparkKind(op.sparks, op.secrets, places),
        ]
        return await work(desk, Declaring(hands, read))
