"""``jobsphere audit``: what was changed, by whom, from where, with what result; whether the server runs or not."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.audit import AuditQuery, AuditRow
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.text import one_line

_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def audit(
    *,
    project: str = "",
    subject: str = "",
    since: str = "",
    action: str = "",
    limit: int = 100,
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Show the audit log: every call and command that changed something or tried to, one a line, newest first (UTC).

    Parameters
    ----------
    project
        Only what was about this project, by id.
    subject
        Only what this user, service account or operator did, by name or id.
    since
        Only what came later: a time (2026-01-31, 2026-01-31T12:00) or how long ago (30m, 12h, 7d).
    action
        Only these: a pattern, such as `ProjectJobService/*` or `*cancel`.
    limit
        How many rows at most.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of lines.
    """
    from jobsphere.wiring import desk

    query = AuditQuery(project, subject, moment(since, datetime.now(UTC)) if since else None, action, limit)
    rows = asyncio.run(desk.read(data_dir_of(data_dir), lambda d, who: d.audit.find(who, query)))
    if json_:
        print(json.dumps([{**asdict(r), "at": r.at.isoformat()} for r in rows], indent=2))  # noqa: T201
    else:
        for row in rows:
            print(_line(row))  # noqa: T201


def moment(text: str, now: datetime) -> datetime:
    """The time that ``text`` says; one without a zone is UTC.

    Raises:
        InvalidArgumentError: it says none.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(
            f"since: {text!r} is no time; write 2026-01-31, 2026-01-31T12:00, 30m, 12h or 7d"
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _line(row: AuditRow) -> str:
    who = row.subject_name or row.subject_id or "(unknown)"
    return one_line(
        f"{row.at:%Y-%m-%d %H:%M:%S}  {who}  {row.action}  {row.target or '-'}  from {row.origin}  {row.result}"
    )
