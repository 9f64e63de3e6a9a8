"""How mount programs are chosen and told, and what their words mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsphere.domain.attempt import S3Mount
from jobsphere.runner import fuse
from jobsphere.runner.fuse import PROGRAMS, Place
from jobsphere.runner.s3_mount import failure_in

MOUNT = S3Mount(
    "c" * 20, "team", "s3/x", "bucket", "http://127.0.0.1:1", "", "a/b", "sealed-a", "sealed-b", read_only=False
)
PLACE = Place("/m", "/tmp,x", 7, shared=True)
BY_NAME = {program.name: program for program in PROGRAMS}


def programs_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("there", "read_only", "taken"),
    [
        (("s3fs", "geesefs"), False, "geesefs"),
        (("s3fs", "rclone", "mount-s3"), True, "s3fs"),
        (("rclone", "mount-s3"), True, "rclone"),
        (("rclone", "mount-s3"), False, None),
        ((), True, None),
    ],
)
def test_the_first_that_is_there_and_can_do_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], read_only: bool, taken: str | None
) -> None:
    programs_in(tmp_path, monkeypatch, *there)
    found = fuse.find_program(read_only)
    assert (found.name if found else None) == taken


def test_what_is_missing_is_named_with_the_next_step(tmp_path: Path) -> None:
    assert "there is no /nowhere/fuse here" in fuse.why_not("/nowhere/fuse")
    assert "cannot be opened (Is a directory)" in fuse.why_not(str(tmp_path))


def test_without_a_program_it_says_which_would_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs_in(tmp_path, monkeypatch, "rclone", "fusermount")
    device = tmp_path / "fuse"
    device.touch()
    monkeypatch.setattr(fuse, "_may_mount", lambda: True)
    assert fuse.why_not(str(device), read_only=True) == ""
    assert fuse.why_not(str(device), read_only=False).startswith("none of geesefs, s3fs is installed")
    monkeypatch.setattr(fuse, "_may_mount", lambda: False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "mounting is forbidden here" in fuse.why_not(str(device))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_each_is_told_where_and_what_and_no_key(program: fuse.MountProgram) -> None:
    line = " ".join(program.argv(MOUNT, PLACE))
    assert "bucket" in line
    assert "a/b" in line
    assert "http://127.0.0.1:1" in line
    assert " /m" in f" {line}"
    assert "allow" in line
    assert "sealed" not in line


def test_a_comma_in_a_path_ends_no_option() -> None:
    assert "tmpdir=/tmp\\,x" in BY_NAME["s3fs"].argv(MOUNT, PLACE)


def test_without_keys_requests_are_not_signed() -> None:
    open_to_all = S3Mount("c" * 20, "team", "s3/x", "bucket", region="eu-west-1")
    argv = BY_NAME["s3fs"].argv(open_to_all, Place("/m", "/tmp", 0, shared=False))
    assert {"public_bucket=1", "url=https://s3.eu-west-1.amazonaws.com", "ro", "bucket"} <= set(argv)
    assert "allow_other" not in argv


REFUSED = """2026-01-01T00:00:00.000Z [INF] s3fs.cpp:s3fs_init(3382): init
2026-01-01T00:00:00.000Z [ERR] curl.cpp:RequestPerform(2363): HTTP response code 403, returning EPERM. Body Text: x
<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>
"""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (REFUSED, "AccessDenied: Access Denied"),
        (
            "2026-01-01T00:00:00.000Z [ERR] curl.cpp:RequestPerform(25): ### giving up\n",
            "curl.cpp:RequestPerform(25): ### giving up",
        ),
        ("[INF] curl.cpp:RequestPerform(2368): HTTP response code 404 was returned, returning ENOENT\n", ""),
        ("[ERR] curl.cpp:RequestPerform(2416): ### CURLE_COULDNT_CONNECT\n", ""),
    ],
)
def test_what_has_failed_for_good_is_told_apart(said: str, words: str) -> None:
    assert failure_in(BY_NAME["s3fs"], said) == words
