"""``make audit`` never takes silence for good news."""

from __future__ import annotations

import importlib.util
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "audit.py"
GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}, {"id": "CVE-2", "fix_versions": []}],
}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_tool", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_found_is_told(tool: ModuleType) -> None:
    assert tool.vulnerable([GOOD]) == []
    assert tool.vulnerable([GOOD, BAD]) == ["b 2: CVE-1, mended in 3", "b 2: CVE-2, mended in no version yet"]


@pytest.mark.parametrize("dependencies", [[], [SKIPPED], [GOOD, SKIPPED], [BAD, SKIPPED]])
def test_what_was_not_looked_at_is_not_good(tool: ModuleType, dependencies: list[dict[str, Any]]) -> None:
    with pytest.raises(tool.NotKnownError, match="were not looked at"):
        tool.vulnerable(dependencies)


@pytest.mark.parametrize("dependencies", [[], [SKIPPED], [GOOD]])
def test_a_service_that_knows_nothing_is_not_believed(tool: ModuleType, dependencies: list[dict[str, Any]]) -> None:
    with pytest.raises(tool.NotKnownError, match="does not know"):
        tool.check_canary(dependencies)
    tool.check_canary([BAD])


def test_an_auditor_that_cannot_be_brought_is_told(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no route to the index' >&2\nexit 1\n")
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    assert tool.main(str(uv)) == 2
    assert "NOT KNOWN" in (err := capsys.readouterr().err)
    assert "no route to the index" in err
