"""Run the experiments: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import importlib
import json
import platform
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

EXPERIMENTS = ("submit_to_first_log", "get_rate", "job_rate", "environment", "fence", "stats")
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> int:
    """Run the named experiments (by default all), print a table, keep the figures. 1 if a target was missed."""
    console = Console()
    table = Table("experiment", "figure", "measured", "beside it", "ratio", "target", title="This host, this run")
    missed = False
    for name in names or EXPERIMENTS:
        with console.status(f"measuring {name} …"):
            figures = importlib.import_module(f"benchmarks.{name}").run()
        for f in figures:
            missed |= f.missed
            table.add_row(name, f.name, f.value_text, f.peer_text, f.ratio_text, f.target_text)
        RESULTS.mkdir(exist_ok=True)
        stamp = {"host": platform.machine(), "python": platform.python_version(), "at": time.time()}
        (RESULTS / f"{name}.json").write_text(json.dumps(stamp | {"figures": [f.as_dict() for f in figures]}, indent=2))
    console.print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
