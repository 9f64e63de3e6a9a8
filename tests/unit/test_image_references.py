import pytest

from jobsphere.domain.image import complete, registry

DIGEST = "@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.11", "docker.io/library/python:3.11"),
        ("team/tool", "docker.io/team/tool:latest"),
        ("localhost/tiny:1", "localhost/tiny:1"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("cr.yandex/crp1/image" + DIGEST, "cr.yandex/crp1/image" + DIGEST),
        ("cr.yandex/image:tag" + DIGEST, "cr.yandex/image" + DIGEST),
        ("dir:etc", "docker.io/library/dir:etc"),
    ],
)
def test_one_complete_spelling(text, expected):
    assert complete(text) == expected
    assert complete(expected) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "-v", "--help", "dir:/etc", "oci-archive:/x.tar", "docker://python", "https://a.b/c", "a b", "A/b", "Up",
     "python:", "a.b/", "a.b/c@sha256:12", "a\n", "ann:secret@a.b/c", "a.b/../c", "x" * 2000],
)  # fmt: skip
def test_what_is_no_reference(text):
    assert complete(text) is None


def test_the_registry():
    assert registry("127.0.0.1:5000/a/b:c") == "127.0.0.1:5000"
