"""The tables of the page on reliability: rows that ran are written anew, the others stay."""

from __future__ import annotations

from pathlib import Path

from tests.reliability import PAGE, Findings, Sweep, rows_of

EMPTY = """Words.
<!-- sweep: written by make soak -->
<!-- end of sweep -->
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
    other.write(page)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("Words.", "More words.")
    assert "| plain | 10 | 10 | 9 | 1 | 0 |" in lines
    assert "| fork | 8 | 8 | 5 | 2 | 1 |" in lines
    assert "| **All** | **18** | **18** | **14** | **3** | **1** |" in lines
    assert sum("corrupted blob" in line for line in lines) == 1


def test_the_page_says_that_nothing_was_lost() -> None:
    sweep, faults = (part.partition("<!-- end")[0] for part in PAGE.read_text().split("written by make soak -->\n")[1:])
    assert [row[-1] for row in rows_of(sweep)] == ["0" for _ in rows_of(sweep)]
    assert [row[3] for row in rows_of(faults)] == ["0" for _ in rows_of(faults)]
