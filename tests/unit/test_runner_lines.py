"""Cutting a stream: no byte is lost, lines and characters stay whole, and nothing is held back for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.runner.frames import MAX_CONTENT
from jobsphere.runner.lines import LONGEST_HOLD_S, SILENCE_S, LineCutter, character_boundary

pieces = st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.text(min_size=1).map(str.encode)), max_size=20)


@given(pieces, st.lists(st.floats(0, 1), min_size=20, max_size=20))
def test_the_contents_are_the_stream(written, waits):
    cutter, now, contents = LineCutter(), 0.0, []
    for data, wait in zip(written, waits, strict=False):
        contents += cutter.feed(data, now)
        now += wait
        contents += cutter.expire(now)
    contents += cutter.finish()
    assert b"".join(contents) == b"".join(written)
    assert all(0 < len(c) <= MAX_CONTENT for c in contents)


@given(st.text(alphabet="aé漢😀\n ", min_size=1), st.integers(1, 7))
def test_text_is_never_cut_inside_a_character(text, step):
    cutter, data, contents = LineCutter(), text.encode(), []
    for n, start in enumerate(range(0, len(data), step)):
        contents += cutter.feed(data[start : start + step], n * 1.0)
        contents += cutter.expire(n * 1.0 + SILENCE_S)
    contents += cutter.finish()
    assert "".join(c.decode() for c in contents) == text


@pytest.mark.parametrize("unit", ["a", "é", "漢", "😀"])
def test_a_line_longer_than_a_frame_is_cut_between_characters(unit):
    text = (unit * (3 * MAX_CONTENT)) + "\n"
    contents = LineCutter().feed(b"x" + text.encode(), 0.0)
    assert "".join(c.decode() for c in contents) == "x" + text
    assert all(len(c) <= MAX_CONTENT for c in contents)


def test_many_lines_are_cut_before_a_line_without_leading_blanks():
    data = b"".join(b"head %d\n    body\n" % n for n in range(20_000))
    contents = LineCutter().feed(data, 0.0)
    assert b"".join(contents) == data
    assert len(contents) > 3
    assert all(c.startswith(b"head") for c in contents)


def test_an_unfinished_line_waits_for_its_end_until_the_stream_is_silent():
    cutter = LineCutter()
    assert cutter.feed(b"one\ntw", 1.0) == [b"one\n"]
    assert cutter.expire(1.0 + SILENCE_S / 2) == []
    assert cutter.feed(b"o\n", 1.1) == [b"two\n"]
    assert cutter.feed(b"pass: ", 2.0) == []
    assert cutter.due() == 2.0 + SILENCE_S
    assert cutter.expire(2.0 + SILENCE_S) == [b"pass: "]
    assert cutter.due() is None


def test_a_progress_bar_that_is_never_silent_is_shown():
    cutter, shown = LineCutter(), []
    for n in range(30):
        shown += cutter.feed(b"\r%d%%" % n, n * 0.1) + cutter.expire(n * 0.1)
    assert len(shown) >= 30 * 0.1 / LONGEST_HOLD_S - 1


def test_half_a_character_waits_for_its_other_half():
    cutter = LineCutter()
    assert cutter.feed("né".encode()[:2], 0.0) == []
    assert cutter.expire(9.0) == [b"n"]
    assert cutter.due() is None
    assert cutter.feed("é\n".encode()[1:], 9.0) == ["é\n".encode()]


@pytest.mark.parametrize(("data", "boundary"), [(b"", 0), (b"ab", 2), (b"\xff\xfe", 2), (b"\x80\x80\x80\x80", 4)])
def test_bytes_that_are_no_text_have_boundaries_too(data, boundary):
    assert character_boundary(data, len(data)) == boundary
