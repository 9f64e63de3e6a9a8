"""Gathers what the tests find out about reliability; see :mod:`tests.reliability`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.reliability import Findings

_FINDINGS = pytest.StashKey[Findings]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name, told): a case of a fault, and what the user is told of it")
    config.stash[_FINDINGS] = Findings()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and report.when == "call" and not report.skipped:
        item.config.stash[_FINDINGS].fault(*mark.args, **mark.kwargs, survived=report.passed)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    findings = config.stash[_FINDINGS]
    for line in findings.words():
        terminalreporter.write_line(line)
    if os.environ.get("JOBSPHERE_SOAK"):
        findings.write()


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> Findings:
    """What this run has found out about reliability."""
    return pytestconfig.stash[_FINDINGS]
