"""A folder of its own for each run.

The one that runs share is closed to other users whenever pytest starts: containers of a run under way, whose users are
others, would lose their files.
"""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# How fast a test runs is for no test to say: the machine may be busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
_FOLDER = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.stash[_FOLDER] = config.option.basetemp = tempfile.mkdtemp(prefix="jobsphere-tests-")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    folder = session.config.stash.get(_FOLDER, None)
    if folder and exitstatus == pytest.ExitCode.OK:  # after a failure it is for reading
        shutil.rmtree(folder)
