"""``deploy/compose.yaml`` as it is read by docker and podman, and carried out on this host without containers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.live import BIN, HANG_S, ROOT, LiveServer

FILE, BALANCER = ROOT / "deploy" / "compose.yaml", ROOT / "deploy" / "haproxy.cfg"
PATH = "/usr/sbin:/usr/bin"
"""Where haproxy is."""
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\}|(?P<dollar>\$\$)")


def variables() -> set[str]:
    """All that it takes from ``.env``."""
    return {found["name"] for found in _VARIABLE.finditer(FILE.read_text()) if found["name"]}


def services(values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Its services, with the values of ``.env`` put in. KeyError: one is needed and not given."""

    def put_in(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        return values.get(found["name"], found["rest"]) if found["kind"] == ":-" else values[found["name"]]

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(one) for name, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        return _VARIABLE.sub(put_in, value) if isinstance(value, str) else value

    return filled(yaml.safe_load(FILE.read_text())["services"])


class Carried(LiveServer):
    """A service of it as a process: its command and its variables, with names of the host's in the place of others.

    Args:
        folder: For what is its own.
        service: What the file says of it.
        here: What is called otherwise on this host.
        address: Where it listens.
    """

    def __init__(self, folder: Path, service: Mapping[str, Any], here: Mapping[str, str], address: str) -> None:
        here = {**here, "/var/lib/jobsphere": str(folder), "0.0.0.0": address}

        def on_this_host(word: str) -> str:
            return re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], word)

        environ = {name: on_this_host(value) for name, value in service["environment"].items()}
        words = [on_this_host(word) for word in service["command"]]
        words = [address if of == "--public-host" and word == service["hostname"] else word
                 for of, word in pairwise(["", *words])]  # fmt: skip
        super().__init__(folder, *words, environ=environ)

    def start(self, ports: Mapping[str, int] | None = None) -> None:
        """Start it as it is written down, and wait for its ready line."""
        assert ports is None
        self.launch([BIN / self.options[0], *self.options[1:]])


@contextmanager
def haproxy(folder: Path, address: str, servers: Mapping[str, str]) -> Generator[None]:
    """The balancer with its own configuration, on an address of this host."""
    text = BALANCER.read_text().replace("bind :", f"bind {address}:")
    for name, at in servers.items():
        text = text.replace(f" {name}:", f" {at}:")
    path = folder / "haproxy.cfg"
    path.write_text(text)
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen(["haproxy", "-f", path], stdout=log, stderr=log, env={"PATH": PATH})
    try:
        yield
    finally:
        process.terminate()
        process.wait(HANG_S)
