"""What strangers write reaches terminals and logs as text, wherever it is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.world import NOW, WHO, World, a_spec

from jobsphere import telemetry
from jobsphere.api.errors import failure_of
from jobsphere.cli import audit, environments, main
from jobsphere.cli.listing import show_all
from jobsphere.domain.attempt import Ended, EndReason, Observation, Started, Step
from jobsphere.domain.audit import AuditRow
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.text import has_controls, one_line, readable
from jobsphere.engine.outcome import events_of

EVIL = "a\x1b]0;title\x07b\x9b2Jc\rd\u202ee\0"
FORGED = "x\n2026-01-01T00:00:00Z [info     ] all is well"
SHOWN = r"a\x1b]0;title\x07b\x9b2Jc\x0dd\u202ee\x00"
UNSAFE = set(EVIL) - set("a]0;titleb2Jcde")


@given(st.text())
def test_nothing_but_lines_is_left(text: str) -> None:
    assert not {c for c in readable(text) if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0}
    assert len(one_line(text).splitlines()) <= 1
    assert one_line(one_line(text)) == one_line(text)
    assert has_controls(text, lines=False) == (one_line(text) != text)


@pytest.mark.parametrize("text", ["plain", "две строки", "👩\u200d💻", "a\u00a0b"])
def test_what_people_write_stays(text: str) -> None:
    assert one_line(text) == text
    assert readable(f"{text}\r\n\tx") == f"{text}\n\tx"


def test_an_answer_to_a_call() -> None:
    failure = failure_of(InvalidArgumentError(f"file {EVIL}:\nmend it"), "m", "r", "s")
    assert failure.text == f"file {SHOWN}:\nmend it"


def test_an_error_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise InvalidArgumentError(EVIL)

    monkeypatch.setattr(main, "app", fails)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == f"jobsphere: {SHOWN}"


def test_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like markup is text as well: it neither vanishes nor breaks the command."""
    monkeypatch.setenv("COLUMNS", "200")
    show_all([EVIL, "requests[security]", "[/]"], lambda x: {"x": x}, ["X"], lambda x: (x,), as_json=False)
    out = capsys.readouterr().out
    assert not UNSAFE & set(out)
    assert SHOWN in out
    assert "requests[security]" in out
    assert "[/]" in out


def test_the_table_of_environments(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    stored: Any = SimpleNamespace(
        fingerprint="f" * 64, what="requests[security] [/]", size_bytes=1, last_used=NOW, build_seconds=1.0,
        in_use=False, complete=True,
    )  # fmt: skip
    environments._show([stored], False)
    assert "requests[security] [/]" in capsys.readouterr().out


def test_the_audit_log() -> None:
    row = AuditRow(datetime.now(UTC), "", EVIL, "x", "p", FORGED, EVIL, "OK", "")
    line = audit._line(row)
    assert not UNSAFE & set(line)
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_the_servers_log(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    try:
        telemetry.configure_logging(log_format)
        structlog.get_logger().warning(EVIL, path=EVIL, forged=FORGED, several=[EVIL], exc_info=ValueError(EVIL))
        logging.getLogger("some.library").warning("%s %s", EVIL, FORGED)
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    err = capsys.readouterr().err
    assert not (UNSAFE | {"\x1b"}) & set(err)
    assert not [line for line in err.splitlines() if line.startswith("2026-01-01")]
    if log_format == "json":
        assert len([json.loads(line) for line in err.splitlines()]) == 2


def test_what_a_program_left_as_its_last_words() -> None:
    ended = Ended(NOW, EndReason.EXITED, 1, None, f"{EVIL}\nsecond line")
    job: Any = SimpleNamespace(status=None)
    seen = Observation(True, step=Step(f"Staging {EVIL}", 2))
    assert [e.message for e in events_of(job, seen)] == [f"Staging {SHOWN}"]  # type: ignore[union-attr]
    seen = Observation(True, started=Started(NOW), ended=ended)
    assert [getattr(e, "tail", "") for e in events_of(job, seen)] == ["", f"{SHOWN}\nsecond line"]


@pytest.mark.parametrize("field", ["name", "desc"])
async def test_a_job_may_not_be_called_so(tmp_path: Path, field: str) -> None:
    """Clients of others print what jobs are called, as it is."""
    world = await World(tmp_path).open()
    texts = {"name": "job", "desc": "two\r\nlines", field: EVIL}
    with pytest.raises(InvalidArgumentError, match=f"{field}: holds a control character"):
        await world.jobs.create(WHO, "p" * 20, a_spec(), texts["name"], texts["desc"], "", None)
    await world.jobs.create(WHO, "p" * 20, a_spec(), "job", "two\r\nlines", "", None)
    with pytest.raises(InvalidArgumentError, match="description: holds a control character"):
        await world.projects.create(WHO, "name", EVIL)
