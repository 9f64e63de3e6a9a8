"""The folder that sandboxes get for /etc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobsphere.runner.system_files import system_files


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    etc = tmp_path / "etc"
    (etc / "ssl" / "private").mkdir(parents=True)
    (etc / "ssl" / "private" / "server.pem").write_text("private key")
    (etc / "ssl" / "ca.pem").write_text("certificate")
    (etc / "ssl" / "link.pem").symlink_to("ca.pem")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "shadow").write_text("root:secret")
    (etc / "passwd").write_text("somebody:x:1:1::/:/bin/sh")
    return etc


def test_it_has_what_programs_need_and_nothing_private(tmp_path: Path, etc: Path) -> None:
    folder = Path(system_files(str(tmp_path), str(etc)))

    assert sorted(p.name for p in folder.iterdir()) == ["group", "hosts", "passwd", "resolv.conf", "ssl"]
    assert sorted(p.name for p in (folder / "ssl").iterdir()) == ["ca.pem", "link.pem"]
    assert (folder / "ssl" / "link.pem").is_symlink()
    assert "somebody" not in (folder / "passwd").read_text()
    assert "jobsphere:x:1000" in (folder / "passwd").read_text()


def test_a_job_can_look_up_its_own_hosts_name(tmp_path: Path, etc: Path) -> None:
    (etc / "hosts").write_bytes(b"127.0.0.1 localhost # \xff")
    (etc / "hosts").chmod(0o444)
    folder = Path(system_files(str(tmp_path), str(etc)))
    assert (folder / "hosts").read_bytes() == b"127.0.0.1 localhost # \xff\n127.0.0.1 job\n"

    (etc / "hosts").unlink()
    assert Path(system_files(str(tmp_path), str(etc)), "hosts").read_text() == "127.0.0.1 job\n"


def test_it_is_made_once_and_anew_when_the_host_changes(tmp_path: Path, etc: Path) -> None:
    first = system_files(str(tmp_path), str(etc))
    assert system_files(str(tmp_path), str(etc)) == first

    (etc / "hosts").write_text("127.0.0.1 localhost other\n")
    os.utime(etc / "hosts", (1, 1))
    second = system_files(str(tmp_path), str(etc))

    assert second != first
    assert "other" in Path(second, "hosts").read_text()
    assert "other" not in Path(first, "hosts").read_text()
    assert not list(tmp_path.glob("etc-*.*"))


def test_the_half_of_a_killed_one_is_written_over_whatever_the_host_has_by_now(tmp_path: Path, etc: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from jobsphere import durable\n"
        "from jobsphere.runner.system_files import system_files\n"
        "durable.observe(lambda *_: os.kill(os.getpid(), signal.SIGKILL)); system_files(*sys.argv[1:])"
    )
    run = tmp_path / "run"
    run.mkdir()
    subprocess.run([sys.executable, "-c", script, run, etc], check=False)
    assert len(list(run.iterdir())) == 1
    (etc / "hosts").write_text("127.0.0.1 localhost other\n")
    folder = Path(system_files(str(run), str(etc)))
    assert list(run.iterdir()) == [folder]
