"""The folder that all servers of one database share: what lies there, and who makes it when several start at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Generator
from hashlib import sha256
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from jobsphere import config
from jobsphere.api import tls
from jobsphere.api.tls import ensure_certificates
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.durable import Point, ensure_private
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.parts import keys_of, sandbox_of

_SERVERS = 6


@contextlib.contextmanager
def no_lock(_: Path) -> Generator[None]:
    """As on hosts whose locks do not reach each other."""
    yield


def _start(shared: Path, number: int, together: Barrier, locks: bool) -> tuple[str, str, bytes]:
    """What a server does at its start with what all have in common; hashes of key and authority, its certificate."""
    if not locks:
        tls.locked_file = no_lock  # type: ignore[assignment]
    together.wait(30)
    key = secret_key(shared)
    together.wait(30)
    files = ensure_certificates(shared / "tls", (f"server-{number}",), own=shared.parent / str(number))
    return sha256(key).hexdigest(), sha256(files.ca_key.read_bytes()).hexdigest(), files.server_pem.read_bytes()


@pytest.mark.parametrize("locks", [True, False])
def test_servers_that_start_at_once_agree_on_the_key_and_the_authority(tmp_path: Path, *, locks: bool) -> None:
    context, shared = multiprocessing.get_context("spawn"), tmp_path / "shared"
    with context.Manager() as manager, context.Pool(_SERVERS) as pool:
        together = manager.Barrier(_SERVERS)
        started = pool.starmap(_start, [(shared, n, together, locks) for n in range(_SERVERS)], chunksize=1)
    keys, authorities, certificates = zip(*started, strict=True)
    assert len(set(keys)) == len(set(authorities)) == 1
    assert len(set(certificates)) == _SERVERS
    authority = tls.x509.load_pem_x509_certificate((shared / "tls" / "ca.pem").read_bytes())
    for number, pem in enumerate(certificates):
        tls.x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)
        assert (tmp_path / str(number) / "ca.pem").read_bytes() == (shared / "tls" / "ca.pem").read_bytes()
    drafts = [path for path in shared.rglob("*") if path.name.endswith(".new")]
    assert drafts == []


def test_of_two_that_put_a_file_in_place_the_first_one_stays(tmp_path: Path) -> None:
    assert ensure_private(tmp_path / "key", lambda: b"first", Point.SERVER_KEY)
    assert not ensure_private(tmp_path / "key", lambda: b"second", Point.SERVER_KEY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"first"}


def test_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".key.0123456789abcdef.new").write_bytes(b"half")
    assert ensure_private(tmp_path / "key", lambda: b"whole", Point.SERVER_KEY)
    assert os.listdir(tmp_path) == ["key"]
    (tmp_path / ".key.1234.new").write_bytes(b"of one that was late")
    assert not ensure_private(tmp_path / "key", lambda: b"another", Point.SERVER_KEY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"whole"}


def test_a_draft_that_is_taken_for_a_killed_ones_does_no_harm(tmp_path: Path) -> None:
    def overtaken() -> bytes:  # by one that makes the file, and by one that tidies up
        assert ensure_private(tmp_path / "key", lambda: b"first", Point.SERVER_KEY)
        assert not ensure_private(tmp_path / "key", lambda: b"", Point.SERVER_KEY)
        return b"second"

    assert not ensure_private(tmp_path / "key", overtaken, Point.SERVER_KEY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"first"}


def test_the_shared_folder_is_the_data_directory_unless_one_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load({"data_dir": "data"}).shared == tmp_path / "data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / config.CONFIG_NAME).write_text('shared_dir = "~/all"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.load({"data_dir": "data"}).shared == tmp_path / "all"
    assert config.shared_of(Path("data")) == tmp_path / "all"
    assert keys_of(config.load({"data_dir": "data"})).file == tmp_path / "all" / "secret.keys"


def test_jobs_do_not_see_it(tmp_path: Path) -> None:
    (tmp_path / "all" / "models").mkdir(parents=True)
    settings = {"data_dir": tmp_path / "data", "shared_dir": tmp_path / "all"}
    with pytest.raises(FailedPreconditionError, match="not for jobs to see"):
        sandbox_of(config.load({**settings, "sandbox_read_only": (str(tmp_path / "all" / "models"),)}))
    plan = sandbox_of(config.load(settings))
    assert plan is None or plan.hidden == (str(tmp_path / "all"),)
