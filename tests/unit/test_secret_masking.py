"""Secret values in a stream: gone wherever it is cut, and nothing else with them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.runner.secrets import Masker


def fed(masker: Masker, *pieces: bytes) -> list[bytes]:
    return [*map(masker.feed, pieces), masker.finish()]


def test_a_value_is_masked_and_what_is_around_it_stays():
    assert fed(Masker(["hush1"]), b"a hush1 b hush1hush1\n") == [b"a ***** b **********\n", b""]


def test_a_value_across_any_border_is_masked():
    text = b"say hush1!"
    for cut in range(len(text)):
        assert b"".join(fed(Masker(["hush1"]), text[:cut], text[cut:])) == b"say *****!"
    assert b"".join(fed(Masker(["hush1"]), *(bytes([b]) for b in text))) == b"say *****!"


def test_only_the_beginning_of_a_value_is_held_back():
    assert fed(Masker(["hush1"]), b"name: ", b"hus", b"band\n") == [b"name: ", b"", b"husband\n", b""]
    assert fed(Masker(["hush1"]), b"a hus") == [b"a ", b"hus"]


def test_values_that_share_bytes_leave_none_in_clear():
    assert b"".join(fed(Masker(["abcd", "cdef"]), b"-abcdef-")) == b"-*****-"
    assert b"".join(fed(Masker(["abcd", "cdef"]), b"-abcd", b"ef-")) == b"-*****-"
    assert b"".join(fed(Masker(["abcd", "abcdef"]), b"-abcd", b"ef-")) == b"-*****-"
    assert b"".join(fed(Masker(["aaaa"]), *[b"aaa"] * 100, b"b")) == b"*****b"


def test_lines_of_a_value_count_by_themselves_and_short_ones_do_not():
    masker = Masker(["-----BEGIN-----\r\n  line-one  \nxy\n", "no"])
    assert fed(masker, b"line-one xy no -----BEGIN-----")[0] == b"***** xy no *****"


def test_a_long_value_of_one_letter_costs_no_time():
    value = "a" * 65536
    assert b"".join(fed(Masker([value]), *[b"b" * 65536 + b"a" * 30000] * 8)).count(b"a") == 8 * 30000


@given(
    st.lists(st.text("ab", min_size=4, max_size=7), min_size=1, max_size=4),
    st.binary(max_size=60).map(lambda raw: bytes(b"ab-"[b % 3] for b in raw)),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_it_does_not_matter_where_it_is_cut(values: list[str], text: bytes, cuts: list[int]):
    bounds = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    covered = bytearray(text)
    for value in values:
        for found in re.finditer(f"(?={value})".encode(), text):
            covered[found.start() : found.start() + len(value)] = b"*" * len(value)
    given_ = b"".join(fed(Masker(values), *pieces))
    assert re.sub(rb"\*+", b"*", given_) == re.sub(rb"\*+", b"*", bytes(covered))


@pytest.mark.parametrize("values", [[], [""], ["abc"]])
def test_without_values_all_passes(values: list[str]):
    assert fed(Masker(values), b"abc") == [b"abc", b""]
