"""``jobsphere client-env`` and the other commands, as a newcomer meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, write_script
from tests.live import BIN, HANG_S, LiveServer, live_server


def jobsphere(*args: object, code: int = 0) -> str:
    done = subprocess.run(
        [BIN / "jobsphere", *map(str, args)], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_users_own_proxy_settings_do_no_harm(server: LiveServer, tmp_path: Path) -> None:
    theirs = {"no_proxy": ".yandex.net,example.org", "http_proxy": "http://127.0.0.1:9", "GRPC_PROXY": "nonsense"}
    client = server.client(environ=theirs)

    words = execute(client, write_script(tmp_path / "job", "echo through; echo x > out", "outputs:\n- out\n"))

    assert "through" in words
    assert "example.org" in client.exports["no_proxy"]


def test_the_exports_can_be_evaluated(server: LiveServer, tmp_path: Path) -> None:
    line = f'eval "$({BIN}/jobsphere client-env --data-dir {server.data_dir})" && echo "$JOBSPHERE_PROJECT"'

    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == server.client().project


def test_without_a_server_it_says_what_to_do(tmp_path: Path) -> None:
    words = jobsphere("client-env", "--data-dir", tmp_path / "nothing", code=1)

    assert "no server is running" in words
    assert "jobsphere up" in words


def test_a_second_server_on_the_same_data_is_refused(server: LiveServer) -> None:
    words = jobsphere(
        "up", "--data-dir", server.data_dir, "--grpc-port", 0, "--proxy-port", 0, "--http-port", 0, code=1
    )

    assert "already running" in words


def test_a_port_that_is_taken_is_told(server: LiveServer, tmp_path: Path) -> None:
    port = server.ports["http"]

    words = jobsphere("up", "--data-dir", tmp_path / "data", "--grpc-port", 0, "--proxy-port", 0,
                      "--http-port", port, code=1)  # fmt: skip

    assert "in use" in words


def test_projects_can_be_created_and_listed(server: LiveServer) -> None:
    created = json.loads(jobsphere("project", "create", "team-a", "--data-dir", server.data_dir, "--json"))
    listed = json.loads(jobsphere("project", "list", "--data-dir", server.data_dir, "--json"))

    assert created["id"] in {p["id"] for p in listed}
    assert "already" in jobsphere("project", "create", "team-a", "--data-dir", server.data_dir, code=1)


def test_demo_runs_a_job_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = jobsphere("demo")

    assert "job completed successfully" in words
    assert "3 the" in words or "4 the" in words
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("jobsphere-demo")]


WITHOUT_A_NETWORK = """
import fcntl, os, socket, struct, sys
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP: loopback, and nothing else
os.execv(sys.argv[1], sys.argv[1:])
"""


CUT_OFF = ("unshare", "--map-root-user", "--net")


def test_it_starts_and_runs_a_job_with_the_network_cut(tmp_path: Path) -> None:
    if "CI" not in os.environ and subprocess.run([*CUT_OFF, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host lets no user make a network namespace (in a chroot nobody can)")
    command = [*CUT_OFF, sys.executable, "-c", WITHOUT_A_NETWORK, BIN / "jobsphere", "demo"]

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=HANG_S, check=False, env=os.environ | {"TMPDIR": str(tmp_path)}
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "job completed successfully" in done.stderr + done.stdout


def test_tokens_are_asked_for_when_required(tmp_path: Path) -> None:
    with live_server(tmp_path / "data", "--require-tokens") as server:
        client = server.client()
        assert client.project in client.run("project", "get", "--id", client.project, cwd=tmp_path)
        client.exports = {**client.exports, "YC_IAM_TOKEN": "wrong"}
        assert "UNAUTHENTICATED" in client.run("project", "get", "--id", client.project, cwd=tmp_path, code=1)
