"""The documentation: it builds without a warning, needs no network to be read, and its commands are commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jobsphere.cli.main import app
from jobsphere.config import Settings

ROOT = Path(__file__).parents[2]
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


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


def commands() -> list[tuple[str, str]]:
    """All lines of shell in the texts that call jobsphere, by where they stand."""
    found: list[tuple[str, str]] = []
    for text in TEXTS:
        for block in re.findall(r"^```sh\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found += [
                    (text.name, call) for call in re.findall(r"(?:^|\$\(|&& |/bin/)(jobsphere (?!/)[^|#)\"]+)", line)
                ]
    return found


@pytest.mark.parametrize(("where", "line"), commands())
def test_its_commands_are_commands(where: str, line: str) -> None:
    command = shlex.split(line.partition(" < ")[0].partition(" > ")[0])
    app.parse_args(command[1:], exit_on_error=False, print_error=False)


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_its_settings_are_settings(text: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL):
        Settings.model_validate(tomllib.loads(block))
