"""What the user wrote about an environment, made one value."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain.conda import CondaPackages
from jobsphere.domain.environment import PythonEnvironment, canonical
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import PipOptions, PythonEnv

requirements = st.lists(st.sampled_from(["numpy==1.26", "pandas", "x[extra] >=1,<2", "torch; python_version < '3.12'"]))
SECRET = "https://user:hush@index.example/simple?a=b"


def read(*lines: str, options: PipOptions | None = None) -> PythonEnvironment:
    return canonical(PythonEnv(python_version="3.11", requirements=lines, pip_options=options))


@given(requirements, st.randoms(use_true_random=False))
def test_order_repeats_blanks_and_comments_make_no_difference(lines: list[str], random: object) -> None:
    shuffled = lines + lines[:1]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = [f"  {line}  # why it is here" for line in shuffled]
    assert read(*lines) == read("# a comment", "", "   ", *other)


@given(requirements)
def test_what_is_canonical_stays_so(lines: list[str]) -> None:
    once = read(*lines)
    assert read(*once.requirements) == once
    assert set(once.requirements) == set(lines)


@pytest.mark.parametrize("join", [" ", "=", "   ", "\t", " \t"])
def test_options_are_read_in_every_spelling(join: str) -> None:
    env = read(
        "numpy",
        f"--index-url{join}{SECRET}",
        f"--extra-index-url{join}https://b/?c=d",
        f"--extra-index-url{join}https://b/?c=d",
        f"--trusted-host{join}h",
        "--no-deps",
    )
    assert env == PythonEnvironment("3.11", ("numpy",), SECRET, ("https://b/?c=d",), ("h",), True)


def test_options_of_the_spec_and_of_the_lines_add_up() -> None:
    options = PipOptions("https://a/", ("https://b/",), ("b",), no_deps=True)
    env = read("--extra-index-url https://c/", "--trusted-host c", options=options)
    assert env == PythonEnvironment("3.11", (), "https://a/", ("https://b/", "https://c/"), ("b", "c"), True)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url",
        "--extra-index-url=",
        "--trusted-host  ",
        "--no-deps yes",
        f"--find-links={SECRET}",
        f"--find-links {SECRET}",
        f"-i {SECRET}",
        f"-i{SECRET}",
        "-r other.txt",
        "-e .",
        "-",
        "--",
        f"--index-url{SECRET}",
    ],
)
def test_other_options_are_refused_by_name_and_without_their_value(line: str) -> None:
    with pytest.raises(InvalidArgumentError, match="requirements: the option") as caught:
        read("numpy", line)
    assert "hush" not in str(caught.value)


def test_indexes_are_not_shown() -> None:
    assert "hush" not in repr(read(f"--index-url {SECRET}", f"--extra-index-url {SECRET}"))


ONE = PythonEnvironment("3.11", ("a",), "i", ("e",), ("h",), no_deps=False, conda=CondaPackages(("c",), ("s",)))
OTHER = PythonEnvironment("3.12", ("b",), "j", ("f",), ("k",), no_deps=True, conda=None)


@pytest.mark.parametrize("name", [f.name for f in fields(PythonEnvironment)])
def test_every_field_is_in_the_fingerprint(name: str) -> None:
    assert replace(ONE, **{name: getattr(OTHER, name)}).fingerprint("linux") != ONE.fingerprint("linux")


def test_equal_environments_share_a_fingerprint_on_equal_platforms() -> None:
    assert ONE.fingerprint("linux") == replace(ONE).fingerprint("linux")
    assert ONE.fingerprint("linux") != ONE.fingerprint("linux-arm")
    assert len(ONE.fingerprint("linux")) == 64
