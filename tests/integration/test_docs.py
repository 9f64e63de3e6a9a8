"""The documentation: it builds without a warning, needs no network to be read, and what it names is there."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.manual import ROOT, TEXTS

from jobsphere.cli.main import app
from jobsphere.config import Settings


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


def test_the_site_builds_without_a_warning_and_is_read_offline(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text())
        assert [url for url in reader.found if "//" in url] == [], page.name
    settings = (tmp_path / "site" / "settings.html").read_text()
    assert [name for name in Settings.model_fields if f"<code>{name}</code>" not in settings] == []


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
