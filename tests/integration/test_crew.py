"""The supervisors that a spawner keeps: which one carries an attempt, and what is left in it of the one before."""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tests.live import HANG_S, wait_for

from jobsphere.runner import crew
from jobsphere.runner.crew import IDLE_NAME, Crew, Member

Report = dict[str, Any]


def supervise(path: str) -> None:
    """Stands for the carrying of an attempt: does what the file says and writes down what it finds around it."""
    order, report = Path(path), Path(f"{path}.report")
    match what := order.read_text():
        case "import":
            importlib.import_module("tabnanny")
        case "thread":
            threading.Thread(target=time.sleep, args=(HANG_S,), daemon=True).start()
        case "child":
            subprocess.Popen(["/bin/sleep", str(HANG_S)])
        case "fail":
            raise OSError(what)
        case "leave a file open":
            os.dup2(1, 77)
        case _:
            pass
    descriptors = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").exists())
    found = {"pid": os.getpid(), "environ": dict(os.environ), "descriptors": descriptors}
    draft = Path(f"{path}.draft")
    draft.write_text(json.dumps(found))
    draft.rename(report)


class Place:
    """A crew, and its spawner's part."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._number = 0
        self.crew = Crew(self._selector, supervise, keep)

    def order(self, what: str = "", **environ: str) -> Path:
        self._number += 1
        path = self._folder / f"order{self._number}"
        path.write_text(what)
        self.crew.launch(str(path), environ)
        return path.with_name(f"{path.name}.report")

    def carry(self, what: str = "", **environ: str) -> Report:
        """Have an attempt carried, and wait for its supervisor to be free or gone."""
        report = self.order(what, **environ)
        wait_for(lambda: not self.look().busy, "the supervisor is free or gone")
        return json.loads(report.read_text())

    def look(self) -> Crew:
        for key, _ in self._selector.select(0):
            assert isinstance(key.data, Member)
            self.crew.heard(key.data)
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self.crew
            if not pid:
                return self.crew
            if pid in self.crew:
                self.crew.ended(pid)

    def close(self) -> None:
        self.crew.rest(0)
        wait_for(lambda: not self.look().busy, "all supervisors have ended")
        self._selector.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield stack.enter_context(closing(Place(tmp_path)))


def test_one_carries_the_next_attempt_too(place: Place) -> None:
    first, second = place.carry(), place.carry()
    assert first["pid"] == second["pid"]
    assert Path(f"/proc/{first['pid']}/comm").read_text().strip() == IDLE_NAME


def test_after_so_many_it_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "MOST", 2)
    first, second, third = (place.carry()["pid"] for _ in range(3))
    assert first == second
    assert third != first
    assert first not in place.crew


def test_each_attempt_has_its_own_variables_and_no_descriptor_of_another(place: Place) -> None:
    first = place.carry("leave a file open", ONE="1", PATH="/nowhere")
    second = place.carry(TWO="2")
    assert first["pid"] == second["pid"]
    assert (first["environ"]["ONE"], first["environ"]["PATH"]) == ("1", "/nowhere")
    assert second["environ"] == {**os.environ, "TWO": "2"}
    assert first["descriptors"] == [0, 1, 2, 3, 77]
    assert second["descriptors"] == [0, 1, 2, 3]


@pytest.mark.parametrize("what", ["import", "thread", "child"])
def test_one_that_is_not_as_it_was_carries_no_other(place: Place, what: str) -> None:
    first = place.carry(what)
    assert first["pid"] not in place.crew
    assert place.carry()["pid"] != first["pid"]


def test_one_that_failed_carries_no_other(place: Place) -> None:
    place.order("fail")
    wait_for(lambda: not place.look().busy, "it is gone")
    assert not place.crew.idle


def test_one_that_was_killed_while_it_waited_is_replaced(place: Place) -> None:
    first = place.carry()
    os.kill(first["pid"], signal.SIGKILL)
    os.waitid(os.P_PID, first["pid"], os.WEXITED | os.WNOWAIT)
    assert place.carry()["pid"] != first["pid"]
    assert first["pid"] not in place.crew


def test_no_more_wait_than_are_to_be_kept(place: Place) -> None:
    reports = [place.order() for _ in range(4)]
    wait_for(lambda: not place.look().busy, "all are free or gone")
    pids = {json.loads(report.read_text())["pid"] for report in reports}
    assert len(pids) == 4
    assert len([pid for pid in pids if pid in place.crew]) == 2


def test_those_that_waited_for_long_end(place: Place) -> None:
    pid = place.carry()["pid"]
    place.crew.rest(HANG_S)
    assert place.look().idle
    place.crew.rest(0)
    wait_for(lambda: pid not in place.look(), "it has ended")


def test_they_end_with_their_spawner(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from tests.integration.test_crew import Place
place = Place(Path(sys.argv[1]))
print(place.carry()["pid"], flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as spawner:
        assert spawner.stdout
        pid = int(spawner.stdout.readline())
        fd = os.pidfd_open(pid)
        spawner.kill()
        with selectors.DefaultSelector() as selector, os.fdopen(fd) as file:
            selector.register(file, selectors.EVENT_READ)
            assert selector.select(HANG_S), "it goes on without its spawner"
