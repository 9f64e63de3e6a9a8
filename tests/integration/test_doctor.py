"""What the doctor finds in a data directory that was harmed on purpose, and what it mends."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from data_dirs import blob, fill
from tests.commands import BIN
from tests.unit.world import NOW, PROJECT

from jobsphere.config import load
from jobsphere.doctor import examine, files
from jobsphere.doctor.look import Level, Look
from jobsphere.domain.errors import AlreadyExistsError
from jobsphere.domain.resources import Dataset, Resource, Secret
from jobsphere.private import keep_private
from jobsphere.runner.processes import ATTEMPT_VARIABLE, attempt_mark
from jobsphere.secretbox import SecretBox
from jobsphere.serverfile import only_server
from jobsphere.store.sqlite import SqliteJobStore

HOST = {"Sandbox and limits", "Containers", "Disk space", "Open files", "Clock"}
Harm = Callable[[Path], object]


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    await fill(tmp_path / "data")
    return tmp_path / "data"


def looked(data: Path) -> Look:
    return Look(data, load({"data_dir": data}))


def found(results: list[examine.Result]) -> list[tuple[str, str, Level]]:
    """What is said of the data directory; what this machine lacks is another matter."""
    return [(r.name, f.text, f.level) for r in results if r.name not in HOST for f in r.findings if f not in r.repaired]


def test_there_is_nothing_to_say_of_a_sound_one(data: Path) -> None:
    assert found(examine.examine(looked(data))) == []


def test_a_group_that_was_let_into_the_folder_is_no_finding(data: Path) -> None:
    data.chmod(0o755)
    keep_private(data)
    assert found(examine.examine(looked(data))) == []


def write(place: str, content: bytes = b"x", mode: int = 0o600) -> Harm:
    def harm(data: Path) -> None:
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        (data / place).write_bytes(content)
        (data / place).chmod(mode)

    return harm


def sql(statement: str) -> Harm:
    def harm(data: Path) -> None:
        with closing(sqlite3.connect(data / "jobsphere.db")) as connection, connection:
            connection.execute(statement)

    return harm


ONE = f"j{0:019}"
EXTRA = f"blobs/{PROJECT}/2d/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
"""A blob with the bytes ``x``."""
HARMS: list[tuple[str, Harm, str, str, bool]] = [
    ("no database", lambda d: (d / "jobsphere.db").unlink(), "Database", "there is no database", False),
    ("no database at all", write("jobsphere.db", b"not a database at all" * 100), "Database", "damaged", False),
    ("a newer one", sql("UPDATE alembic_version SET version_num = '9999'"), "Database", "newer jobsphere", False),
    ("an older one", sql("UPDATE alembic_version SET version_num = '0002'"), "Database", "older than", False),
    ("a job that is none", sql("UPDATE jobs SET record = '{}' WHERE id LIKE '%0'"), "Jobs", ONE, False),
    ("no key", lambda d: (d / "key").unlink(), "Keys and secrets", "is not there", False),
    ("half a key", write("key", b"k" * 16), "Keys and secrets", "16 bytes", False),
    ("an open key", lambda d: (d / "key").chmod(0o644), "Permissions", "mode 644", True),
    ("an open folder", lambda d: d.chmod(0o755), "Permissions", "mode 755", True),
    ("a lost blob", lambda d: blob(d, b"one").unlink(), "Blobs", "is not there; jobs: j0", False),
    ("a blob too many", write(EXTRA),
     "Blobs", "1 blobs of project", True),
    ("a run directory too many", write(f"ended/{'z' * 20}-1/logs"), "Run directories", f"ended/{'z' * 20}-1", True),
    ("one under way too many", write(f"attempts/{'z' * 20}-1/logs"), "Run directories", "attempts/zz", True),
    ("a lost log", lambda d: shutil.rmtree(d / "ended" / f"{ONE}-1"), "Run directories", "its log is not there", False),
    ("a dataset too many", write(f"datasets/{PROJECT}/{'d' * 20}/a.txt"), "Datasets", "is no dataset's", True),
    ("half a dataset", write(f"datasets/{PROJECT}/.new-{'d' * 20}/a.txt"), "Datasets", "is no dataset's", True),
    ("a disk too many", write(f"disks/{'z' * 20}/a.txt"), "Project disks", "a project that is gone", True),
    ("half an environment", write(f"environments/{'e' * 64}/bin/python"), "Environments", "half built", True),
    ("the name of one", write(f"environments/{'e' * 64}.ready", b"{}"), "Environments", "is not there", True),
    ("caches to remove", write("cache.removed/uv/x"), "Environments", "cache.removed", True),
    ("half a run directory", write("attempts/.new-x-12345678/plan.json"), "Leftovers", ".new-x", True),
    ("storage too many", write(f"storage/{'z' * 20}-1/x"), "Leftovers", "of no attempt", True),
    ("a dead server's word", write("run/server.json", b"{}"), "Leftovers", "was killed", True),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "where", "text", "mends"), [h[1:] for h in HARMS], ids=[h[0] for h in HARMS])
def test_it_finds_what_is_wrong_and_nothing_else(data: Path, harm: Harm, where: str, text: str, mends: bool) -> None:
    harm(data)
    (finding,) = found(examine.examine(looked(data)))
    assert finding[0] == where
    assert text in finding[1]
    assert (found(examine.repair(looked(data))) == []) is mends
    assert (found(examine.examine(looked(data))) == []) is mends
    if mends:  # and nothing that a job refers to has gone
        assert blob(data, b"one").read_bytes() == b"one"
        assert (data / "ended" / f"{ONE}-1" / "logs").read_bytes() == b"log of one"


def test_a_damaged_blob_is_put_aside_so_that_no_job_gets_it(data: Path) -> None:
    blob(data, b"one").write_bytes(b"ONE")
    assert ["bytes are others" in text for _, text, _ in found(examine.examine(looked(data)))] == [True]
    examine.repair(looked(data))
    assert (data / files.ASIDE / blob(data, b"one").relative_to(data)).read_bytes() == b"ONE"
    assert ["is not there" in text for _, text, _ in found(examine.examine(looked(data)))] == [True]


async def test_a_secret_that_no_key_opens_is_named(data: Path) -> None:
    store = SqliteJobStore.open(data / "jobsphere.db", lambda job: b"")
    for name, key in (("good", b"k" * 32), ("bad", b"other" * 7)):
        secret = Secret(SecretBox(key).seal(PROJECT, "value"), NOW)
        await store.resources.add_resource(Resource(f"{name:0<20}", PROJECT, name, NOW, "ann", secret))
    await store.close()
    ((where, text, _),) = found(examine.examine(looked(data)))
    assert where == "Keys and secrets"
    assert "'bad'" in text
    assert "value" not in text


async def test_a_dataset_is_counted(data: Path) -> None:
    store = SqliteJobStore.open(data / "jobsphere.db", lambda job: b"")
    await store.resources.add_resource(Resource("d" * 20, PROJECT, "table", NOW, "ann", Dataset(3, 1)))
    await store.close()
    write(f"datasets/{PROJECT}/{'d' * 20}/a.txt", b"abc")(data)
    assert found(examine.examine(looked(data))) == []
    write(f"datasets/{PROJECT}/{'d' * 20}/a.txt", b"ab")(data)
    ((where, text, _),) = found(examine.examine(looked(data)))
    assert (where, "1 files and 2 bytes" in text) == ("Datasets", True)


def test_processes_without_a_supervisor_are_found_and_ended(data: Path) -> None:
    mark = attempt_mark(str(data / "attempts" / f"j{2:019}-1"))
    process = subprocess.Popen(["sleep", "1000"], env={**os.environ, ATTEMPT_VARIABLE: mark})
    try:
        ((where, text, _),) = found(examine.examine(looked(data)))
        assert where == "Leftovers"
        assert str(process.pid) in text
        assert found(examine.repair(looked(data))) == []
        assert process.wait(60) == -9
    finally:
        process.kill()


def test_what_a_server_may_be_about_to_store_is_no_finding(data: Path) -> None:
    for _, harm, where, _, _ in HARMS:
        if where in {"Run directories", "Datasets"}:
            harm(data)
    write(EXTRA)(data)
    with only_server(data):
        assert [text for _, text, _ in found(examine.examine(looked(data))) if "its log" not in text] == []
        with pytest.raises(AlreadyExistsError):
            examine.repair(looked(data))


def test_the_command_says_it_by_its_exit_code(data: Path) -> None:
    blob(data, b"one").unlink()
    command = [BIN / "jobsphere", "doctor", "--data-dir", data]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert done.returncode == 1
    assert "is not there; jobs:" in " ".join(done.stdout.split())


def test_a_clock_that_went_back_is_told(data: Path) -> None:
    with closing(sqlite3.connect(data / "jobsphere.db")) as connection, connection:
        connection.execute("UPDATE jobs SET record = replace(record, '2026-01-01T00:00:00Z', '2099-01-01T00:00:00Z')")
    clock = next(result for result in examine.examine(looked(data)) if result.name == "Clock")
    assert "behind the newest job" in clock.findings[0].text
