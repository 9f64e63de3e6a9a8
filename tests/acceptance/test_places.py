"""The main job's acceptance tests on every kind of database, blob store and node: each place is a run of pytest.

``make soak`` runs all of them at all places; otherwise it is a sample, the same each time.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.live import PLACE
from tests.places import PLACES
from tests.ray_cluster import lacking

ROOT = Path(__file__).parents[2]
SUITE = [f"tests/acceptance/test_{name}.py" for name in ("cli", "sdk", "interrupt", "api")]
SAMPLE_SEED, SAMPLE = 20, 2
SAMPLED_PLACES = ["postgres+s3+agents", "sqlite+s3+local", "sqlite+local+ray"]
"""They have each kind of each part; what they leave out of its pairs the whole matrix has."""
SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
QUICK = [
    "test_cli.py::test_execute_brings_log_and_outputs",
    "test_cli.py::test_a_repeated_job_uploads_nothing",
    "test_cli.py::test_folders",
    "test_cli.py::test_a_failing_program_tells_its_code_after_its_outputs",
    "test_cli.py::test_async_then_attach",
    "test_cli.py::test_download_files_with_logs_and_diagnostics",
    "test_cli.py::test_graceful_cancel_saves_outputs",
    "test_interrupt.py::test_ctrl_c_answered_no_goes_on",
    "test_api.py::test_every_field_of_a_finished_job_is_filled",
    "test_api.py::test_deleted_data_is_gone_from_the_disk_and_what_others_use_stays",
]
"""Of these the sample is drawn: they build no environments."""


@pytest.mark.timeout(7200 if SOAK else 900)
@pytest.mark.parametrize("place", PLACES if SOAK else SAMPLED_PLACES)
def test_the_main_job_at_a_place(place: str, tmp_path: Path, passed_at: Callable[[str, int, int, int], None]) -> None:
    if place.endswith("ray") and lacking() and not os.environ.get("CI"):
        pytest.skip(lacking())
    drawn = random.Random(f"{SAMPLE_SEED} {place}").sample(QUICK, SAMPLE)
    tests = SUITE if SOAK else [f"tests/acceptance/{name}" for name in drawn]
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, "-p", "no:cacheprovider", f"--junit-xml={report}"],
        cwd=ROOT,
        env={**os.environ, PLACE: place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    counts = ElementTree.parse(report).find("testsuite")
    assert counts is not None
    ran, failed, skipped = (int(counts.attrib[name]) for name in ("tests", "failures", "skipped"))
    failed += int(counts.attrib["errors"])
    passed_at(place, ran, ran - failed - skipped, failed)
    assert done.returncode == 0, done.stdout
    assert ran >= len(tests)
    assert not skipped
