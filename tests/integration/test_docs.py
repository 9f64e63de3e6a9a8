"""The documentation: it builds without a warning, needs no network to be read, and what it names is there."""

from __future__ import annotations

import ast
import dataclasses
import html
import inspect
import io
import itertools
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import datasphere.config
import pytest
from tests.commands import commands
from tests.manual import ROOT, TEXTS

from jobsphere import client
from jobsphere.api.server import implementations
from jobsphere.cli.main import app
from jobsphere.config import ImageSetting, InstanceTypeSetting, Settings


class Fetched(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.found.append(said.get("src") or "")
        elif tag == "link" and said.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(said.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return site


def test_the_site_builds_without_a_word_and_is_read_offline(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text())
        assert [url for url in reader.found if "//" in url] == [], page.name


def test_every_setting_is_told(site: Path) -> None:
    text = (site / "settings.html").read_text()
    names = [name for model in (Settings, InstanceTypeSetting, ImageSetting) for name in model.model_fields]
    assert [name for name in names if f"<code>{name}</code>" not in text] == []


def test_every_command_is_told(site: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", (site / "commands.html").read_text()))
    assert [" ".join(path) for path in commands(app) if f"jobsphere {' '.join(path)}" not in text] == []


def test_every_method_is_told(site: Path) -> None:
    text = (site / "api.html").read_text()
    served = [f"{one.service.name}.{name}" for one in implementations(Mock(), "") for name in one.methods]
    assert len(served) > 35
    assert [name for name in served if f">{name}<" not in text] == []
    left = [f"{one.service.name}.{name}" for one in implementations(Mock(), "") for name in one.without]
    assert [name for name in left if f"<code>{name}</code>" not in text] == []


def test_all_of_the_client_is_told(site: Path) -> None:
    text = (site / "client-reference.html").read_text()
    for name in set(client.__all__) - {"AsyncClient", "AsyncJob"}:
        kind = getattr(client, name)
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        members = public(kind) | {field.name for field in fields}
        assert {member for member in members if f'id="jobsphere.client.{name}.{member}"' not in text} == set(), name
    assert public(client.Client) == public(client.AsyncClient)
    assert public(client.Job) == public(client.AsyncJob)


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def keys_of_configs() -> set[str]:
    """All keys that the vendor's library looks for in a config, by its source."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(datasphere.config))):
        match node:
            case ast.Subscript(slice=ast.Constant(value=str(key))):
                found.add(key)
            case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(key)), *_]):
                found.add(key)
            case ast.Call(
                func=ast.Name(id="get_field" | "parse_variable_path_list"), args=[_, ast.Constant(value=str(key)), *_]
            ):
                found.add(key)
            case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()]):
                found.add(key)
    return found - {".."}


def test_every_key_of_a_config_is_told() -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    keys = keys_of_configs()
    assert {"cmd", "env", "no-deps", "secret-id", "attach-project-disk", "cloud-instance-type"} < keys
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    told = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`[^`]+`", prose))))
    assert keys - told == set()
    extended = any("x-jobsphere" in path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert extended == ("x-jobsphere" in text)


def test_the_configs_on_the_pages_are_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("requirements.txt", "job.py", "train.py", "data.csv"):
        (tmp_path / name).touch()
    found = 0
    for text in TEXTS:
        for block in re.findall(r"^```yaml\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL):
            if re.search(r"^(cmd|env):", block, re.MULTILINE):
                whole = block if "cmd:" in block else f"cmd: python job.py\n{block}"
                datasphere.config.parse_config(io.StringIO(whole.replace("connector: ID", f"connector: {'a' * 20}")))
                found += 1
    assert found > 2


def test_every_variable_is_told(site: Path) -> None:
    """Those that the server or the client reads, and those that a program gets."""
    source = (ROOT / "src" / "jobsphere" / "runner" / "command_line.py").read_text()
    found = set(re.findall(r'"([A-Z_]{4,})"', source))
    for path in (ROOT / "src").rglob("*.py"):
        found |= set(re.findall(r'"(JOBSPHERE_[A-Z_]*[A-Z])"', path.read_text()))
    text = "".join((site / page).read_text() for page in ("settings.html", "config.html"))
    settings = {f"JOBSPHERE_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in found - settings - INNER if f"<code>{name}</code>" not in text} == set()


INNER = {"JOBSPHERE_BUCKET", "JOBSPHERE_BUILD", "JOBSPHERE_CONDA_INPUT", "JOBSPHERE_ATTEMPT_ID"}
"""Variables by which parts of the server find each other."""


def named() -> list[tuple[str, str]]:
    """All calls of jobsphere that the running text names, one for each of ``list|show|delete``, by where they stand."""
    found: list[tuple[str, str]] = []
    for text in TEXTS:
        prose = re.sub(r"^```.*?^```$", "", text.read_text(), flags=re.MULTILINE | re.DOTALL)
        for call in re.findall(r"`(?:eval \"\$\()?(jobsphere [^`)]+)\)?\"?`", prose):
            words = [word.strip("[]").split("|") for word in call.split() if word != "…"]
            found += [(text.name, " ".join(one)) for one in itertools.product(*words)]
    return found


@pytest.mark.parametrize(("where", "call"), named())
def test_what_the_text_calls_a_command_is_one(where: str, call: str) -> None:
    words = call.split()[1:]
    if words[0] in ("--help", "--install-completion"):
        return
    path, apps, rest = app.parse_commands(words)
    assert path
    if apps[-1].default_command is None:
        assert rest == [], f"{' '.join(path)} has no such command"
        return
    options = {name for argument in apps[-1].assemble_argument_collection() for name in argument.names}
    assert [word for word in rest if word.startswith("-") and word not in options] == []


def test_there_are_commands_to_look_at() -> None:
    assert len(named()) > 40


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_its_settings_are_settings(text: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL):
        Settings.model_validate(tomllib.loads(block))
