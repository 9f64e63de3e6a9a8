"""Where settings come from, and which wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsphere import config
from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError
from jobsphere.wiring.parts import sandbox_of


@pytest.fixture(autouse=True)
def no_settings_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in config.Settings.model_fields:
        monkeypatch.delenv(f"JOBSPHERE_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


def test_the_command_line_wins_over_variables_and_they_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobsphere.toml").write_text("grpc_port = 1\nproxy_port = 2\nhttp_port = 3\n")
    monkeypatch.setenv("JOBSPHERE_PROXY_PORT", "20")
    monkeypatch.setenv("JOBSPHERE_HTTP_PORT", "30")

    settings = config.load({"data_dir": tmp_path, "http_port": 300, "host": None})

    assert (settings.grpc_port, settings.proxy_port, settings.http_port) == (1, 20, 300)
    assert settings.host == "127.0.0.1"


def test_the_data_directory_has_a_default(tmp_path: Path) -> None:
    assert config.load({}).data_dir == tmp_path / "share" / "jobsphere"


def test_another_file_can_be_named(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("jobs_at_once = 7\n")

    assert config.load({"data_dir": tmp_path}, other).jobs_at_once == 7


@pytest.mark.parametrize(
    ("text", "word"),
    [("grpc_port = 70000", "grpc_port"), ("no_such_thing = 1", "no_such_thing"), ("= broken", "jobsphere.toml")],
)
def test_what_cannot_be_is_told_by_its_name(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "jobsphere.toml").write_text(text)

    with pytest.raises(InvalidArgumentError, match=word):
        config.load({"data_dir": tmp_path})


@pytest.mark.parametrize(
    ("host", "asked", "required"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", None, True),
        ("10.1.2.3", None, True),
        ("gpu-box.example", None, True),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, False),
    ],
)
def test_tokens_are_required_wherever_others_can_connect(host: str, asked: bool | None, required: bool) -> None:
    assert config.load({"host": host, "require_tokens": asked}).tokens_required is required


@pytest.mark.parametrize("path", ["{data}", "{data}/blobs", "{data}/../data/blobs", "/"])
def test_a_folder_for_jobs_is_outside_of_the_data_directory(tmp_path: Path, path: str) -> None:
    (tmp_path / "data" / "blobs").mkdir(parents=True)
    shown = path.format(data=tmp_path / "data")
    with pytest.raises(FailedPreconditionError, match="not for jobs to see"):
        sandbox_of(config.Settings(data_dir=tmp_path / "data", sandbox_read_only=(shown,)))


def test_a_folder_for_jobs_does_not_hold_their_working_storage(tmp_path: Path) -> None:
    (tmp_path / "shared" / "volume").mkdir(parents=True)
    settings = config.Settings(
        data_dir=tmp_path / "data",
        sandbox_read_only=(str(tmp_path / "shared"),),
        working_storage=tmp_path / "shared" / "volume",
    )
    with pytest.raises(FailedPreconditionError, match="each other's working_storage"):
        sandbox_of(settings)


@pytest.mark.parametrize(
    "url", ["mysql://me@host/db", "postgresql://me:planted@host/db", "postgresql://me@host/db?password=planted", "host"]
)
def test_a_database_url_has_no_password_and_is_one_of_postgresql(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="database_url") as caught:
        config.load({"database_url": url})
    assert "planted" not in f"{caught.value}"
    assert config.load({"database_url": "postgresql://me@a,b/db?target_session_attrs=primary"}).database_url
