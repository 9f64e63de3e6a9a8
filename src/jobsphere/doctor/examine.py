"""All checks, one after the other, and the repairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobsphere.doctor import database, files, host
from jobsphere.doctor.look import Check, Finding, Known, Level, Look, readable
from jobsphere.domain.errors import JobsphereError
from jobsphere.serverfile import is_held, only_server

_OF_DIRECTORY: Sequence[tuple[str, Check]] = (
    ("Database", database.database),
    ("Permissions", database.permissions),
    ("Environments", files.environments),
)
_OF_CONTENTS: Sequence[tuple[str, Check]] = (
    ("Jobs", database.records),
    ("Keys and secrets", database.keys),
    ("Blobs", files.blobs),
    ("Run directories", files.run_directories),
    ("Datasets", files.datasets),
    ("Project disks", files.disks),
    ("Leftovers", files.leftovers),
    ("Clock", host.clock),
)
"""Those that need a database that can be read."""
_OF_HOST: Sequence[tuple[str, Check]] = (
    ("Sandbox and limits", host.fence),
    ("Containers", host.containers),
    ("Disk space", host.disk_space),
    ("Open files", host.limits),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found. ``repaired``: those of the findings that were mended."""

    name: str
    findings: tuple[Finding, ...] = ()
    repaired: tuple[Finding, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether something is wrong, and still is."""
        return any(f.level is Level.WRONG and f not in self.repaired for f in self.findings)


def examine(look: Look, told: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Run all checks; nothing is changed.

    While a server runs, what looks wrong is looked at once more: it may have been on its way.
    """
    look = replace(look, busy=is_held(look.data_dir))
    first = _run(look, told)
    if not look.busy:
        return first
    again = {
        result.name: result for result in _run(replace(look, deep=False), told, {r.name for r in first if r.findings})
    }
    return [_agreed(result, again[result.name]) if result.findings else result for result in first]


def repair(look: Look, told: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Run all checks and mend what can be mended without harm; no server can start meanwhile.

    Raises:
        AlreadyExistsError: a server runs.
    """
    with only_server(look.data_dir):
        return [_repaired(result) for result in _run(look, told)]


def _run(look: Look, told: Callable[[str], None], names: set[str] | None = None) -> list[Result]:
    known = Known(look)
    checks = [*_OF_DIRECTORY, *(_OF_CONTENTS if readable(look) else ()), *_OF_HOST]
    results: list[Result] = []
    for name, check in checks:
        if names is None or name in names:
            told(name)
            results.append(Result(name, _found(check, known)))
    return results


def _found(check: Check, known: Known) -> tuple[Finding, ...]:
    found: list[Finding] = []
    try:
        found.extend(check(known))
    except (JobsphereError, OSError) as error:
        found.append(Finding(f"it could not be looked at: {error}", "mend that first, then look again"))
    return tuple(found)


def _agreed(first: Result, again: Result) -> Result:
    kept = {finding.text for finding in again.findings}
    return Result(first.name, tuple(f for f in first.findings if f.text in kept or f.lasting))


def _repaired(result: Result) -> Result:
    mended: list[Finding] = []
    for finding in result.findings:
        if finding.repair is not None:
            finding.repair()
            mended.append(finding)
    return replace(result, repaired=tuple(mended))
