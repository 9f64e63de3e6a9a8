"""Buckets of an attempt, mounted for real: what is written is there at the end, and nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from containers import TINY, podman_in
from s3_server import BUCKET, Service, s3_service
from supervisors import KEY, PROJECT, Node, gone, open_keyed_node, output, until

from jobsphere.domain.attempt import (
    SYSTEM_LOG,
    EndReason,
    ImagePlan,
    LogStream,
    S3Mode,
    S3Mount,
    SandboxPlan,
    StopOrder,
)
from jobsphere.domain.job import Phase
from jobsphere.runner import fuse
from jobsphere.runner.processes import ATTEMPT_VARIABLE, attempt_mark
from jobsphere.runner.sandbox import why_not
from jobsphere.secretbox import SecretBox

ID = "c" * 20
MOUNTED = {"locations": ((ID, f"s3/{ID}"),), "s3_mode": S3Mode.FUSE}
PLACE = f"${{{ID}}}"
REASON = "" if shutil.which("s3fs") else "s3fs is not installed (Debian: apt-get install s3fs)"
pytestmark = pytest.mark.skipif(
    bool(REASON or fuse.why_not()), reason=f"no bucket is mounted: {REASON or fuse.why_not()}"
)


@pytest.fixture
def service() -> Iterator[Service]:
    with s3_service() as running:
        for name in ("a.txt", "sub/b.txt", "sub/c.txt"):
            running.put(f"in/{name}", name.encode())
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
    assert mounts_below(opened.data) == []
    assert list(opened.data.glob("mounts/*")) == []


async def system_log(node: Node) -> str:
    return await node.text(LogStream.FILE, path=SYSTEM_LOG)


def mounts_below(folder: Path) -> list[str]:
    points = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.startswith(str(folder))]


def mount_programs(node: Node) -> list[int]:
    """The living mount programs of the node's first attempt."""
    mark = f"{ATTEMPT_VARIABLE}={attempt_mark(str(node.at()))}".encode()
    found: list[int] = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            marked = mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            if marked and Path(f"/proc/{entry}/comm").read_text().strip() == "s3fs":
                found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


@pytest.mark.parametrize("fence", [None, SandboxPlan()])
async def test_what_is_written_is_in_the_bucket_at_the_end(
    node: Node, mount: S3Mount, service: Service, fence: SandboxPlan | None
) -> None:
    if fence and why_not():
        pytest.skip(why_not())
    script = (
        f"cd {PLACE} && ls -R . && cat a.txt sub/b.txt && mkdir n && echo new > n/f && "
        "echo changed > a.txt && rm sub/b.txt && mv sub/c.txt moved && head -c 30000000 /dev/zero > big"
    )
    seen = await node.run(script, s3_mounts=(mount,), sandbox=fence, **MOUNTED)

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0), seen.ended.message
    assert (await node.text()).endswith("a.txtsub/b.txt")
    objects = service.objects()
    assert objects.pop("in/big") == bytes(30_000_000)
    assert {key: body for key, body in objects.items() if not key.endswith("/")} == {
        "elsewhere": b"not below the prefix",
        "in/a.txt": b"changed\n",
        "in/n/f": b"new\n",
        "in/moved": b"sub/c.txt",
    }
    log = await system_log(node)
    assert "S3 connector 'team': the bucket team-data is mounted by s3fs" in log
    assert "S3 connector 'team': what was written is in the bucket team-data" in log
    kept = [p for p in node.data.rglob("*") if p.is_file() and service.secret_key.encode() in p.read_bytes()]
    assert kept == []


async def test_a_container_sees_it_and_its_files_change_hands_without_the_bucket(
    node: Node, mount: S3Mount, service: Service, tmp_path: Path
) -> None:
    script = f"cat {PLACE}/a.txt; echo x > {PLACE}/sub/x; ls -n {PLACE}; touch own"
    with podman_in(tmp_path / "podman") as podman:
        image = ImagePlan(TINY, podman.engine, network=False)
        seen = await node.run(script, s3_mounts=(mount,), image=image, **MOUNTED)
        assert podman.containers() == []
    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0), seen.ended.message
    first, *listed = (await node.text()).splitlines()
    assert (first.partition("total")[0], {line.split()[2] for line in listed[-2:]}) == ("a.txt", {"0"})
    assert service.objects()["in/sub/x"] == b"x\n"
    assert service.objects()["in/sub/b.txt"] == b"sub/b.txt"


async def test_keys_are_in_no_command_line(node: Node, mount: S3Mount, service: Service) -> None:
    await node.runner.launch(node.plan("echo up; until [ -e go ]; do sleep 0.05; done", s3_mounts=(mount,), **MOUNTED))
    await node.printed("up\n")
    (program,) = mount_programs(node)
    line = Path(f"/proc/{program}/cmdline").read_bytes()
    assert b"s3fs" in line
    assert service.secret_key.encode() not in line
    assert service.access_key.encode() not in line
    node.at("work", "go").touch()
    await node.end()
    assert gone(program)


async def test_a_read_only_one_cannot_be_written_to(node: Node, mount: S3Mount, service: Service) -> None:
    before, only_read = service.objects(), replace(mount, read_only=True)
    seen = await node.run(f"cat {PLACE}/a.txt; echo x > {PLACE}/a.txt", s3_mounts=(only_read,), **MOUNTED)
    assert seen.ended
    assert seen.ended.code == 1
    assert await node.text() == "a.txt"
    assert "Read-only file system" in await node.text(LogStream.ERR)
    assert service.objects() == before


async def test_a_prefix_that_is_not_there_yet_is_an_empty_folder(node: Node, mount: S3Mount, service: Service) -> None:
    fresh = replace(mount, prefix="made/by/job")
    seen = await node.run(f"ls -A {PLACE}; echo x > {PLACE}/x", s3_mounts=(fresh,), **MOUNTED)
    assert seen.ended
    assert (seen.ended.code, await node.text()) == (0, "")
    assert service.objects()["made/by/job/x"] == b"x\n"


async def test_two_buckets_at_once(node: Node, mount: S3Mount, service: Service) -> None:
    other = replace(mount, connector_id="d" * 20, name="other", location="s3/" + "d" * 20, prefix="out")
    script = f"cp {PLACE}/a.txt ${{{other.connector_id}}}/copy"
    seen = await node.run(script, s3_mounts=(mount, other), **MOUNTED)
    assert seen.ended
    assert seen.ended.code == 0, seen.ended.message
    assert service.objects()["out/copy"] == b"a.txt"


async def test_writes_that_are_refused_fail_the_attempt_though_its_program_did_not_notice(
    node: Node, mount: S3Mount, service: Service
) -> None:
    script = f"echo up; until [ -e go ]; do sleep 0.05; done; echo x > {PLACE}/x; true"
    await node.runner.launch(node.plan(script, s3_mounts=(mount,), **MOUNTED))
    await node.printed("up\n")
    service.forbid_writing()
    node.at("work", "go").touch()
    seen = await node.end()
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.OUTPUTS)
    assert "The program returned code 0, but what it wrote may not be in the bucket" in seen.ended.message
    assert "AccessDenied" in seen.ended.message
    assert service.secret_key not in seen.ended.message


async def test_a_bucket_that_has_gone_fails_the_attempt(node: Node, mount: S3Mount, service: Service) -> None:
    script = f"echo up; until [ -e go ]; do sleep 0.05; done; echo x > {PLACE}/x; true"
    await node.runner.launch(node.plan(script, s3_mounts=(mount,), **MOUNTED))
    await node.printed("up\n")
    service.remove_bucket()
    node.at("work", "go").touch()
    seen = await node.end()
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.OUTPUTS)
    assert "NoSuchBucket" in seen.ended.message


async def test_a_mount_program_that_dies_fails_the_attempt(node: Node, mount: S3Mount) -> None:
    script = "echo up; until [ -e go ]; do sleep 0.05; done"
    await node.runner.launch(node.plan(script, s3_mounts=(mount,), **MOUNTED))
    await node.printed("up\n")
    os.kill(mount_programs(node)[0], signal.SIGKILL)
    await until(lambda: not mount_programs(node), "its end")
    node.at("work", "go").touch()
    seen = await node.end()
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.OUTPUTS)
    assert "s3fs ended before the job did (code 137)" in seen.ended.message


@pytest.mark.parametrize("what", ["endpoint", "bucket", "key"])
async def test_errors_of_the_bucket_are_the_ends_words(node: Node, mount: S3Mount, what: str) -> None:
    broken, words = {
        "endpoint": (replace(mount, endpoint="http://127.0.0.1:1"), "error sending request"),
        "bucket": (replace(mount, bucket="no-such-bucket"), "NoSuchBucket"),
        "key": (replace(mount, secret_key_sealed=SecretBox(KEY).seal(PROJECT, "planted")), "SignatureDoesNotMatch"),
    }[what]
    seen = await node.run("true", s3_mounts=(broken,), **MOUNTED)
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
    assert seen.ended.message.startswith("S3 connector 'team': ")
    assert words in seen.ended.message
    assert "planted" not in seen.ended.message


async def test_a_stop_waits_for_no_upload(node: Node, mount: S3Mount, service: Service) -> None:
    script = f"echo y > {PLACE}/closed; echo up; until [ -e go ]; do sleep 0.05; done; echo x > {PLACE}/under-way"
    await node.runner.launch(node.plan(script, s3_mounts=(mount,), **MOUNTED))
    await node.printed("up\n")
    service.gate.close()
    node.at("work", "go").touch()
    await until(service.gate.waiting.is_set, "an upload")
    await node.runner.stop("a1", StopOrder())
    seen = await node.end()
    assert seen.ended
    assert seen.ended.reason is EndReason.STOPPED
    assert service.objects()["in/closed"] == b"y\n"


@pytest.mark.parametrize("spawner_too", [False, True])
async def test_a_killed_supervisor_leaves_no_mount_and_no_process(
    node: Node, mount: S3Mount, service: Service, spawner_too: bool
) -> None:
    before = service.objects()
    await node.runner.launch(node.plan("echo up; sleep 1000", s3_mounts=(mount,), **MOUNTED))
    await node.printed("up\n")
    (program,) = mount_programs(node)
    if spawner_too:
        os.kill(node.spawner(), signal.SIGKILL)
    await node.kill_supervisor()
    await node.runner.launch(node.plan("echo up; sleep 1000", s3_mounts=(mount,), **MOUNTED))
    seen = await node.end()
    assert seen.ended
    assert seen.ended.reason is EndReason.LOST
    await until(lambda: gone(program), "the end of the mount program")
    assert mounts_below(node.data) == []
    await node.runner.tidy("a1")
    assert service.objects() == before


async def test_a_full_life_removes_the_jobs_files_and_no_object(node: Node, mount: S3Mount, service: Service) -> None:
    seen = await node.run(
        f"ln -s {PLACE} here; cp here/a.txt out", s3_mounts=(mount,), outputs=(output("out"),), **MOUNTED
    )
    assert seen.collected
    assert len([f for f in seen.collected.files if f.name == "output-0"]) == 1
    await node.runner.tidy("a1")
    assert service.objects()["in/a.txt"] == b"a.txt"


async def test_without_fuse_a_copy_is_used_or_the_job_is_refused(
    node: Node, mount: S3Mount, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "bin"
    hidden.mkdir()
    for name in ("bash", "sh", "cat", "sleep"):
        (hidden / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(hidden))
    auto = {**MOUNTED, "s3_mode": S3Mode.AUTO}
    seen = await node.run(f"echo x > {PLACE}/x", s3_mounts=(mount,), **auto)
    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0), seen.ended.message
    assert service.objects()["in/x"] == b"x\n"
    log = await system_log(node)
    assert "not mounted, for none of geesefs, s3fs is installed" in log
    assert "a copy is used instead" in log

    seen = await node.run("true", "a2", s3_mounts=(mount,), **MOUNTED)
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
    assert "it is to be mounted (s3_mounts = 'fuse'), and cannot be: none of geesefs" in seen.ended.message


async def test_a_mount_program_that_does_not_work_is_told_and_a_copy_used(
    node: Node, mount: S3Mount, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "s3fs"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho it has no wish to\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    seen = await node.run(f"cat {PLACE}/a.txt", s3_mounts=(mount,), **{**MOUNTED, "s3_mode": S3Mode.AUTO})
    assert seen.ended
    assert seen.ended.code == 0
    assert await node.text() == "a.txt"
    assert "not mounted, for s3fs ended with code 3: it has no wish to; a copy is used instead" in await system_log(
        node
    )
