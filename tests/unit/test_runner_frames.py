"""The log file: what is appended comes back, whatever was cut off, and no other offset is believed."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain.attempt import SYSTEM_LOG, LogStream
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.runner import frames
from jobsphere.runner.frames import MAX_CONTENT, LogWriter, all_frames, read_frames, whole_size

batches = st.lists(
    st.tuples(
        st.sampled_from([(LogStream.OUT, ""), (LogStream.ERR, ""), (LogStream.FILE, SYSTEM_LOG)]),
        st.lists(st.binary(min_size=1, max_size=200), max_size=4),
    ),
    max_size=8,
)


def write_all(path, appended):
    writer = LogWriter(str(path))
    for (stream, name), contents in appended:
        writer.append(stream, contents, name)
    writer.close()
    return [(stream, name, content) for (stream, name), contents in appended for content in contents]


def shown(frames):
    return [(f.stream, f.path, f.content) for f in frames]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs"


@given(appended=batches, limit=st.integers(0, 500))
def test_what_was_appended_is_read_in_steps_of_any_size(tmp_path_factory, appended, limit):
    path = tmp_path_factory.mktemp("log") / "logs"
    expected = write_all(path, appended)
    fd = os.open(path, os.O_RDONLY)
    seen, offset = [], 0
    while True:
        frames, offset = read_frames(fd, offset, limit)
        if not frames:
            break
        seen += frames
    assert shown(seen) == shown(all_frames(fd)) == expected
    assert offset == whole_size(fd) == path.stat().st_size
    os.close(fd)


@given(appended=batches, cut=st.integers(1, 300))
@pytest.mark.fault("truncated log frames")
def test_an_incomplete_tail_is_not_there_and_the_next_writer_cuts_it_off(tmp_path_factory, appended, cut):
    path = tmp_path_factory.mktemp("log") / "logs"
    expected = write_all(path, appended)
    os.truncate(path, max(path.stat().st_size - cut, 0))
    fd = os.open(path, os.O_RDONLY)
    before = shown(all_frames(fd))
    assert before == expected[: len(before)]
    end = whole_size(fd)
    os.close(fd)
    writer = LogWriter(str(path))
    assert writer.size == end
    writer.append(LogStream.OUT, [b"next\n"])
    assert shown(all_frames(writer.fd)) == [*before, (LogStream.OUT, "", b"next\n")]
    writer.close()


def test_a_batch_may_have_more_frames_than_one_system_call_takes(log):
    contents = [b"%d\n" % n for n in range(3000)]
    write_all(log, [((LogStream.OUT, ""), contents)])
    fd = os.open(log, os.O_RDONLY)
    assert [f.content for f in all_frames(fd)] == contents
    os.close(fd)


def test_the_size_of_a_long_log_is_found_from_any_frame(log):
    writer = LogWriter(str(log))
    writer.append(LogStream.OUT, [b"x" * MAX_CONTENT] * 3)
    middle = writer.size
    writer.append(LogStream.OUT, [b"y" * 5000, b"z"])
    assert whole_size(writer.fd) == whole_size(writer.fd, middle) == writer.size
    writer.close()


@pytest.mark.parametrize("offset", [-1, 1, 7, 14, 10_000])
def test_an_offset_inside_a_frame_is_refused(log, offset):
    writer = LogWriter(str(log))
    writer.append(LogStream.OUT, [b"some text that is no header\n"] * 3)
    with pytest.raises(InvalidArgumentError, match="offset"):
        read_frames(writer.fd, offset, 100)
    writer.close()


@pytest.mark.fault("truncated log frames")
def test_a_write_that_fails_leaves_the_log_as_it_was(log, monkeypatch):
    writer = LogWriter(str(log))
    writer.append(LogStream.OUT, [b"kept\n"])

    def half(fd, parts):
        os.write(fd, parts[0])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", half)
        with pytest.raises(OSError, match="No space"):
            writer.append(LogStream.OUT, [b"lost\n"])
    writer.append(LogStream.OUT, [b"next\n"])
    assert [f.content for f in all_frames(writer.fd)] == [b"kept\n", b"next\n"]
    writer.close()


@pytest.mark.fault("truncated log frames")
def test_what_a_power_cut_left_behind_is_cut_off(log):
    write_all(log, [((LogStream.OUT, ""), [b"kept\n"])])
    size = log.stat().st_size
    os.truncate(log, size + 100_000)
    writer = LogWriter(str(log))
    assert writer.size == size
    assert [f.content for f in all_frames(writer.fd)] == [b"kept\n"]
    writer.close()


def test_a_log_is_cut_at_a_frame_and_goes_on_there(tmp_path):
    writer = LogWriter(str(tmp_path / "logs"))
    writer.append(LogStream.OUT, [b"1" * 100, b"2" * 100, b"3" * 100])
    before = writer.size
    writer.cut(250)
    writer.append(LogStream.OUT, [b"4"])
    assert [f.content[:1] for f in all_frames(writer.fd)] == [b"1", b"2", b"4"]
    assert whole_size(writer.fd, before) == writer.size == os.fstat(writer.fd).st_size
    writer.close()


@pytest.mark.fault("clock that jumps back")
@pytest.mark.parametrize("now", [0, 10**9, -(10**9)])
def test_a_clock_that_was_never_set_makes_a_log_that_can_be_read(log, monkeypatch, now):
    monkeypatch.setattr(frames.time, "time_ns", lambda: now)
    writer = LogWriter(str(log))
    writer.append(LogStream.OUT, [b"one\n"])
    writer.close()
    fd = os.open(log, os.O_RDONLY)
    assert [f.content for f in all_frames(fd)] == [b"one\n"]
    assert whole_size(fd) == log.stat().st_size
    os.close(fd)
