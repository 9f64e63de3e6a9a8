"""The ratios that were accepted last, kept in git: what ``make bench-check`` holds a run against."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figure

FILE = Path(__file__).parent / "accepted.json"
WORSE = 0.2
"""By more than this part of it a ratio may not have become worse. Only ratios are held: other figures are a host's."""


def ratios(results: Mapping[str, Sequence[Figure]]) -> dict[str, float]:
    """Every ratio of a run by a name that says beside what it is."""
    return {
        f"{experiment}: {figure.name} / {figure.peer_name}": round(figure.ratio, 4)
        for experiment, figures in results.items()
        for figure in figures
        if figure.ratio is not None
    }


def accept(results: Mapping[str, Sequence[Figure]]) -> None:
    """Take this run's ratios for those of its experiments."""
    kept = {name: value for name, value in load().items() if name.partition(":")[0] not in results}
    FILE.write_text(json.dumps(dict(sorted((kept | ratios(results)).items())), indent=2) + "\n")


def load() -> dict[str, float]:
    """What was accepted; empty before the first time."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def regressions(results: Mapping[str, Sequence[Figure]], accepted: Mapping[str, float]) -> list[str]:
    """A sentence for each ratio of ``results`` that has become worse than is allowed."""
    smaller_is_better = {
        name
        for experiment, figures in results.items()
        for name in ratios({experiment: [f for f in figures if f.smaller_is_better]})
    }
    found: list[str] = []
    for name, now in ratios(results).items():
        if (then := accepted.get(name)) is None:
            continue
        worse = now > then * (1 + WORSE) if name in smaller_is_better else now < then * (1 - WORSE)
        if worse:
            found.append(f"{name}: {now:.2f}, was {then:.2f} when it was accepted")
    return found
