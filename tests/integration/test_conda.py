"""conda environments solved and installed by the real rattler, from channels made here: no network."""

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench import Bench, Index, serving, settle
from channels import VERSION, Channel

from jobsphere.domain.job import PipOptions, PythonEnv
from jobsphere.domain.ports import BuiltEnvironment, EnvironmentBuildError
from jobsphere.environments.cache import open_builder
from jobsphere.pythonspec import environment_of


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("UV_", "PIP_", "CONDA_", "RATTLER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path / "channel")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "wheels").mkdir()
    with serving(Index(tmp_path / "wheels")) as index:
        index.gate.set()
        yield index


def ensure(tmp_path: Path, yaml: str, bench: Bench | None = None, **more: object) -> BuiltEnvironment:
    environment = environment_of(PythonEnv(conda_yaml=yaml, **more))  # type: ignore[arg-type]
    alias = f"file://{tmp_path}"
    built = open_builder(tmp_path / "data", channel_alias=alias).ensure(environment, bench or Bench())
    settle()
    return built


def has(built: BuiltEnvironment, name: str) -> str:
    return (built.prefix / "share" / name).read_text()


def test_an_environment_is_solved_installed_and_then_found(tmp_path: Path, channel: Channel) -> None:
    channel.add("alpha", depends=["beta >=2"], files={"bin/alpha": b"#!/bin/sh\necho hello\n"})
    channel.add("beta", "1.0")
    channel.add("beta", "2.5")
    yaml = f"name: mine\nchannels: [{channel.publish()}]\ndependencies: [alpha]\n"
    bench = Bench()
    built = ensure(tmp_path, yaml, bench)
    assert (built.hit, has(built, "beta")) == (False, "2.5")
    assert subprocess.run([built.prefix / "bin" / "alpha"], capture_output=True, check=True).stdout == b"hello\n"
    assert " + alpha=1.0=0" in bench.lines
    assert any("__glibc=" in line for line in bench.lines)
    again = Bench()
    other_name = yaml.replace("mine", "yours")
    assert ensure(tmp_path, other_name, again) == BuiltEnvironment(built.prefix, hit=True)
    assert again.programs == []


@pytest.mark.parametrize(
    ("spec", "version"), [("alpha", "3.0"), ("alpha=1", "1.5"), ("alpha >=1,<2", "1.5"), ("alpha=2.0=old*", "2.0")]
)
def test_pins_are_kept(tmp_path: Path, channel: Channel, spec: str, version: str) -> None:
    for each, build in [("1.0", "0"), ("1.5", "0"), ("2.0", "old_1"), ("3.0", "0")]:
        channel.add("alpha", each, build=build)
    yaml = f"channels: [{channel.publish()}]\ndependencies: ['{spec}']\n"
    assert has(ensure(tmp_path, yaml), "alpha") == version


def test_the_first_channel_wins_and_a_spec_can_name_another(tmp_path: Path) -> None:
    one, two = Channel(tmp_path / "one"), Channel(tmp_path / "two")
    one.add("alpha", "1.0")
    two.add("alpha", "2.0")
    one.publish()
    two.publish()
    assert has(ensure(tmp_path, "channels: [one, two]\ndependencies: [alpha]"), "alpha") == "1.0"
    assert has(ensure(tmp_path, "channels: [one]\ndependencies: ['two::alpha']"), "alpha") == "2.0"


def test_without_channels_it_is_conda_forge(tmp_path: Path) -> None:
    forge = Channel(tmp_path / "conda-forge")
    forge.add("alpha")
    forge.publish()
    assert has(ensure(tmp_path, "dependencies: [alpha]"), "alpha") == "1.0"


@pytest.mark.parametrize(
    ("dependencies", "words"),
    [
        ("[absent=1]", "No candidates were found for absent 1.*"),
        ("[alpha, beta]", "nowhere *, for which no candidates were found"),
        ("['alpha =7']", "No candidates were found for alpha"),
    ],
)
def test_what_cannot_be_had_is_named(tmp_path: Path, channel: Channel, dependencies: str, words: str) -> None:
    channel.add("alpha")
    channel.add("beta", depends=["nowhere"])
    with pytest.raises(EnvironmentBuildError) as caught:
        ensure(tmp_path, f"channels: [{channel.publish()}]\ndependencies: {dependencies}")
    text = str(caught.value)
    assert text.startswith("the conda environment cannot be had:\n")
    assert words in text
    assert text.endswith("in the job's conda_yaml.")


def test_a_channel_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="could not find subdir 'noarch' in channel 'file:///nowhere/'"):
        ensure(tmp_path, "channels: ['file:///nowhere']\ndependencies: [alpha]")


def test_the_pip_section_and_requirements_go_into_the_prefix(tmp_path: Path, channel: Channel, index: Index) -> None:
    index.add("one", "1.0")
    index.add("two", "2.0")
    channel.add_python()
    channel.add("alpha")
    yaml = f"channels: [{channel.publish()}]\ndependencies: [alpha, {{pip: [one]}}]"
    built = ensure(tmp_path, yaml, requirements=("two",), pip_options=PipOptions(index_url=index.url()))
    code = "import one, two, sys; print(one.version, two.version, sys.prefix, one.__file__.startswith(sys.prefix))"
    python = built.prefix / "bin" / "python"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1.0", "2.0", str(built.prefix), "True"]
    assert has(built, "python") == VERSION


def test_a_python_version_is_added_if_the_document_has_none(tmp_path: Path, channel: Channel) -> None:
    channel.add_python()
    channel.add("alpha")
    yaml = f"channels: [{channel.publish()}]\ndependencies: [alpha]"
    assert has(ensure(tmp_path, yaml, python_version=VERSION.rpartition(".")[0]), "python") == VERSION
    with pytest.raises(EnvironmentBuildError, match=r"python 3\.99"):
        ensure(tmp_path, yaml, python_version="3.99")


def test_no_file_of_a_prefix_can_be_written(tmp_path: Path, channel: Channel) -> None:
    channel.add("alpha")
    built = ensure(tmp_path, f"channels: [{channel.publish()}]\ndependencies: [alpha]")
    files = [p for p in built.prefix.rglob("*") if p.is_file()]
    assert len(files) >= 3
    assert not [p for p in files if p.stat().st_mode & 0o222]


@contextmanager
def served(folder: Path, accepts: str) -> Iterator[int]:
    """The folder over HTTP, for those who bring this login or come by this path."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(accepts):
                self.path = self.path.removeprefix(accepts)
            elif self.headers.get("Authorization") != accepts:
                return self.send_error(401)
            return super().do_GET()

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("dependency", ["alpha", "absent"])
@pytest.mark.parametrize(
    ("accepts", "form"),
    [
        ("Basic dXNlcjpodW50ZXIyLXNlY3JldA==", "http://user:hunter2-secret@127.0.0.1:{}/channel"),
        ("/t/hunter2-secret", "http://127.0.0.1:{}/t/hunter2-secret/channel"),
    ],
)
def test_logins_of_channels_work_and_are_written_nowhere(
    tmp_path: Path, channel: Channel, accepts: str, form: str, dependency: str
) -> None:
    channel.add("alpha")
    channel.publish()
    bench = Bench()
    with served(tmp_path, accepts) as port:
        yaml = f"channels: ['{form.format(port)}']\ndependencies: [{dependency}]"
        if dependency == "alpha":
            assert has(ensure(tmp_path, yaml, bench), "alpha") == "1.0"
        else:
            with pytest.raises(EnvironmentBuildError, match="No candidates were found for absent") as unsolved:
                ensure(tmp_path, yaml, bench)
            bench.log(str(unsolved.value))
        with pytest.raises(EnvironmentBuildError) as caught:
            ensure(tmp_path, yaml.replace("hunter2", "wrong-hunter2"), bench)
    bench.log(str(caught.value))
    assert "hunter2" not in bench.text() + str(bench.programs) + repr(environment_of(PythonEnv(conda_yaml=yaml)))
    files = [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if b"hunter2" in p.read_bytes()]
