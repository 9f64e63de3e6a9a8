"""What an environment costs: the first job of a list beside a bare `uv pip install` of it, and every later one."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.bench import settle
from uv import find_uv_bin

from benchmarks.figures import Figure, percentile
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.environments.cache import DEFAULT_SEARCH_PATH, open_builder

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
REQUIREMENTS = ("attrs==25.3.0", "click==8.1.8", "idna==3.10", "jinja2==3.1.6", "networkx==3.4.2", "rich==14.0.0")
ROUNDS = 8
WARM = 200
RUSH = 50


class _Bench:
    """A workbench that runs programs as a supervisor does: one after the other, reading their lines."""

    def log(self, line: str) -> None:
        """Nobody listens."""

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        with subprocess.Popen(
            argv, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            for line in child.stdout or ():
                on_line(line)
        return child.returncode

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> _Bench:  # noqa: ARG002 - as the port has it
        """As a supervisor without a sandbox builds: what is compared has no fence either."""
        return self


def run() -> list[Figure]:
    """Both in turn, each round with an empty cache of its own: the index's answers vary more than either."""
    wish = PythonEnvironment(OWN, REQUIREMENTS)
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        for number in range(ROUNDS + 1):
            data, prefix = Path(folder) / f"data-{number}", Path(folder) / f"bare-{number}"
            runs = [(ours, lambda data=data: _ensure(data, wish)), (bare, lambda prefix=prefix: _bare(prefix))]
            # Whoever comes second finds the index warmer: they take turns. The first round is for warming up.
            for times, work in reversed(runs) if number % 2 else runs:
                took = _timed(work)
                settle()
                if number:
                    times.append(took)
        settle()
        warm = [_timed(lambda: _ensure(data, wish)) for _ in range(WARM)]
        rush: list[bool] = []
        took = _timed(lambda: _all_at_once(Path(folder) / "rush", wish, rush))
    return [
        Figure("cold build", statistics.median(ours), "ms", statistics.median(bare), "bare uv", 1.1, at_most=True),
        Figure("warm p50", percentile(warm, 50), "ms", target=10, at_most=True),
        Figure("warm p99", percentile(warm, 99), "ms"),
        Figure(f"builds for {RUSH} jobs at once", len(rush) - sum(rush), "", target=1, at_most=True),
        Figure(f"until all {RUSH} have it", took, "ms", statistics.median(ours), "one alone"),
    ]


def _ensure(data: Path, wish: PythonEnvironment) -> bool:
    """Whether it was there."""
    search_path = (str(Path(sys.executable).resolve().parent), *DEFAULT_SEARCH_PATH)
    return open_builder(data, search_path).ensure(wish, _Bench()).hit


def _all_at_once(data: Path, wish: PythonEnvironment, hits: list[bool]) -> None:
    data.mkdir()
    with ThreadPoolExecutor(RUSH) as pool:
        hits += pool.map(lambda _: _ensure(data, wish), range(RUSH))


def _bare(prefix: Path) -> None:
    """What a user would type."""
    env = {**os.environ, "UV_CACHE_DIR": f"{prefix}-cache", "UV_NO_PROGRESS": "1"}
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", Path(sys.executable).resolve(), prefix], env=env, check=True)
    python = prefix / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--python", python, *REQUIREMENTS], env=env, check=True)


def _timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000
