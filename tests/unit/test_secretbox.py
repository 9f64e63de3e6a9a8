import pytest

from jobsphere.domain.errors import CorruptedError
from jobsphere.secretbox import SecretBox

KEY = b"k" * 32


def test_what_is_sealed_opens_for_its_project_only():
    box = SecretBox(KEY)
    sealed = box.seal("p1", "pässword")
    assert box.open("p1", sealed) == "pässword"
    assert sealed != box.seal("p1", "pässword")
    for other, project, text in (
        (SecretBox(b"x" * 32), "p1", sealed),
        (box, "p2", sealed),
        (box, "p1", sealed[:-4] + "AAAA"),
        (box, "p1", ""),
        (box, "p1", "v1.no base64"),
    ):
        with pytest.raises(CorruptedError) as caught:
            other.open(project, text)
        assert "pässword" not in str(caught.value)
