"""``deploy/compose.yaml`` names settings, options, ports, folders and files that there are, and the docs tell of it."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.compose import BALANCER, FILE, PATH, services, variables
from tests.live import ROOT

from jobsphere.cli.main import app
from jobsphere.config import PASSWORD_VARIABLE, Settings

VALUES = {"PUBLIC_HOST": "jobs.example.org", "DATABASE_PASSWORD": "d", "BUCKET_KEY": "k", "BUCKET_SECRET": "s"}
SERVICES = services(VALUES)
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "jobsphere"}
SERVERS = {name: service for name, service in OURS.items() if "up" in service["command"]}
DOCS = (ROOT / "docs" / "replicas.md").read_text()
BESIDE_SETTINGS = {PASSWORD_VARIABLE, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_it_is_what_was_asked_for() -> None:
    assert (len(SERVERS), len(OURS) - len(SERVERS)) == (3, 2)
    assert {"postgres", "s3", "balancer"} <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_accepted_and_every_setting_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OURS[name]
    program, *words = service["command"]
    assert program == "jobsphere"
    command, bound, _ = app.parse_args(words)
    assert command.__name__ == words[0]
    given = {k: v for k, v in bound.arguments.items() if k in Settings.model_fields}
    for variable, value in service["environment"].items():
        if variable not in BESIDE_SETTINGS:
            assert variable.removeprefix("JOBSPHERE_").lower() in Settings.model_fields, variable
        monkeypatch.setenv(variable, value)
    settings = Settings(**given)
    assert settings.data_dir != settings.shared
    assert inspect.signature(command).parameters


def test_servers_differ_in_their_names_and_own_folders_only() -> None:
    ours = [{k: v for k, v in service.items() if k not in {"hostname", "volumes"}} for service in SERVERS.values()]
    assert all(service == ours[0] for service in ours)
    for name, service in OURS.items():
        assert service["hostname"] == name
        mounted = dict(volume.split(":") for volume in service["volumes"])
        assert mounted == {
            name: service["environment"]["JOBSPHERE_DATA_DIR"],
            "shared": service["environment"]["JOBSPHERE_SHARED_DIR"],
        }
        if "agent" in service["command"]:
            assert service["command"].count(name) == 2


def test_every_name_that_is_reached_is_a_service_and_every_port_is_the_servers() -> None:
    ports = {name: Settings.model_fields[f"{name}_port"].default for name in ("grpc", "proxy", "http")}
    assert SERVICES["balancer"]["ports"] == [f"{port}:{port}" for port in ports.values()]
    text = BALANCER.read_text()
    for name, port in ports.items():
        part = text.partition(f"listen {name}\n")[2].partition("\n\n")[0]
        assert re.findall(r"bind :(\d+)", part) == [str(port)]
        assert re.findall(r"server (\w+) (\w+):(\d+)", part) == [(s, s, str(port)) for s in SERVERS]
    assert f"check port {ports['http']} " in text
    environ = next(iter(SERVERS.values()))["environment"]
    assert re.search(r"@(\w+):5432/", environ["JOBSPHERE_DATABASE_URL"]).group(1) in SERVICES  # type: ignore[union-attr]
    assert environ["JOBSPHERE_BLOBS_ENDPOINT"] == "http://jobs.example.org:9000"
    assert SERVICES["s3"]["ports"] == ["9000:9000"]
    assert f"s3/{environ['JOBSPHERE_BLOBS'].split('/')[2]}" in SERVICES["bucket"]["command"][0]


def test_every_volume_is_declared_and_every_file_is_there() -> None:
    declared = set(yaml.safe_load(FILE.read_text())["volumes"])
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == declared
    for name in used - declared:
        assert (FILE.parent / name).is_file()
    build = OURS["server1"]["build"]
    folder = (FILE.parent / build["context"]).resolve()
    assert folder == ROOT
    image = (folder / build["dockerfile"]).read_text()
    for path in (OURS["server1"]["environment"][f"JOBSPHERE_{name}_DIR"] for name in ("DATA", "SHARED")):
        assert path in image
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_the_docs_name_all_that_is_to_be_set() -> None:
    assert "deploy/compose.yaml" in DOCS
    assert {name for name in variables() if name not in DOCS} == set()
    assert {name for name in VALUES if name not in FILE.read_text().partition("name:")[0]} == set()


@pytest.mark.skipif(shutil.which("haproxy", path=PATH) is None, reason="haproxy is not installed")
def test_the_balancer_takes_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(re.sub(r" (server\d):", " 127.0.0.1:", BALANCER.read_text()))
    command = ["haproxy", "-c", "-f", path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": PATH})
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr + done.stdout
