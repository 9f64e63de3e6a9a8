"""How ``jobsphere audit --since`` reads times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from jobsphere.cli.audit import moment
from jobsphere.domain.errors import InvalidArgumentError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("12h", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:30", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("2026-01-31T12:30+03:00", datetime(2026, 1, 31, 12, 30, tzinfo=timezone(timedelta(hours=3)))),
    ],
)
def test_a_time_or_how_long_ago(text: str, time: datetime) -> None:
    assert moment(text, NOW) == time


@pytest.mark.parametrize("text", ["yesterday", "7", "d", "-1d", "999999d", "2026-13-01"])
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="2026-01-31T12:00"):
        moment(text, NOW)
