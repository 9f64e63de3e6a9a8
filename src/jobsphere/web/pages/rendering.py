"""Templates to text: all values are escaped, and shown as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobsphere.domain.job import Job, JobStatus

HERE = Path(__file__).parent
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters and marks that turn text around: a name with them could pass for another."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
STATUS_WORDS = {
    JobStatus.CREATING: "Not executed yet",
    JobStatus.PREPARING: "Preparing",
    JobStatus.EXECUTING: "Executing",
    JobStatus.UPLOADING_OUTPUT: "Collecting outputs",
    JobStatus.SUCCESS: "Success",
    JobStatus.ERROR: "Error",
    JobStatus.CANCELLING: "Cancelling",
    JobStatus.CANCELLED: "Cancelled",
}


class Renderer:
    """Renders the templates beside this module."""

    def __init__(self) -> None:
        self._jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=lambda value: visible(value) if isinstance(value, str) else value,
        )
        self._jinja.filters |= {"size": size, "moment": moment, "iso": iso, "lasting": lasting}
        cast(dict[str, Any], self._jinja.globals).update(words=STATUS_WORDS, duration=duration)

    def render(self, template: str, values: dict[str, Any]) -> str:
        """The text of a template."""
        return self._jinja.get_template(template).render(values)


def visible(text: str) -> str:
    """The text with a sign in place of each character that cannot be seen. Markup stays markup: it has none of them."""
    return type(text)(_HIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)) if _HIDDEN.search(text) else text


def size(count: float) -> str:
    """``1.5 MiB``."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.3g} {_UNITS[unit]}" if unit else f"{count:.0f} {_UNITS[0]}"


def moment(at: datetime | None) -> str:
    """``2026-01-31 12:00:05`` in UTC; a dash for none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else "-"


def iso(at: datetime) -> str:
    """For machines."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def lasting(length: timedelta) -> str:
    """``2 h 5 min``, ``41 s``: the two largest units."""
    seconds = max(0, int(length.total_seconds()))
    parts = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"


def duration(job: Job, now: datetime) -> timedelta | None:
    """How long the program ran, so far or in all; None if it was not started."""
    return (job.finished_at or now) - job.started_at if job.started_at else None
