"""What a regression is: the check of ratios must be able to fail."""

from __future__ import annotations

import pytest
from benchmarks.accepted import ratios, regressions
from benchmarks.figures import Figure


def figures(value: float, unit: str) -> dict[str, list[Figure]]:
    return {"trial": [Figure("it", value, unit, 10.0, "a peer")]}


@pytest.mark.parametrize(
    ("unit", "now", "worse"),
    [
        ("/s", 81, False),
        ("/s", 79, True),
        ("MiB/s", 79, True),
        ("/s", 500, False),
        ("ms", 119, False),
        ("ms", 121, True),
        ("ms", 5, False),
    ],
)
def test_a_ratio_may_be_a_fifth_worse_than_accepted(unit: str, now: float, worse: bool) -> None:
    accepted = ratios(figures(100, unit))
    assert accepted == {"trial: it / a peer": 10.0}
    told = regressions(figures(now, unit), accepted)
    assert bool(told) == worse
    if worse:
        assert told == [f"trial: it / a peer: {now / 10:.2f}, was 10.00 when it was accepted"]


def test_a_new_figure_and_one_without_a_peer_are_no_regression() -> None:
    assert regressions(figures(1, "/s"), {}) == []
    assert ratios({"trial": [Figure("alone", 3, "ms", target=1, at_most=True)]}) == {}


@pytest.mark.parametrize(
    ("figure", "missed", "margin"),
    [
        (Figure("a", 5, "ms", target=10, at_most=True), False, 2),
        (Figure("a", 20, "ms", target=10, at_most=True), True, 0.5),
        (Figure("a", 30, "/s", 10, "b", target=2), False, 1.5),
        (Figure("a", 10, "/s", 10, "b", target=2), True, 0.5),
        (Figure("a", 10, "/s", 10, "b"), False, None),
        (Figure("a", 0, "bytes", target=0, at_most=True), False, None),
    ],
)
def test_a_target_is_held_against_the_ratio_where_there_is_one(
    figure: Figure, missed: bool, margin: float | None
) -> None:
    assert (figure.missed, figure.margin) == (missed, margin)
