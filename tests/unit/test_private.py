"""Keys and the database are their owner's only, also after a copy that did not mind."""

from __future__ import annotations

from pathlib import Path

from jobsphere.private import OWNERS_ONLY, keep_private


def test_what_was_open_is_closed_and_told_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "tls").mkdir(parents=True)
    for name in OWNERS_ONLY:
        (data / name).touch()
        (data / name).chmod(0o644)
    (data / "tls" / "ca.pem").touch(0o644)
    data.chmod(0o755)
    assert set(keep_private(data)) == {data, *(data / name for name in OWNERS_ONLY)}
    assert {(data / name).stat().st_mode & 0o777 for name in OWNERS_ONLY} == {0o600}
    assert data.stat().st_mode & 0o777 == 0o750  # a group that was let in stays
    assert (data / "tls" / "ca.pem").stat().st_mode & 0o777 == 0o644
    assert keep_private(data) == []


def test_what_is_not_there_yet_is_no_matter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert keep_private(tmp_path) == []
