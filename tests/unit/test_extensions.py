"""The section of a config that is this server's."""

import pytest

from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.extensions import Extensions, extensions_of

BASE = "name: n\ncmd: python a.py\nargs:\n  x-jobsphere: {retries: '9'}\nenv:\n  vars:\n    - A: x-jobsphere\n"


@pytest.mark.parametrize(
    ("text", "retries"),
    [
        ("", 0),
        ("cmd: true\n", 0),
        (BASE, 0),
        (BASE + "x-jobsphere:\n  retries: 3\n", 3),
        (BASE + "x-jobsphere: {retries: '12'}\ninputs: [a, b]\n", 12),
        ("x-jobsphere:\n  retries: 2\n" + BASE, 2),
        ("x-jobsphere:\ncmd: retries\n", 0),
        ("inputs: &a [b]\noutputs: *a\nx-jobsphere: {retries: 1}\n", 1),
        ("desc: the key x-jobsphere is not set\n", 0),
    ],
)
def test_retries_are_read_and_nothing_else(text: str, retries: int) -> None:
    assert extensions_of(text) == Extensions(retries)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("x-jobsphere: {retries: -1}", "retries.*0 to 100"),
        ("x-jobsphere: {retries: 101}", "retries.*0 to 100"),
        ("x-jobsphere: {retries: ٣}", "retries.*0 to 100"),
        ("x-jobsphere: {retries: many}", "'many'"),
        ("x-jobsphere: {retry: 1}", "retry: there is no such key; there is: retries"),
        ("x-jobsphere: [retries]", "must hold keys"),
        ("x-jobsphere: {retries: {a: 1}}", "plain values"),
        ("a: &b {retries: -1}\nx-jobsphere: *b", "retries"),
        ("x-jobsphere: 3", "must hold keys"),
        ("x-jobsphere: {retries: 1", "no YAML"),
    ],
)
def test_what_may_not_stand_there_is_refused_by_its_name(section: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        extensions_of(f"cmd: true\n{section}\n")


def test_a_deep_or_self_growing_config_costs_nothing() -> None:
    bomb = "a: &a [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1 if i > 1 else ''}, *a]\n" for i in range(1, 30))
    with pytest.raises(InvalidArgumentError, match="no YAML"):
        extensions_of("x-jobsphere: {}\na: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(InvalidArgumentError, match="at most"):
        extensions_of("x-jobsphere: {}\n#" + "x" * (1 << 16))
    assert extensions_of(bomb + "x-jobsphere: {retries: 1}\n").retries == 1
