"""Records go to JSON and come back equal, and unknown keys and missing ones do no harm."""

from datetime import UTC, datetime

import pytest

from jobsphere.domain.artifact import ArtifactKind, Compression, File, FileDesc, FileError, FileErrorType
from jobsphere.domain.attempt import AttemptPlan, Collected, CollectedFile, Ended, EndReason, Started, StopOrder
from jobsphere.domain.command import OutputPlace, Placement
from jobsphere.domain.conda import CondaPackages
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import Phase
from jobsphere.runner import records

NOW = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
FILE = File(FileDesc("./o/", "OUT"), "0" * 64, 12, Compression.ZIP)
VALUES = [
    Started(NOW),
    Ended(NOW, EndReason.FAILED, None, Phase.STAGE, "é \udcff"),
    Ended(NOW, EndReason.EXITED, 0),
    Collected(
        NOW,
        (CollectedFile(ArtifactKind.OUTPUT, FILE, "output-0"),),
        (FileError("x", FileErrorType.NOT_FOUND, FILE.desc),),
        9,
    ),
    StopOrder(15, NOW),
    StopOrder(),
    AttemptPlan(
        "a",
        "j",
        "p",
        "echo ${A}",
        (("K", "v"),),
        (("A", "1"),),
        (("L", "work/l"),),
        (Placement(FILE, "work/o", unpack=True),),
        (OutputPlace(FileDesc("r"), "work/r"),),
        PythonEnvironment("3.11", ("n",), extra_index_urls=("https://u:p@h/",), conda=CondaPackages(("c",), ("s",))),
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_record_comes_back_equal(value):
    assert records.loads(type(value), records.dumps(value)) == value


def test_another_version_of_a_record_is_understood():
    assert records.loads(StopOrder, b'{"signal": 2, "mood": "angry"}') == StopOrder(2)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'"x"', b"{}", b'{"at": 5}'])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011
        records.loads(Started, data)
