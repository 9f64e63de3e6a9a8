"""Buckets of an attempt as copies, by real HTTP: brought before its program starts, written back after it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from s3_server import BUCKET, Service, s3_service
from supervisors import KEY, PROJECT, Node, open_keyed_node

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, LogStream, S3Mode, S3Mount, SandboxPlan, StopOrder
from jobsphere.domain.job import Phase
from jobsphere.runner.sandbox import why_not
from jobsphere.secretbox import SecretBox

ID = "c" * 20
STAGED = {"locations": ((ID, f"s3/{ID}"),), "s3_mode": S3Mode.STAGING}
PLACE = f"${{{ID}}}"


@pytest.fixture
def service() -> Iterator[Service]:
    with s3_service() as running:
        for name in ("a.txt", "sub/b.txt", "sub/c.txt"):
            running.put(f"in/{name}", name.encode())
        running.put("in/sub/", b"")
        running.put("elsewhere", b"not below the prefix")
        yield running


@pytest.fixture
def mount(service: Service) -> S3Mount:
    box = SecretBox(KEY)
    keys = box.seal(PROJECT, service.access_key), box.seal(PROJECT, service.secret_key)
    return S3Mount(ID, "team", f"s3/{ID}", BUCKET, service.url, "", "in", *keys, read_only=False)


@pytest.fixture
async def node(tmp_path: Path):
    async with open_keyed_node(tmp_path / "data") as opened:
        yield opened


async def system_log(node: Node) -> str:
    return await node.text(LogStream.FILE, path=SYSTEM_LOG)


@pytest.mark.parametrize("fence", [None, SandboxPlan()])
async def test_what_is_changed_is_in_the_bucket_at_the_end(
    node: Node, mount: S3Mount, service: Service, fence: SandboxPlan | None
) -> None:
    if fence and why_not():
        pytest.skip(why_not())
    script = (
        f"cd {PLACE} && cat a.txt sub/b.txt && echo new > n/../sub/new 2>/dev/null; mkdir n; echo new > n/f; "
        "echo changed > a.txt; rm sub/b.txt; ln -s /etc/passwd leak"
    )
    seen = await node.run(script, s3_mounts=(mount,), **STAGED, sandbox=fence)

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0), seen.ended.message
    assert await node.text() == "a.txtsub/b.txt"
    assert service.objects() == {
        "elsewhere": b"not below the prefix",
        "in/a.txt": b"changed\n",
        "in/n/f": b"new\n",
        "in/sub/": b"",
        "in/sub/c.txt": b"sub/c.txt",
    }
    log = await system_log(node)
    assert (
        "3 files (23 B) brought from the bucket team-data; this is a copy, changes are written back at the end" in log
    )
    assert "not written, for it is no file: 'leak'" in log
    assert "2 files written to the bucket team-data, 1 removed from it" in log
    kept = [p for p in node.data.rglob("*") if p.is_file() and service.secret_key.encode() in p.read_bytes()]
    assert kept == []


async def test_a_read_only_one_is_not_written_to(node: Node, mount: S3Mount, service: Service) -> None:
    before = service.objects()
    await node.run(f"echo x > {PLACE}/a.txt", s3_mounts=(replace(mount, read_only=True),), **STAGED)
    assert service.objects() == before
    assert "changes in it are not written back" in await system_log(node)


async def test_what_a_failing_program_has_written_is_there(node: Node, mount: S3Mount, service: Service) -> None:
    seen = await node.run(f"echo x > {PLACE}/x; exit 3", s3_mounts=(mount,), **STAGED)
    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 3)
    assert service.objects()["in/x"] == b"x\n"


async def test_a_stopped_program_leaves_the_bucket_as_it_was(node: Node, mount: S3Mount, service: Service) -> None:
    before = service.objects()
    script = f"echo x > {PLACE}/x; echo up; sleep 1000"
    await node.runner.launch(node.plan(script, s3_mounts=(mount,), **STAGED))
    await node.printed("up\n")
    await node.runner.stop("a1", StopOrder())
    await node.end()
    assert service.objects() == before


async def test_a_large_file_goes_both_ways(node: Node, mount: S3Mount, service: Service) -> None:
    service.put("in/big", b"0123456789abcdef" * (1 << 20))
    script = f"cd {PLACE}; cat big big > twice; sha256sum < big"
    seen = await node.run(script, s3_mounts=(mount,), **STAGED)
    assert seen.ended
    assert seen.ended.code == 0, seen.ended.message
    assert service.objects()["in/twice"] == b"0123456789abcdef" * (2 << 20)


def unreachable() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_errors_of_the_bucket_are_the_ends_words(node: Node, mount: S3Mount, service: Service) -> None:
    wrong = replace(mount, secret_key_sealed=SecretBox(KEY).seal(PROJECT, "wrong-and-planted"))
    for number, (broken, words) in enumerate(
        [
            (replace(mount, endpoint=unreachable()), "error sending request"),
            (replace(mount, bucket="no-such-bucket"), "NoSuchBucket"),
            (wrong, "SignatureDoesNotMatch"),
            (replace(mount, secret_key_sealed="v1.xxxx"), "cannot be opened"),
        ]
    ):
        seen = await node.run("true", f"a{number + 1}", s3_mounts=(broken,), **STAGED)
        assert seen.ended
        assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
        assert seen.ended.message.startswith("S3 connector 'team': ")
        assert words in seen.ended.message
        assert "planted" not in seen.ended.message
        assert service.secret_key not in seen.ended.message


async def test_changes_that_cannot_be_written_back_fail_the_attempt(
    node: Node, mount: S3Mount, service: Service
) -> None:
    script = f"echo x > {PLACE}/x; until [ -e go ]; do sleep 0.05; done"
    await node.runner.launch(node.plan(script, s3_mounts=(mount,), **STAGED))
    await node.observed("a1", lambda seen: seen.started)
    service.remove_bucket()
    node.at("work", "go").touch()
    seen = await node.end()
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.OUTPUTS)
    assert "The program returned code 0, but its changes are not in the bucket" in seen.ended.message
    assert "NoSuchBucket" in seen.ended.message


@pytest.mark.parametrize(
    ("key", "words"), [("in/a.txt/b", "is an object and the folder of"), ("in/" + "x" * 300, "cannot be a file")]
)
async def test_objects_that_cannot_be_files_are_named(
    node: Node, mount: S3Mount, service: Service, key: str, words: str
) -> None:
    service.put(key, b"x")
    seen = await node.run("true", s3_mounts=(mount,), **STAGED)
    assert seen.ended
    assert words in seen.ended.message
