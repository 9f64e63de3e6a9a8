"""Ctrl-C at a running ``execute``: plain, graceful, and the second one that forces."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.acceptance.jobfiles import job_id_in, log_text, run_dir, sleepers, wait_status, write_script
from tests.live import Client, LiveServer, wait_for

GRACEFUL = "graceful-shutdown:\n  signal: SIGINT\n  timeout: 1h\n"


class Foreground:
    """A running ``execute``, its words so far, and the keys that one types at it."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._words = folder / "words.txt"
        with self._words.open("w") as out:
            self.process = client.start(
                "project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=folder, stdout=out
            )

    def words(self) -> str:
        return self._words.read_text()

    def interrupt(self, answer: str, count: int = 1) -> None:
        """Ctrl-C, and an answer to the client's question, which is its ``count``-th."""
        self.process.send_signal(signal.SIGINT)
        wait_for(lambda: self.words().count("cancel job?") == count, f"the client asks:\n{self.words()}")
        assert self.process.stdin
        self.process.stdin.write(f"{answer}\n")
        self.process.stdin.flush()


def test_ctrl_c_cancels_at_once(client: Client, tmp_path: Path) -> None:
    folder = write_script(tmp_path / "job", "echo up; sleep 22345.01")
    run = Foreground(client, folder)
    wait_for(lambda: sleepers("22345.01"), "the program runs")

    run.interrupt("y")

    assert run.process.wait(120) != 0
    job_id = job_id_in(run.words())
    wait_status(client, job_id, folder, "CANCELLED")
    assert not sleepers("22345.01")


def test_ctrl_c_answered_no_goes_on(server: LiveServer, client: Client, tmp_path: Path) -> None:
    folder = write_script(tmp_path / "job", "echo up; until [ -e go ]; do sleep 0.1; done; echo finished")
    run = Foreground(client, folder)
    wait_for(lambda: "up" in run.words().partition("executing job")[2], "the program runs")

    run.interrupt("n")
    wait_for(lambda: "resuming job" in run.words(), "the client goes on")
    (run_dir(server.node_dir, job_id_in(run.words())) / "work" / "go").touch()

    assert run.process.wait(120) == 0, run.words()
    assert "finished" in run.words()


def test_ctrl_c_is_graceful_and_the_second_one_forces(server: LiveServer, client: Client, tmp_path: Path) -> None:
    script = "trap 'echo got the signal' INT; echo up; while true; do sleep 22345.02 & wait; done"
    folder = write_script(tmp_path / "job", script, GRACEFUL)
    run = Foreground(client, folder)
    wait_for(lambda: "up" in run.words().partition("executing job")[2], "the program runs")

    run.interrupt("y")
    job_id = job_id_in(run.words())
    wait_for(lambda: "got the signal" in log_text(server.node_dir, job_id), "the program got its signal")
    assert sleepers("22345.02")
    run.interrupt("y", count=2)

    assert run.process.wait(120) != 0
    wait_status(client, job_id, folder, "CANCELLED")
    assert not sleepers("22345.02")
