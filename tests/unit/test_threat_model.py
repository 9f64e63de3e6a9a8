"""What the threat model says is proven, is: the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "THREAT_MODEL.md").read_text())


def test_every_defence_has_its_proof() -> None:
    rows = (ROOT / "THREAT_MODEL.md").read_text().partition("## What is defended")[2].partition("\n## ")[0]
    defences = [line for line in rows.splitlines() if line.startswith("| ")][1:]
    assert len(defences) > 20
    assert all("`tests/" in line for line in defences)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"
