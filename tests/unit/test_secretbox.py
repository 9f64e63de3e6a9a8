import os
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from jobsphere.domain.errors import CorruptedError, FailedPreconditionError
from jobsphere.secretbox import KEY_FILE, KEY_VARIABLE, Keys, SecretBox, new_key

KEY = b"k" * 32
OLD, NEW = b"o" * 32, b"\xff" * 32


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


def test_the_first_key_seals_and_all_open():
    sealed = SecretBox(OLD).seal("p1", "hush")
    both = SecretBox(NEW, OLD)
    assert both.open("p1", sealed) == "hush"
    again = both.resealed("p1", sealed)
    assert SecretBox(NEW).open("p1", again) == "hush"
    assert both.resealed("p1", again) == again
    with pytest.raises(CorruptedError):
        SecretBox(NEW).resealed("p1", sealed)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


def text(*keys: bytes) -> str:
    return ",".join(urlsafe_b64encode(key).decode() for key in keys)


def test_keys_come_from_the_variable_then_the_file_then_the_server(data: Path):
    (data / KEY_FILE).write_text(f"# mine\n{b64encode(OLD).decode()}  # the old one\n")
    keys = Keys(data, None, {KEY_VARIABLE: text(NEW)})
    assert keys.by_variable
    assert SecretBox(NEW).open("p", keys.seal("p", "x")) == "x"
    for key in (NEW, OLD, KEY):
        assert keys.box().open("p", SecretBox(key).seal("p", "x")) == "x"
    assert SecretBox(OLD).open("p", Keys(data, None, {}).seal("p", "x")) == "x"
    (data / KEY_FILE).unlink()
    assert SecretBox(KEY).open("p", Keys(data, None, {KEY_VARIABLE: ""}).seal("p", "x")) == "x"


def test_the_node_knows_what_the_server_knows(data: Path, tmp_path: Path):
    file = tmp_path / "elsewhere"
    for keys in (Keys(data, file, {KEY_VARIABLE: text(NEW)}), Keys(data, None, {})):
        keys.replace_file([OLD])
        node = Keys.of_node(data, keys.for_node())
        assert node.box().open("p", keys.seal("p", "x")) == "x"
        assert node.box().open("p", SecretBox(OLD).seal("p", "x")) == "x"


def test_a_running_server_follows_a_rotation(data: Path):
    keys = Keys(data, None, {})
    before = keys.seal("p", "x")
    keys.replace_file([new_key(), *keys.in_file()])
    assert keys.box().open("p", before) == "x"
    assert keys.resealed("p", before) != before
    assert oct(os.stat(data / KEY_FILE).st_mode & 0o777) == "0o600"
    assert sorted(p.name for p in data.iterdir()) == [f".{KEY_FILE}.lock", "key", KEY_FILE]


@pytest.mark.parametrize("word", ["planted", b64encode(b"short").decode(), "é", "planted=" * 8])
def test_what_is_no_key_is_told_without_showing_it(data: Path, word: str):
    with pytest.raises(FailedPreconditionError, match="key number 2 is none") as caught:
        Keys(data, None, {KEY_VARIABLE: f"{text(NEW)} {word}"}).box()
    assert word not in str(caught.value)


def test_a_named_file_must_be_there(data: Path):
    with pytest.raises(FailedPreconditionError, match="not there; a key is 32 random bytes"):
        Keys(data, data / "gone", {}).box()
    (data / "bad").write_bytes(b"\xff")
    with pytest.raises(FailedPreconditionError, match="cannot be read"):
        Keys(data, data / "bad", {}).box()
