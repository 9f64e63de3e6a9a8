"""Every command of the documentation is run, page by page, as a reader would, against a real server.

A page whose reader starts a server has one of its own; the others share one. The reader has a copy of the project as
``make setup`` leaves it, a home, and no internet. See :mod:`tests.manual` for what the pages say between the lines.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobsphere.cli.main import app
from tests.commands import commands
from tests.live import BIN, LiveServer, live_server, processes_of, wait_for
from tests.manual import KINDS, ROOT, TEXTS, Step, program, shows, steps

LIMIT_S = 480
"""A limit for hangs, as that of the tests is."""
pytestmark = pytest.mark.timeout(2 * LIMIT_S)
READERS = 3
PAGES = {path.name: steps(path.read_text()) for path in TEXTS}
RUN = ("command", "stays", "python")
ELSEWHERE = {
    "client-env)": "client-env --offline)",  # there is no package index here
    "--host 0.0.0.0 --public-host gpu1.example.org": "--require-tokens",  # tests listen on loopback
    "/mnt/backups": "~/backups",
    "/srv/jobsphere": "~/srv",
}
"""What a page names that is another thing on a test host."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("docs") / "data") as server:
        yield server


@dataclass(frozen=True)
class Followed:
    """What came of a page: the code of each step that was taken, and where what they printed is."""

    code: int
    said: str
    codes: list[tuple[int, int]]
    out: Path

    def printed(self, step: int) -> str:
        return (self.out / str(step)).read_text()


@pytest.fixture(scope="module")
def followed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Followed]]:
    """Follows pages side by side, since most of their time is waiting: the first call starts all that are asked for."""
    chosen = {item.callspec.params["name"] for item in request.session.items if "followed" in item.fixturenames}
    started: dict[str, Future[Followed]] = {}
    with ThreadPoolExecutor(READERS) as pool:

        def result(name: str) -> Followed:
            if not started:
                for one in sorted(chosen, key=lambda one: not starts_a_server(one)):
                    server = None if starts_a_server(one) else request.getfixturevalue("shared")
                    started[one] = pool.submit(follow, PAGES[one], tmp_path_factory.mktemp(one), server)
            return started[name].result()

        yield result


def starts_a_server(name: str) -> bool:
    return any(step.kind == "stays" for step in PAGES[name])


def follow(page: list[Step], folder: Path, server: LiveServer | None) -> Followed:
    """Take the steps of a page in a home of their own; whatever was started ends."""
    home, out, codes = folder / "home", folder / "out", folder / "codes"
    (home / "tmp").mkdir(parents=True)
    out.mkdir()
    (folder / "steps").write_text(here(program(page, out, codes), server))
    try:
        done = subprocess.run(
            ["bash", folder / "steps"],
            cwd=checkout(folder / "jobsphere"),
            env=environ(home, server),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        end_all(home)
    taken = [(int(step), int(code)) for step, code in map(str.split, codes.read_text().splitlines())]
    return Followed(done.returncode, done.stderr, taken, out)


def end_all(home: Path) -> None:
    def servers() -> list[int]:
        return [pid for pid, command in processes_of(str(home)).items() if "jobsphere up" in command]

    for pid in servers():
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not servers(), "the reader's servers have stopped")
    for pid in processes_of(str(home)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes_of(str(home)), "all that the reader started has ended")


def checkout(folder: Path) -> Path:
    """The project as ``make setup`` leaves it; what the reader makes there is theirs."""
    (folder / ".venv").mkdir(parents=True)
    (folder / ".venv" / "bin").symlink_to(BIN)
    for name in ("Makefile", "pyproject.toml", "uv.lock", "tools", "src"):
        (folder / name).symlink_to(ROOT / name)
    subprocess.run(["cp", "-r", ROOT / "examples", folder], check=True)
    (folder / ".venv" / ".ready").touch()
    return folder


def environ(home: Path, server: LiveServer | None) -> dict[str, str]:
    """Of a reader's terminal. Servers that are started in it take free ports."""
    ports = {f"JOBSPHERE_{name}_PORT": "0" for name in ("GRPC", "PROXY", "HTTP")}
    theirs = {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(home / "tmp")}
    theirs |= {"COLUMNS": "200", "UV_OFFLINE": "1"}
    where = {"JOBSPHERE_DATA_DIR": str(server.data_dir)} if server else {}
    kept = {name: value for name, value in os.environ.items() if name in ("LANG", "TZ", "USER")}
    return {**kept, **ports, **theirs, **where}


def here(text: str, server: LiveServer | None) -> str:
    """A program with what is elsewhere on a test host."""
    there = ELSEWHERE | ({"127.0.0.1:9080": f"127.0.0.1:{server.ports['http']}"} if server else {})
    for page, host in there.items():
        text = text.replace(page, host)
    return text


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if any(step.kind in RUN for step in page)])
def test_a_page_can_be_followed(name: str, followed: Callable[[str], Followed]) -> None:
    page = PAGES[name]
    if any("curl " in step.text for step in page) and shutil.which("curl") is None and "CI" not in os.environ:
        pytest.skip("curl is not installed")
    done = followed(name)
    if done.code:
        step, code = done.codes[-1]
        text = f"{name}:{page[step].line}: ended with {code}: {page[step].text}"
        pytest.fail(f"{text}\n{done.printed(step)}{done.said}", pytrace=False)
    assert len(done.codes) == sum(step.kind not in ("shows", "not run") for step in page)
    for number, step in enumerate(page):
        if step.kind == "shows":
            printed = done.printed(number - 1)
            assert shows(step.text, printed), f"{name}:{step.line}: it prints\n{printed}"


def counted(page: list[Step]) -> tuple[int, dict[str, int]]:
    """How many of a page are run, and how many are not, by the kind of reason."""
    return sum(step.kind in RUN for step in page), dict(Counter(step.why for step in page if step.kind == "not run"))


def test_nothing_is_left_out_but_for_a_known_reason(capsys: pytest.CaptureFixture[str]) -> None:
    run, left = 0, Counter[str]()
    for name, page in PAGES.items():
        ran, not_run = counted(page)
        run, left = run + ran, left + Counter(not_run)
        assert set(not_run) <= set(KINDS), name
    with capsys.disabled():
        told = ", ".join(f"{count} because {KINDS[why]}" for why, count in left.items())
        print(f"\ncommands in the documentation: {run} are run, {left.total()} are not: {told}")
    assert run > 40
    assert left.total() < run / 5


def test_every_command_is_on_a_page() -> None:
    """So each is run by a test, and a reader sees how it is used."""
    run = [step.text for page in PAGES.values() for step in page if step.kind in RUN]
    calls = re.findall(r"\bjobsphere ([a-z][\w -]*)", "\n".join(run).replace("make demo", "jobsphere demo"))
    found = {app.parse_commands(call.split())[0] for call in calls}
    assert set(commands(app)) - found == set()


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_no_command_hides_in_a_block_of_another_language(text: Path) -> None:
    languages = set(re.findall(r"^```(\S+)$", text.read_text(), re.MULTILINE))
    assert languages <= {"sh", "console", "python", "yaml", "toml", "text", "js"}
