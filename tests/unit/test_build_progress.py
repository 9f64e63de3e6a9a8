"""Lines of progress are thinned out, and nothing else is."""

import pytest

from jobsphere.domain.ports import EnvironmentBuildError
from jobsphere.environments.steps import FREE_LINES, PROGRESS_EVERY_S, Progress, Steps


def test_progress_is_no_flood():
    seen: list[str] = []
    now = [100.0]
    progress = Progress(seen.append, lambda: now[0])
    for n in range(FREE_LINES + 50):
        progress.line(f"Downloading p{n} (1.0MiB)")
    assert len(seen) == FREE_LINES + 1
    progress.line("error: no such package")
    assert seen[-1] == "error: no such package"
    now[0] += PROGRESS_EVERY_S
    progress.line(" Downloaded p3")
    assert seen[-1] == " Downloaded p3 (49 more since)"
    progress.line(" Downloaded p4")
    assert len(seen) == FREE_LINES + 3


def test_an_installer_that_crashed_is_told_from_one_that_refused():
    class Workbench:
        def log(self, line: str) -> None:
            pass

        def run(self, argv, env, on_line) -> int:
            on_line("solved: 3 packages")
            return 139

        def pause(self, seconds: float) -> None:
            raise NotImplementedError

    with pytest.raises(EnvironmentBuildError, match=r"(?s)solved: 3 packages\n.*ended by signal 11"):
        Steps({}, str, Workbench()).run(["x"], "it cannot be had", "Mend it.")
