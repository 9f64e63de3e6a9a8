"""Run the experiments: ``python -m benchmarks [--check | --accept] [NAME …]``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import accepted, page
from benchmarks.figures import Figure

EXPERIMENTS = (
    "submit_to_first_log",
    "job_rate",
    "get_rate",
    "list_page",
    "scale",
    "transfer",
    "same_again",
    "logs",
    "crowd",
    "environment",
    "fence",
    "stats",
    "idle",
)
RESULTS = Path(__file__).parent / "results"


def main(names: Sequence[str], *, check: bool, accept: bool) -> int:
    """Run the named experiments (by default all), print a table, keep the figures.

    1 if a target was missed; with ``check`` only if a ratio has become worse than accepted.
    """
    console, results = Console(), {}
    for name in names or EXPERIMENTS:
        with console.status(f"measuring {name} …"):
            results[name] = importlib.import_module(f"benchmarks.{name}").run()
        _keep(name, results[name])
        if accept:
            accepted.accept({name: results[name]})
    console.print(_table(results))
    page.write(_kept())
    if check:
        worse = accepted.regressions(results, accepted.load())
        for sentence in worse:
            console.print(f"[red]worse[/red] {sentence}")
        return int(bool(worse))
    return int(any(f.missed for figures in results.values() for f in figures))


def _table(results: Mapping[str, Sequence[Figure]]) -> Table:
    table = Table("experiment", "figure", "measured", "beside it", "ratio", "target", title="This host, this run")
    for name, figures in results.items():
        for f in figures:
            table.add_row(name, f.name, f.value_text, f.peer_text, f.ratio_text, f.target_text)
    return table


def _keep(name: str, figures: Sequence[Figure]) -> None:
    RESULTS.mkdir(exist_ok=True)
    host = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    kept = {"host": host, "at": time.time(), "figures": [f.as_dict() for f in figures]}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2))


def _kept() -> dict[str, page.Result]:
    """The newest result of each experiment that was ever run here, in the order in which they are run."""
    known = {field.name for field in fields(Figure)}
    found: dict[str, page.Result] = {}
    for name in EXPERIMENTS:
        if (file := RESULTS / f"{name}.json").exists():
            kept = json.loads(file.read_text())
            figures = [Figure(**{k: v for k, v in f.items() if k in known}) for f in kept["figures"]]
            found[name] = page.Result(kept["host"], kept["at"], figures)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--check", action="store_true", help="fail where a ratio is over 20%% worse than accepted")
    parser.add_argument("--accept", action="store_true", help="take the ratios of this run for the accepted ones")
    chosen = parser.parse_args()
    sys.exit(main(chosen.names, check=chosen.check, accept=chosen.accept))
