"""Writes what was measured into ``docs/performance.md``, below the part that people write, with a picture."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PICTURE = DOCS / "performance.md", DOCS / "images" / "performance.svg"
_SHOWN = f"\n![How far each figure is from its target](images/{PICTURE.name})\n\n"
MARK = "<!-- below: written by `make bench` -->\n"


@dataclass(frozen=True)
class Result:
    """One experiment's figures, the host that they are of, and when they were taken (seconds since the epoch)."""

    host: Mapping[str, Any]
    at: float
    figures: list[Figure]


def write(results: Mapping[str, Result]) -> None:
    """Replace the measured part of the page, and its picture."""
    written, mark, _ = PAGE.read_text().partition(MARK)
    assert mark, f"{PAGE} has lost the line {MARK!r}"
    PAGE.write_text(written + mark + _SHOWN + "\n".join(_section(name, result) for name, result in results.items()))
    _draw([f for result in results.values() for f in result.figures if f.margin is not None])


def _section(name: str, result: Result) -> str:
    about = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip()
    day = datetime.fromtimestamp(result.at, UTC).date().isoformat()
    where = f"{result.host['cores']} cores, {result.host['machine']}, Python {result.host['python']}, {day}"
    rows = [f"| {f.name} | {f.value_text} | {f.peer_text} | {f.ratio_text} | {f.target_text} |" for f in result.figures]
    head = ["| Figure | Measured | Beside it | Ratio | Target |", "|---|---|---|---|---|"]
    return "\n".join([f"## {name}", "", about, "", *head, *rows, "", f"*{where}*", ""])


def _draw(figures: list[Figure]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "jobsphere"
    upwards = figures[::-1]
    margins = [min(max(f.margin or 0.0, 0.1), 100.0) for f in upwards]
    names = [f"{f.name} / {f.peer_name}" if f.peer_name else f.name for f in upwards]
    drawing, axes = plt.subplots(figsize=(9, 0.32 * len(upwards) + 1))
    axes.barh(names, [m - 1 for m in margins], left=1, color=["#2a7f62" if m >= 1 else "#b3412e" for m in margins])
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times better than the target (1: just met)")
    axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(exist_ok=True)
    drawing.savefig(PICTURE, bbox_inches="tight", metadata={"Date": None})
    plt.close(drawing)
