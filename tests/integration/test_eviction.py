"""Environments within a budget: real prefixes, real locks, in processes of their own where it matters."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bench import Bench, settle

from jobsphere.domain.environment import PythonEnvironment
from jobsphere.environments import eviction
from jobsphere.environments.cache import open_builder
from jobsphere.environments.eviction import stored_environments, trim

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
SEARCH = (str(Path(sys.executable).resolve().parent),)
ENSURE = (
    "import sys; from pathlib import Path; from bench import Bench, settle\n"
    "from jobsphere.domain.environment import PythonEnvironment\n"
    "from jobsphere.environments.cache import open_builder\n"
    "wish = PythonEnvironment(sys.argv[2], trusted_hosts=(sys.argv[4],))\n"
    "print(open_builder(Path(sys.argv[1]), [sys.argv[3]]).ensure(wish, Bench()).prefix)\n"
    "sys.stdout.flush(); sys.stdin.read()"
)


@contextmanager
def user(data: Path, name: str) -> Iterator[Path]:
    """A process that uses the environment of that name: its prefix."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    argv = [sys.executable, "-c", ENSURE, str(data), OWN, *SEARCH, name]
    with subprocess.Popen(argv, text=True, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        yield Path(process.stdout.readline().strip())
        process.stdin.close()
        assert process.wait(60) == 0


def build(data: Path, name: str, used_at: int = 0) -> Path:
    """An unused environment."""
    with user(data, name) as prefix:
        pass
    os.utime(prefix.with_suffix(".ready"), (used_at, used_at))
    return prefix


def test_they_are_listed_with_size_use_and_content(tmp_path: Path) -> None:
    assert stored_environments(tmp_path) == []
    old, new = build(tmp_path, "a", 1000), build(tmp_path, "b", 2000)
    one, two = stored_environments(tmp_path)
    assert (one.fingerprint, two.fingerprint) == (old.name, new.name)
    assert one.last_used == datetime.fromtimestamp(1000, UTC)
    assert (one.what, one.complete, one.in_use) == (f"Python {OWN}, 0 requirements", True, False)
    assert one.size_bytes == eviction.disk_usage(old) > 1000
    assert one.build_seconds > 0
    with user(tmp_path, "a"):
        assert [e.in_use for e in stored_environments(tmp_path)] == [False, True]


def test_the_least_lately_used_goes_until_the_rest_fits(tmp_path: Path) -> None:
    prefixes = [build(tmp_path, name, used) for name, used in [("a", 3000), ("b", 1000), ("c", 2000)]]
    size = stored_environments(tmp_path)[0].size_bytes
    assert trim(tmp_path, 4 * size).environments == ()
    gone = trim(tmp_path, size + size // 2).environments
    assert [e.fingerprint for e in gone] == [prefixes[1].name, prefixes[2].name]
    assert [p.exists() for p in prefixes] == [True, False, False]
    with user(tmp_path, "b") as again:
        assert again == prefixes[1]
        assert (again / "bin" / "python").exists()


def test_one_in_use_is_never_removed(tmp_path: Path) -> None:
    with user(tmp_path, "a") as prefix:
        assert trim(tmp_path, 0).environments == ()
        assert (prefix / "bin" / "python").exists()
    assert len(trim(tmp_path, 0).environments) == 1
    assert not prefix.exists()


def test_a_crash_while_removing_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = build(tmp_path, "a")

    class CrashError(Exception):
        pass

    def crash(path: Path) -> None:
        (path / "bin" / "activate").unlink()
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(eviction, "remove_tree", crash)
        with pytest.raises(CrashError):
            trim(tmp_path, 0)
    (left,) = stored_environments(tmp_path)
    assert not left.complete
    with user(tmp_path, "a"):
        assert (prefix / "bin" / "activate").exists()


def test_a_build_that_was_broken_off_is_removed_and_one_under_way_is_not(tmp_path: Path) -> None:
    prefix = build(tmp_path, "a")
    prefix.with_suffix(".ready").unlink()

    removed: list[str] = []

    class Looking(Bench):
        def log(self, line: str) -> None:
            removed.extend(e.fingerprint for e in trim(tmp_path, 0).environments)
            super().log(line)

    bench = Looking()
    built = open_builder(tmp_path, SEARCH).ensure(PythonEnvironment(OWN, trusted_hosts=("b",)), bench)
    assert len(bench.lines) > 1
    assert removed == [prefix.name]
    assert not prefix.exists()
    assert (built.prefix / "bin" / "python").exists()


def test_caches_go_when_they_do_not_fit_and_not_during_a_build(tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "uv" / "big"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x" * 100_000)
    linked = tmp_path / "linked"
    linked.write_bytes(b"y" * 100_000)
    (tmp_path / "cache" / "uv" / "linked").hardlink_to(linked)

    class Looking(Bench):
        def log(self, line: str) -> None:
            assert trim(tmp_path, 0).cache_bytes == 0
            super().log(line)

    open_builder(tmp_path, SEARCH).ensure(PythonEnvironment(OWN), Looking())
    settle()
    assert cached.exists()
    assert trim(tmp_path, 1 << 20).cache_bytes == 0
    assert trim(tmp_path, 0).cache_bytes >= 100_000
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "cache.removed").exists()


def test_caches_that_a_killed_one_was_removing_go_whatever_there_is_room_for(tmp_path: Path) -> None:
    (tmp_path / "cache.removed" / "uv").mkdir(parents=True)
    (tmp_path / "environments").mkdir()
    trim(tmp_path, 1 << 40)
    assert not (tmp_path / "cache.removed").exists()


def test_what_a_build_script_left_without_permissions_and_all_too_deep_goes_as_well(tmp_path: Path) -> None:
    prefix = tmp_path / "environments" / "half"
    closed = prefix / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").touch()
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (prefix / "link").symlink_to(outside)
    dig = f"import os; os.chdir({str(prefix)!r}); [(os.mkdir('d'), os.chdir('d')) for _ in range(3000)]"
    subprocess.run([sys.executable, "-c", dig], check=True)
    (closed / "inner").chmod(0)
    closed.chmod(0)
    as_nobody = os.geteuid() == 0  # whom permissions do not hold up proves nothing
    if as_nobody:
        subprocess.run(["chown", "-hR", "65534:65534", tmp_path], check=True)
    forked = os.fork()
    if forked == 0:
        code = 1
        try:
            os.chdir(tmp_path)
            if as_nobody:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            trim(Path(), 1)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(forked, 0)[1] == 0
    assert not prefix.exists()
    assert outside.stat().st_mode & 0o777 == 0o755
