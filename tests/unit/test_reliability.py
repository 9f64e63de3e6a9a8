"""The tables of the page on reliability: rows that ran are written anew, the others stay."""

from __future__ import annotations

from pathlib import Path

from tests.reliability import PAGE, Findings, Load, Place, Sweep, rows_of

EMPTY = """Words.
<!-- sweep: written by make soak -->
<!-- end of sweep -->
<!-- load: written by make soak -->
<!-- end of load -->
<!-- takeover: written by make soak -->
<!-- end of takeover -->
<!-- places: written by make soak -->
<!-- end of places -->
<!-- faults: written by make soak -->
<!-- end of faults -->
More words.
"""


def test_rows_are_written_anew_and_summed_up(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(EMPTY)
    for tried in (3, 10):
        found = Findings()
        found.swept(Sweep("plain", 10, tried, tried - 1, 1))
        found.cases("corrupted blob", 2, 2)
        found.write(page)
    other = Findings()
    other.swept(Sweep("fork", 8, 8, 5, 2))
    other.bore(Load(10, 6, 700, 60, 2, 20, 40, 10, 9, (90, 99), (25, 24)))
    other.took("killed while jobs run", 4.24)
    other.took("killed while jobs run", 5.66)
    other.passed_at(Place("sqlite+s3+ray", 40, 39, 1))
    other.write(page)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("Words.", "More words.")
    assert "| plain | 10 | 10 | 9 | 1 | 0 |" in lines
    assert "| fork | 8 | 8 | 5 | 2 | 1 |" in lines
    assert "| **All** | **18** | **18** | **14** | **3** | **1** |" in lines
    assert "| 10 clients | 6 | 700 | 60 | 2 | 20 | 40 | 10 | 9 | 1 | 90 → 99 | 25 → 24 |" in lines
    assert "| sqlite+s3+ray | 40 | 39 | 1 |" in lines
    assert "| killed while jobs run | 2 | 4.2 | 5.7 |" in lines
    assert sum("corrupted blob" in line for line in lines) == 1


def test_the_page_says_that_nothing_was_lost() -> None:
    text = PAGE.read_text()
    for name, column in (("sweep", -1), ("load", 9), ("places", 3), ("faults", 3)):
        part = text.partition(f"<!-- {name}: written by make soak -->\n")[2].partition("<!-- end")[0]
        assert {row[column] for row in rows_of(part)} <= {"0"}
