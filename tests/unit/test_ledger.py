"""A sweep that was broken off goes on where it was."""

from __future__ import annotations

from pathlib import Path

from tests.crash import ledger
from tests.crash.ledger import Ledger, ends_in


def test_what_was_tried_is_known_to_the_next_one(tmp_path: Path) -> None:
    first = Ledger("uv environment", tmp_path / "abc")
    first.begin(3)
    first.note("before server's store.commit #1", "as undisturbed")
    (path,) = (tmp_path / "abc").iterdir()
    with path.open("a") as file:
        file.write('\n{"case": "after se')  # killed in the middle of a line
    second = Ledger("uv environment", tmp_path / "abc")
    assert second.ends == {"before server's store.commit #1": "as undisturbed"}
    second.note("after server's store.commit #1", "not reached")
    assert ends_in(path) == (3, second.ends)
    assert len(second.ends) == 2
    assert Ledger("plain", tmp_path / "abc").ends == {}


def test_a_sample_is_not_kept(tmp_path: Path) -> None:
    known = Ledger("plain", None)
    known.begin(1)
    known.note("a case", "as undisturbed")
    assert known.ends == {"a case": "as undisturbed"}


def test_other_sources_begin_anew(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "src" / "jobsphere").mkdir(parents=True)
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    digests: set[str] = set()
    for text in ("1", "2"):
        (tmp_path / "src" / "jobsphere" / "a.py").write_text(text)
        ledger.state_of.cache_clear()
        digests.add(ledger.state_of())
    ledger.state_of.cache_clear()
    assert len(digests) == 2
