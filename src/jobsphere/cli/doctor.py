"""``jobsphere doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.limits import human_size

if TYPE_CHECKING:
    from jobsphere.doctor.examine import Result

Flag = Parameter(negative="")
_SHOW_BYTES = 64 << 20


def doctor(
    *,
    repair: Annotated[bool, Flag] = False,
    quick: Annotated[bool, Flag] = False,
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Look over the data directory and this machine: what is wrong, and what to do. Exit code 1 if anything is wrong.

    It changes nothing, and works while the server runs or not.

    Parameters
    ----------
    repair
        Mend what can be mended without harm; the server must be stopped. Nothing is removed that a job refers to;
        damaged files are put aside.
    quick
        Do not read every blob to compare its hash.
    data_dir
        The data directory of the server.
    json_
        Print JSON.
    """
    from rich.console import Console

    from jobsphere import config
    from jobsphere.doctor import examine
    from jobsphere.doctor.look import Look
    from jobsphere.domain.errors import NotFoundError

    folder = data_dir_of(data_dir)
    if not folder.is_dir():
        raise NotFoundError(f"there is no data directory {folder}; name one by --data-dir, or start a server")
    with Console(stderr=True).status("Looking") as status:
        look = Look(folder, config.load({"data_dir": folder}), deep=not quick, report=_reading(status.update))
        results = (examine.repair if repair else examine.examine)(
            look, lambda name: status.update(f"Looking at: {name}")
        )
    _show(results, as_json=json_)
    if any(result.wrong for result in results):
        sys.exit(1)


def _reading(update: Callable[[str], None]) -> Callable[[int], None]:
    """Tells how many bytes were read, at every so many."""
    done = shown = 0

    def report(count: int) -> None:
        nonlocal done, shown
        done += count
        if done - shown > _SHOW_BYTES:
            shown = done
            update(f"Looking at: Blobs, {human_size(done)} read")

    return report


def _show(results: Sequence[Result], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_fields(result) for result in results], indent=2))  # noqa: T201
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("Looked at", "", "What", "Next step", show_lines=True)
    for result in results:
        if not result.findings:
            table.add_row(result.name, "[green]ok[/]", "", "")
        for finding in result.findings:
            mended = finding in result.repaired
            colour = "green" if mended else {"wrong": "red", "note": "yellow"}[finding.level]
            word = "mended" if mended else finding.level.value
            step = "" if mended else finding.next_step
            table.add_row(result.name, f"[{colour}]{word}[/]", escape(finding.text), escape(step))
    Console().print(table)


def _fields(result: Result) -> dict[str, object]:
    return {
        "looked_at": result.name,
        "wrong": result.wrong,
        "findings": [
            {"level": f.level, "what": f.text, "next_step": f.next_step, "mended": f in result.repaired}
            for f in result.findings
        ],
    }
