"""A folder of its own for each run; and what the tests find out about reliability (see :mod:`tests.reliability`).

The folder that runs share is closed to other users whenever pytest starts: containers of a run under way, whose users
are others, would lose their files.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, settings

from tests.live import PLACE
from tests.postgres import Postgres, postgres_server
from tests.reliability import Findings, Load, Place, Sweep
from tests.slurm import Slurm, slurm_cluster

pytest.register_assert_rewrite(
    "tests.crash.kinds", "tests.crash.ended", "tests.crash.place", "tests.load.jobs", "tests.load.clients"
)
# How fast a test runs is for no test to say: the machine may be busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
_FOLDER = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's "&": the clients of tests would ignore Ctrl-C too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.stash[_FOLDER] = config.option.basetemp = tempfile.mkdtemp(prefix="jobsphere-tests-")
    config.addinivalue_line("markers", "fault(name): a case of a fault of tests.reliability.TOLD")
    config.pluginmanager.register(_Gatherer(config.pluginmanager))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    folder = session.config.stash.get(_FOLDER, None)
    if folder and exitstatus == pytest.ExitCode.OK:  # after a failure it is for reading
        shutil.rmtree(folder)


class _Gatherer:
    """Of reports, which come from other processes too."""

    def __init__(self, plugins: pytest.PytestPluginManager) -> None:
        self._findings = Findings()
        self._plugins = plugins

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        mark = item.get_closest_marker("fault")
        if mark is not None and report.when == "call" and not report.skipped:
            report.user_properties.append(("cases", [*mark.args, 1, int(report.passed)]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._plugins.getplugin("terminalreporter")  # none in a worker
        if report.failed and terminal is not None:  # at once: a run that is broken off has no summary
            terminal.write_line(f"\n{report.nodeid} failed in {report.when}\n{report.longreprtext[-2000:]}")
        if report.when != "call":
            return
        for kind, value in report.user_properties:
            if kind == "cases":
                self._findings.cases(*value)
            elif kind == "sweep":
                self._findings.swept(Sweep(**value))
            elif kind == "load":
                self._findings.bore(Load(**value))
            elif kind == "takeover":
                self._findings.took(*value)
            elif kind == "place":
                self._findings.passed_at(Place(*value))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._findings.words():
            terminalreporter.write_line(line)
        if os.environ.get("JOBSPHERE_SOAK") and PLACE not in os.environ:  # a run within another tells that one
            self._findings.write()


@pytest.fixture
def swept(record_property: Callable[[str, object], None]) -> Callable[[Sweep], None]:
    """Takes in what a sweep has found out."""
    return lambda sweep: record_property("sweep", asdict(sweep))


@pytest.fixture
def bore(record_property: Callable[[str, object], None]) -> Callable[[Load], None]:
    """Takes in what came of a load."""
    return lambda load: record_property("load", asdict(load))


@pytest.fixture
def took(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Takes in after how many seconds another server led, and at which moment one was killed."""
    return lambda *found: record_property("takeover", list(found))


@pytest.fixture
def passed_at(record_property: Callable[[str, object], None]) -> Callable[[str, int, int, int], None]:
    """Takes in what came of the main job's tests at a place: how many ran, passed, and failed."""
    return lambda *found: record_property("place", list(found))


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Callable[[str, int, int], None]:
    """Takes in many cases of a fault: its name, how many were tried, and how many survived."""
    return lambda *found: record_property("cases", list(found))


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """A PostgreSQL server, started when the first test asks for it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def slurm() -> Generator[Slurm]:
    """A cluster of Slurm."""
    with slurm_cluster() as cluster:
        yield cluster
