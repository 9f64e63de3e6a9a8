"""Environments built by the real uv, from wheels made here and an index on loopback: no network."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
from bench import Bench, Index, serving, settle

from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.ports import EnvironmentBuildError
from jobsphere.environments.cache import open_builder
from jobsphere.environments.inherited import named_files
from jobsphere.environments.interpreters import DEFAULT_SEARCH_PATH
from jobsphere.environments.uv import uv_environment

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
MANY = 16
SPAWN = multiprocessing.get_context("spawn")
SEARCH = (str(Path(sys.executable).resolve().parent), *DEFAULT_SEARCH_PATH)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "wheels").mkdir()
    with serving(Index(tmp_path / "wheels")) as index:
        index.gate.set()
        yield index


@pytest.fixture
def locked_index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "locked").mkdir()
    with serving(Index(tmp_path / "locked", login="user:hunter2-secret")) as index:
        index.gate.set()
        yield index


def wants(index: Index, *requirements: str, **more: object) -> PythonEnvironment:
    return PythonEnvironment(OWN, requirements, index_url=index.url(), **more)  # type: ignore[arg-type]


def ensure(data: Path, environment: PythonEnvironment, bench: Bench | None = None) -> tuple[Path, bool]:
    built = open_builder(data, SEARCH).ensure(environment, bench or Bench())
    settle()
    return built.prefix, built.hit


def run(prefix: Path, code: str) -> str:
    argv = [prefix / "bin" / "python", "-c", code]
    return subprocess.run(argv, text=True, capture_output=True, check=True, timeout=60).stdout.strip()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.01)


def test_an_environment_is_built_and_then_found(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0", ["beta>=2"])
    index.add("beta", "2.5")
    bench = Bench()
    prefix, hit = ensure(tmp_path / "data", wants(index, "alpha"), bench)
    assert not hit
    assert run(prefix, "import alpha, beta; print(alpha.version, beta.version)") == "1.0 2.5"
    assert "alpha==1.0" in bench.text()
    again = Bench()
    assert ensure(tmp_path / "data", wants(index, "alpha"), again) == (prefix, True)
    assert again.programs == []


def test_an_environment_without_a_version_is_of_the_servers_own(tmp_path: Path) -> None:
    prefix, _ = ensure(tmp_path, PythonEnvironment(""))
    assert run(prefix, "import sys; print('%d.%d' % sys.version_info[:2])") == OWN
    assert ensure(tmp_path, PythonEnvironment(OWN)) == (prefix, True)


def test_different_requirements_do_not_meet(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0")
    index.add("alpha", "2.0")
    one, _ = ensure(tmp_path / "data", wants(index, "alpha==1.0"))
    two, _ = ensure(tmp_path / "data", wants(index, "alpha==2.0"))
    assert [run(p, "import alpha; print(alpha.version)") for p in (one, two)] == ["1.0", "2.0"]


def test_no_deps_installs_what_is_named_and_no_more(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0", ["never-published"])
    prefix, _ = ensure(tmp_path / "data", wants(index, "alpha", no_deps=True))
    assert run(prefix, "import alpha; print(alpha.version)") == "1.0"


def test_the_best_version_of_all_indexes_wins(tmp_path: Path, index: Index, locked_index: Index) -> None:
    index.add("alpha", "2.0")
    locked_index.add("alpha", "1.0")  # uv alone would be content with this one: it comes first
    prefix, _ = ensure(tmp_path / "data", wants(index, "alpha", extra_index_urls=(locked_index.url(),)))
    assert run(prefix, "import alpha; print(alpha.version)") == "2.0"


def test_what_cannot_be_resolved_is_told_in_the_resolvers_words(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0", ["beta<2"])
    index.add("beta", "2.5")
    with pytest.raises(EnvironmentBuildError) as caught:
        ensure(tmp_path / "data", wants(index, "alpha"))
    text = str(caught.value)
    assert text.startswith("the requirements cannot be installed:\n")
    assert "beta<2" in text
    assert text.endswith("in the job's python environment.")


def test_a_failed_build_is_tried_again(tmp_path: Path, index: Index) -> None:
    with pytest.raises(EnvironmentBuildError):
        ensure(tmp_path / "data", wants(index, "alpha"))
    index.add("alpha", "1.0")
    assert ensure(tmp_path / "data", wants(index, "alpha"))[1] is False


@pytest.mark.parametrize("exists", [True, False])
def test_credentials_are_in_no_line_and_no_command(tmp_path: Path, locked_index: Index, exists: bool) -> None:
    if exists:
        locked_index.add("alpha", "1.0")
    bench = Bench()
    try:
        ensure(tmp_path / "data", wants(locked_index, "alpha"), bench)
        assert exists
    except EnvironmentBuildError as error:
        assert not exists
        bench.log(str(error))
    assert "hunter2" not in bench.text() + str(bench.programs)
    files = [p for p in (tmp_path / "data" / "environments").rglob("*") if p.is_file()]
    assert not [p for p in files if b"hunter2" in p.read_bytes()]


def test_a_refused_login_is_told_without_it(tmp_path: Path, locked_index: Index) -> None:
    locked_index.add("alpha", "1.0")
    url = locked_index.url().replace("hunter2-secret", "wrong-secret")
    bench = Bench()
    with pytest.raises(EnvironmentBuildError) as caught:
        ensure(tmp_path / "data", PythonEnvironment(OWN, ("alpha",), index_url=url), bench)
    assert "401" in str(caught.value)
    assert "wrong-secret" not in str(caught.value) + bench.text() + str(bench.programs)


def test_a_python_that_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match=r"Python 3\.99 cannot be had") as caught:
        ensure(tmp_path, PythonEnvironment("3.99"))
    assert "Choose another python_version" in str(caught.value)


def test_no_configuration_of_the_working_directory_counts(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("alpha", "1.0")
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    monkeypatch.chdir(tmp_path)
    assert ensure(tmp_path / "data", wants(index, "alpha"))[1] is False


def test_the_operators_own_index_counts(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("alpha", "1.0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url())
    prefix, _ = ensure(tmp_path / "data", PythonEnvironment(OWN, ("alpha",)))
    assert run(prefix, "import alpha; print(alpha.version)") == "1.0"


def test_the_servers_import_path_does_not_leak_into_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_SYSTEM_PYTHON", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "the server's")
    env = uv_environment(PythonEnvironment(OWN), tmp_path)
    assert [name for name, value in env.items() if value == "the server's"] == ["HTTPS_PROXY"]


def test_an_image_gets_what_leads_to_the_indexes_and_nothing_of_this_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "UV_HTTP_TIMEOUT", "UV_PYTHON_DOWNLOADS_JSON_URL", "CC", "LD_LIBRARY_PATH", "NETRC"):
        monkeypatch.setenv(name, "the server's")
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", f"https://x/y,{tmp_path}/links {tmp_path}/nowhere")
    env = uv_environment(PythonEnvironment(OWN), tmp_path, in_image=True)
    assert [name for name, value in env.items() if value == "the server's"] == ["HTTPS_PROXY", "UV_HTTP_TIMEOUT"]
    assert {"PATH", "HOME", "LANG", "TMPDIR"} & env.keys() == set()
    assert tmp_path / "links" in (files := named_files(env))
    assert tmp_path / "nowhere" not in files


def test_a_build_that_was_killed_for_memory_is_told(tmp_path: Path, index: Index) -> None:
    class Killed(Bench):
        def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
            return 137 if "install" in argv else super().run(argv, env, on_line)

    with pytest.raises(EnvironmentBuildError, match="most likely for being out of memory"):
        ensure(tmp_path / "data", wants(index, "alpha"), Killed())


def test_a_build_sees_no_secret_of_the_server(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "UV_PUBLISH_TOKEN"):
        monkeypatch.setenv(name, "hunter2-secret")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "77")
    index.add("alpha", "1.0")
    seen: list[Mapping[str, str]] = []

    class Watching(Bench):
        def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
            seen.append(env)
            return super().run(argv, env, on_line)

    ensure(tmp_path / "data", wants(index, "alpha"), Watching())
    assert len(seen) >= 2
    assert "hunter2" not in str(seen)
    assert all(env["UV_HTTP_TIMEOUT"] == "77" for env in seen)


def test_a_program_that_shows_credentials_is_masked(tmp_path: Path, locked_index: Index) -> None:
    class Telltale(Bench):
        def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
            if "install" not in argv:
                return super().run(argv, env, on_line)
            on_line(f"fetching {env['UV_DEFAULT_INDEX']} as hunter2-secret\n")
            return 2

    bench = Telltale()
    with pytest.raises(EnvironmentBuildError) as caught:
        ensure(tmp_path / "data", wants(locked_index, "alpha"), bench)
    assert f"fetching http://***@127.0.0.1:{locked_index.port}/simple/ as ***" in bench.lines
    assert "hunter2" not in str(caught.value) + bench.text()


def ask(data: Path, environment: PythonEnvironment, answers: "SimpleQueue[tuple[bool, int]]") -> None:
    bench = Bench()
    _, hit = ensure(data, environment, bench)
    answers.put((hit, sum("install" in argv for argv in bench.programs)))


def test_many_who_ask_at_once_get_one_build(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0")
    index.gate.clear()
    answers: SimpleQueue[tuple[bool, int]] = SPAWN.SimpleQueue()
    args = (tmp_path / "data", wants(index, "alpha"), answers)
    asking = [SPAWN.Process(target=ask, args=args) for _ in range(MANY)]
    for process in asking:
        process.start()
    until(lambda: index.downloads)
    index.gate.set()
    got = [answers.get() for _ in asking]
    for process in asking:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(got) == [(False, 1)] + [(True, 0)] * (MANY - 1)


def test_who_waits_is_told_once_for_whom(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0")
    index.gate.clear()
    data, environment = tmp_path / "data", wants(index, "alpha")
    answers: SimpleQueue[tuple[bool, int]] = SPAWN.SimpleQueue()
    builder = SPAWN.Process(target=ask, args=(data, environment, answers))
    builder.start()
    until(lambda: index.downloads)

    class Waiting(Bench):
        def pause(self, seconds: float) -> None:
            index.gate.set()
            super().pause(seconds)

    bench = Waiting()
    assert ensure(data, environment, bench)[1] is True
    builder.join(60)
    said = [line for line in bench.lines if line.startswith("waiting for the same environment")]
    assert len(said) == 1
    assert f"process {builder.pid} since" in said[0]


def test_a_build_that_was_killed_is_done_again(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0")
    index.gate.clear()
    data, environment = tmp_path / "data", wants(index, "alpha")
    answers: SimpleQueue[tuple[bool, int]] = SPAWN.SimpleQueue()
    builder = SPAWN.Process(target=ask, args=(data, environment, answers))
    builder.start()
    until(lambda: index.downloads)
    installer = children(builder.pid or 0)
    builder.kill()
    builder.join(60)
    half_built = next(p for p in (data / "environments").iterdir() if p.is_dir())
    (half_built / "half").touch()
    index.gate.set()
    prefix, hit = ensure(data, environment)
    assert (prefix, hit) == (half_built, False)
    assert not (prefix / "half").exists()
    assert run(prefix, "import alpha; print(alpha.version)") == "1.0"
    assert [pid for pid in installer if running(pid)] == []


def children(parent: int) -> list[int]:
    found = [int(p) for p in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    assert found
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_stop_passes_through_and_the_next_one_builds(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0")

    class StopError(Exception):
        pass

    class Stopping(Bench):
        def run(self, argv: object, env: object, on_line: object) -> int:
            if "install" in argv:  # type: ignore[operator]
                raise StopError
            return super().run(argv, env, on_line)  # type: ignore[arg-type]

    with pytest.raises(StopError):
        ensure(tmp_path / "data", wants(index, "alpha"), Stopping())
    assert ensure(tmp_path / "data", wants(index, "alpha"))[1] is False


@pytest.mark.parametrize("lost", ["bin/python", ".ready"])
def test_a_prefix_that_lost_a_part_is_built_again(tmp_path: Path, lost: str) -> None:
    prefix, _ = ensure(tmp_path, PythonEnvironment(OWN))
    (prefix.with_suffix(lost) if lost == ".ready" else prefix / lost).unlink()
    assert ensure(tmp_path, PythonEnvironment(OWN)) == (prefix, False)


def test_a_prefix_is_held_while_its_user_lives(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench import Bench\n"
        "from jobsphere.domain.environment import PythonEnvironment\n"
        "from jobsphere.environments.cache import open_builder\n"
        "print(open_builder(Path(sys.argv[1]), sys.argv[3:]).ensure(PythonEnvironment(sys.argv[2]), Bench()).prefix)\n"
        "sys.stdout.flush(); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path), OWN, *SEARCH]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(argv, text=True, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdin
        assert user.stdout
        use = Path(user.stdout.readline().strip()).with_suffix(".use")
        assert not removable(use)
        user.stdin.close()
        user.wait(60)
    assert removable(use)


def removable(use: Path) -> bool:
    return subprocess.run(["flock", "--nonblock", "--exclusive", use, "true"], check=False).returncode == 0


def test_a_use_is_noted(tmp_path: Path) -> None:
    prefix, _ = ensure(tmp_path, PythonEnvironment(OWN))
    ready = prefix.with_suffix(".ready")
    os.utime(ready, (1, 1))
    ensure(tmp_path, PythonEnvironment(OWN))
    assert ready.stat().st_mtime > 1


def test_a_process_without_the_mark_is_left_alone(tmp_path: Path, index: Index) -> None:
    index.add("alpha", "1.0")
    environment = wants(index, "alpha")
    with subprocess.Popen(["sleep", "600"], env={"JOBSPHERE_BUILD": str(tmp_path / "data")}) as bystander:
        try:
            prefix, _ = ensure(tmp_path / "data", environment)
            prefix.with_suffix(".ready").unlink()
            ensure(tmp_path / "data", environment)
            assert bystander.poll() is None
        finally:
            bystander.kill()
