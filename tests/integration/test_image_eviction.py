"""Pulled images within a budget: real podman, a real registry, real supervisors that hold what they use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from containers import PASSWORD, TINY, USER, Podman, Registry, podman_in, registry_in
from supervisors import PROJECT, open_node

from jobsphere.domain.attempt import ImagePlan
from jobsphere.runner.image_eviction import pulled_images, trim_images
from jobsphere.runner.image_records import Claim, read_record
from jobsphere.runner.records import dumps
from jobsphere.secretbox import SecretBox

KEY = b"k" * 32
LOGIN = ("--creds", f"{USER}:{PASSWORD}")
WAIT = "echo up; while :; do sleep 0.1; done"
PREPARE = """
import sys, subprocess, time
from pathlib import Path
from types import SimpleNamespace
from jobsphere.domain.attempt import ImagePlan
from jobsphere.runner.image_pull import prepare_image
from jobsphere.runner.records import loads
from jobsphere.runner.rundir import RunDirectory
from jobsphere.secretbox import SecretBox

def run(argv, env, on_line):
    done = subprocess.run(argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in done.stdout.splitlines(): on_line(line)
    return done.returncode

plan = SimpleNamespace(image=loads(ImagePlan, sys.argv[2].encode()), project_id=sys.argv[3])
run_directory = RunDirectory(sys.argv[1] + "/attempts/a1")
Path(run_directory.path).mkdir(parents=True, exist_ok=True)
bench = SimpleNamespace(
    plan=plan, run_directory=run_directory, run=run, step=print, log=print, pause=time.sleep
)
prepare_image(bench, SecretBox(b"k" * 32).open)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_in(tmp_path_factory.mktemp("podman")) as opened:
        yield opened


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, podman: Podman) -> Iterator[Registry]:
    with registry_in(tmp_path_factory.mktemp("registry") / "r") as opened:
        tagged(podman, opened, "team/a:1", "base")
        yield opened


@pytest.fixture
def image(podman: Podman, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImagePlan]:
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registry.conf))
    sealed = SecretBox(KEY).seal(PROJECT, PASSWORD)
    yield ImagePlan(f"{registry.host}/team/a:1", podman.engine, USER, sealed, network=False)
    podman("rmi", "--all", "--force")
    podman.make_tiny()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "key").write_bytes(KEY)
    return data


def names(podman: Podman) -> set[str]:
    """The tags that there are."""
    return set(podman("images", "--format", "{{.Repository}}:{{.Tag}}").split())


def ids(podman: Podman) -> str:
    return podman("images", "--all", "--no-trunc", "--format", "{{.Id}}")


def tagged(podman: Podman, registry: Registry, name: str, mark: str) -> str:
    """Another image, pushed under ``name``, and not here: its reference."""
    made, reference = f"localhost/{mark}:1", f"{registry.host}/{name}"
    podman("import", "--change", f"ENV MARK={mark}", str(podman.folder / "tiny.tar"), made)
    podman("push", "--tls-verify=false", *LOGIN, made, f"docker://{reference}")
    podman("rmi", made)
    return reference


@contextmanager
def user(data: Path, image: ImagePlan) -> Iterator[str]:
    """A supervisor's part in a process of its own, which has brought the image and holds it: what it said."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", PREPARE, str(data), dumps(image).decode(), PROJECT]
    with subprocess.Popen(argv, text=True, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        lines: list[str] = []
        while not lines or lines[-1] not in ("held\n", ""):
            lines.append(process.stdout.readline())
        assert lines[-1] == "held\n", lines
        yield "".join(lines)
        process.stdin.close()
        assert process.wait(60) == 0


def used(data: Path, image: ImagePlan, at: int = 0) -> str:
    """It was used, and is not any more: what was said."""
    with user(data, image) as said:
        pass
    for path in (data / "images").glob("*.json"):
        record = read_record(path)
        if at and record and record.reference == image.reference:
            os.utime(path, (at, at))
    return said


def test_what_jobs_pulled_is_listed_and_goes_least_lately_used_first(
    data: Path, image: ImagePlan, podman: Podman, registry: Registry
) -> None:
    other = replace(image, reference=tagged(podman, registry, "team/b:1", "other"))
    assert pulled_images(data) == []
    used(data, image)
    used(data, other, 1000)
    assert "Image found on this host" in used(data, image, 2000)

    listed = pulled_images(data)

    assert [i.reference for i in listed] == [other.reference, image.reference]
    assert all(i.complete and not i.in_use and len(i.image_id) == 64 for i in listed)
    assert listed[0].last_used == datetime.fromtimestamp(1000, UTC)
    size = listed[0].size_bytes
    assert size > 100_000
    assert trim_images(data, 3 * size) == ()
    with user(data, image):
        assert [i.in_use for i in pulled_images(data)] == [False, True]
        assert [i.reference for i in trim_images(data, 0)] == [other.reference]
        assert names(podman) == {image.reference, TINY}
    assert [i.reference for i in trim_images(data, 0)] == [image.reference]
    assert names(podman) == {TINY}
    assert "Image pulled in" in used(data, image)


def test_one_that_is_used_or_pulled_under_another_name_stays(data: Path, image: ImagePlan, podman: Podman) -> None:
    podman("pull", *LOGIN, f"docker://{image.reference}")
    digest = podman("image", "inspect", "--format", "{{.Digest}}", image.reference).strip()
    podman("rmi", image.reference)
    by_digest = replace(image, reference=f"{image.reference.rpartition(':')[0]}@{digest}")
    with user(data, by_digest):
        used(data, image)
        assert [i.in_use for i in pulled_images(data)] == [True, False]
        assert len({i.image_id for i in pulled_images(data)}) == 1
        assert trim_images(data, 0) == ()
    with Claim(str(data), image.engine, "localhost/any:1").pulling(lambda: None):
        assert trim_images(data, 0) == (), "what is being pulled may be the same image"
    assert len(trim_images(data, 0)) == 2
    assert names(podman) == {TINY}


async def test_one_that_a_lost_jobs_container_has_stays(data: Path, image: ImagePlan, podman: Podman) -> None:
    async with open_node(data) as node:
        plan = node.plan(WAIT, image=image)
        await node.runner.launch(plan)
        await node.printed("up")
        assert [i.in_use for i in pulled_images(data)] == [True]
        await node.kill_supervisor()
        assert [i.in_use for i in pulled_images(data)] == [False]
        assert trim_images(data, 0) == ()
        assert image.reference in names(podman)
        await node.runner.launch(plan)
        await node.observed("a1", lambda now: now.collected and not now.alive)
        assert [i.reference for i in trim_images(data, 0)] == [image.reference]


def test_the_users_own_images_and_names_stay(data: Path, image: ImagePlan, podman: Podman) -> None:
    used(data, replace(image, reference=TINY))
    podman("pull", *LOGIN, f"docker://{image.reference}")
    used(data, image)
    assert "Image pulled in" in used(data, replace(image, pull_always=True))
    assert pulled_images(data) == []
    assert trim_images(data, 0) == ()
    assert names(podman) == {TINY, image.reference}

    podman("rmi", image.reference)
    used(data, image)
    podman("tag", image.reference, "localhost/mine:1")
    assert [i.reference for i in trim_images(data, 0)] == [image.reference]
    assert names(podman) == {TINY, "localhost/mine:1"}


def test_what_a_tag_left_behind_goes_and_what_a_user_has_pulled_since_stays(
    data: Path, image: ImagePlan, podman: Podman, registry: Registry
) -> None:
    moving = replace(image, reference=tagged(podman, registry, "team/moving:1", "one"), pull_always=True)
    used(data, moving)
    (one,) = pulled_images(data)
    tagged(podman, registry, "team/moving:1", "two")
    used(data, moving)
    (both,) = pulled_images(data)
    assert both.size_bytes > one.size_bytes
    with user(data, moving):
        assert trim_images(data, 1 << 40) == ()
        assert one.image_id in ids(podman)
    assert trim_images(data, 1 << 40) == ()
    (left,) = pulled_images(data)
    assert (left.image_id, left.size_bytes) == (both.image_id, both.size_bytes - one.size_bytes)
    assert one.image_id not in ids(podman)

    podman("rmi", moving.reference)
    tagged(podman, registry, "team/moving:1", "three")
    podman("pull", *LOGIN, f"docker://{moving.reference}")
    assert len(trim_images(data, 0)) == 1
    assert pulled_images(data) == []
    assert names(podman) == {TINY, moving.reference}


def test_a_pull_that_was_broken_off_is_known_and_cleared(data: Path, image: ImagePlan, podman: Podman) -> None:
    (data / "images").mkdir()
    Claim(str(data), image.engine, image.reference).begin()
    podman("pull", *LOGIN, f"docker://{image.reference}")  # and the server was killed before it was noted
    (listed,) = pulled_images(data)
    assert (listed.complete, listed.image_id, listed.size_bytes) == (False, "", 0)
    assert trim_images(data, 1 << 40) == (listed,)
    assert names(podman) == {TINY}


def test_an_engine_that_does_not_answer_loses_no_record(data: Path, image: ImagePlan) -> None:
    (data / "images").mkdir()
    broken = replace(image.engine, args=("--root", "/proc/none"))
    Claim(str(data), broken, image.reference).begin()
    with pytest.raises(OSError, match="does not say whether it has the image"):
        trim_images(data, 0)
    assert len(pulled_images(data)) == 1


def test_the_half_of_a_record_goes_when_nobody_is_writing(data: Path, image: ImagePlan) -> None:
    (data / "images").mkdir()
    claim = Claim(str(data), image.engine, image.reference)
    half = data / "images" / "0123.json.new"
    half.write_text("half of a")
    with claim.pulling(lambda: None):
        trim_images(data, 1 << 40)
        assert half.exists()
    trim_images(data, 1 << 40)
    assert not half.exists()
