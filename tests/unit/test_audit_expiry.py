"""Rows of the audit log expire, and that they did is in it."""

from __future__ import annotations

from tests.unit.world import WHO, StandingClock

from jobsphere.domain.audit import AuditQuery
from jobsphere.service.audit import OK, Audit
from jobsphere.service.trail import Trail
from jobsphere.store.memory_audit import MemoryAudit


async def test_old_rows_go_and_the_log_says_so() -> None:
    clock = StandingClock()
    audit = Audit(MemoryAudit(), clock)
    for name in ("one", "two", "three"):
        await audit.record(WHO, name, [], Trail(), "here", OK)
        clock.pass_by(86400)
    assert await audit.expire(2) == 1
    assert [row.action for row in await audit.find(WHO, AuditQuery())] == ["jobsphere audit expiry", "three", "two"]
    newest = (await audit.find(WHO, AuditQuery()))[0]
    assert newest.target.startswith("rows=1 before=")
    assert await audit.expire(2) == 0
    assert len(await audit.find(WHO, AuditQuery())) == 3
