"""The dashboard asks for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jobsphere.metrics import Gauges, Metrics

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"


def test_every_expression_names_metrics_of_the_server() -> None:
    text = Metrics().exposition(Gauges(0, 0, [], 1)).decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    there = set(kinds) | {f"{n}_{e}" for n, k in kinds.items() if k == "histogram" for e in ("bucket", "sum", "count")}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\b(?:jobsphere|process)_\w+", target["expr"])
    }
    assert len(asked) > 10
    assert asked <= there
