"""What a conda_yaml is read to, and what it is refused with."""

import pytest

from jobsphere.domain.conda import CondaPackages
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import PythonEnv
from jobsphere.pythonspec import environment_of

LONG = """
name: mine
prefix: /somewhere
channels:
  - pytorch
  - nodefaults
  - https://host/channel/
dependencies:
  - python=3.10
  - numpy   >=1.26,<3
  - numpy >=1.26,<3
  - on
  - bioconda::samtools=1.2=h0_*
  - scipy[version='>=1.2', build=py3*]
  - pip
  - pip:
    - requests>=2
    - --extra-index-url https://user:pass@host/simple
"""


def read(text: str, **more: object) -> object:
    return environment_of(PythonEnv(conda_yaml=text, **more))  # type: ignore[arg-type]


def test_a_document_is_read():
    env = environment_of(PythonEnv(conda_yaml=LONG, requirements=("extra",)))
    specs = (
        "bioconda::samtools=1.2=h0_*", "numpy >=1.26,<3", "on", "pip", "python=3.10",
        "scipy[version='>=1.2', build=py3*]",
    )  # fmt: skip
    assert env.conda == CondaPackages(("pytorch", "https://host/channel", "bioconda"), specs)
    assert env.requirements == ("extra", "requests>=2")
    assert env.extra_index_urls == ("https://user:pass@host/simple",)
    assert "pass" not in repr(env)


def test_equal_wishes_are_equal():
    one = "channels: [a]\nname: x\ndependencies: [b, c]"
    other = "{dependencies: [c,  'b', c], channels: ['a/'], prefix: y}"
    assert read(one) == read(other)
    assert read(one) != read(one.replace("[a]", "[d]"))


@pytest.mark.parametrize(
    ("text", "more", "specs"),
    [
        ("dependencies: [a]", {}, ("a",)),
        ("dependencies: [a]", {"python_version": "3.10"}, ("a", "python 3.10.*")),
        ("dependencies: [a, Python>3]", {"python_version": "3.10"}, ("Python>3", "a")),
        ("dependencies: [a, x::python]", {"python_version": "3.10"}, ("a", "x::python")),
        ("dependencies: [a, pip: [b]]", {}, ("a", "python")),
        ("dependencies: [a]", {"requirements": ("b",)}, ("a", "python")),
        ("dependencies: [3.10, null]", {}, ("3.10", "null")),
        ("channels:\ndependencies:", {}, ()),
    ],
)
def test_a_python_is_added_where_one_is_needed(text, more, specs):
    env = environment_of(PythonEnv(conda_yaml=text, **more))
    assert env.conda
    assert env.conda.specs == specs
    assert env.python_version == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dependencies:\n  - a\n - b", "line 3, column 2"),
        ("dependencies: [a", "line 1"),
        ("a\0b", "character"),
        ("[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("just text", "must be a mapping"),
        ("dependencies: a", "must be a list"),
        ("channels: {a: b}", "must be a list"),
        ("packages: [a]", "the key 'packages'"),
        ("dependencies: [{npm: [a]}]", "the only nested section"),
        ("dependencies: [{pip: [[a]]}]", "pip: every entry"),
        ("dependencies: [{pip: [-r other.txt]}]", "the option '-r'"),
        ("dependencies: [~]", "'' is not a package"),
        ("dependencies: ['>1']", "'>1' is not a package"),
        ("dependencies: ['a; rm']", "is not a package"),
        ("dependencies: ['a[url=https://h/secret]']", "an entry with a URL"),
        ("dependencies: ['https://h/secret.tar.bz2']", "an entry with a URL"),
        ("dependencies: ['a[fn=b]']", "is not a package"),
        ("dependencies: ['ftp://secret::a']", "a channel must be"),
        ("channels: ['ftp://secret']", "a channel must be"),
        ("channels: ['../up']", "a channel must be"),
        ("channels: [&a x, *a]", "aliases"),
        ("#" * 70_000 + "\n", "while the limit is"),
    ],
    ids=lambda value: value[:40],
)
def test_what_cannot_be_is_refused(text, words):
    with pytest.raises(InvalidArgumentError) as caught:
        read(text)
    assert caught.value.public.startswith(("conda_yaml: ", "requirements: "))
    assert words in caught.value.public
    assert "secret" not in caught.value.public


def test_a_malicious_entry_is_refused_quickly():
    with pytest.raises(InvalidArgumentError):
        read("dependencies: ['a[version=" + "version=" * 7000 + "/]']")
