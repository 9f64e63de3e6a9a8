"""Ids: of the shape that clients know, never the same twice, in the order of the seconds in which they were made."""

from __future__ import annotations

import re

import pytest

from jobsphere.system import RandomIds


def test_ids_are_twenty_digits_and_letters_and_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_900_000_000.5)  # so that chance alone tells them apart
    made = [RandomIds().new() for _ in range(10_000)]
    assert all(re.fullmatch("[0-9a-z]{20}", id_) for id_ in made)
    assert len({*made}) == len(made)
    assert {len({id_[at] for id_ in made}) for at in range(6, 20)} == {36}


def test_a_later_id_stands_behind_until_2089(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for now in (1_577_836_800.0, 1_800_000_000.9, 1_800_000_001.0, 3_754_000_000.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        made.append(RandomIds().new())
    assert made == sorted(made)
