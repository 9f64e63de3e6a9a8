"""Which nodes there are: what is said of them in the shared folder, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsphere.cluster.registry import FOLDER, Entry, Registration, Registry
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError

AGENT = Registration("n", "https://x:1", NodeCapacity(2.0, 5, (0,), 7), datetime.now(UTC))


def test_an_agent_is_told_of_while_it_lives_and_ends_what_was_said_of_its_loss(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.read() == {}
    registry.lose("n", "gone")
    assert registry.read() == {"n": Entry(lost="gone")}
    with registry.register(AGENT):
        assert registry.read() == {"n": Entry(AGENT)}
        assert registry.lives("n")
        with pytest.raises(AlreadyExistsError, match="'n' is running"), registry.register(AGENT):
            pass
        with pytest.raises(FailedPreconditionError, match="stop it first"):
            registry.forget("n")
    assert registry.read() == {}
    assert not registry.lives("n")


def test_what_is_removed_while_the_agent_lives_is_said_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with registry.register(AGENT):
        assert registry.keep(AGENT)
        (tmp_path / FOLDER / "n.json").unlink()
        assert not registry.keep(AGENT)
        assert registry.keep(AGENT)


@pytest.mark.parametrize("content", ["", "{", '{"name": "other"}', "[]"])
def test_a_damaged_file_says_nothing(tmp_path: Path, content: str) -> None:
    registry = Registry(tmp_path)
    registry.lose("n", "gone")
    (tmp_path / FOLDER / "n.json").write_text(content)
    assert registry.read()["n"].agent is None


def test_only_what_is_known_is_drained_and_no_name_leads_elsewhere(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with pytest.raises(NotFoundError, match="there is no node 'n'"):
        registry.drain("n", "")
    with pytest.raises(InvalidArgumentError):
        registry.lose("../n", "")
    registry.lose("n", "x")
    registry.restore("n")
    registry.lose("n", "x")
    registry.forget("n")
    assert registry.read() == {}
