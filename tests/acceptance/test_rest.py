"""A job from its creation to its files with nothing but HTTP: what a script without gRPC does."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.live import HANG_S, Client, LiveServer

SCRIPT = (
    b"import sys\nprint('to stdout', flush=True)\nprint('to stderr', file=sys.stderr)\nopen('o.txt', 'w').write('42')\n"
)


def ask(url: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=HANG_S) as response:
        return json.load(response)


def events(url: str, last: str = "") -> Iterator[tuple[str, str, Any]]:
    """Id, kind and content of each event."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=HANG_S) as response:
        parts: dict[str, str] = {}
        for line in response:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                parts[name] = value
            elif "data" in parts:
                yield parts.get("id", ""), parts.get("event", "message"), json.loads(parts["data"])
                parts = {}


def text_of(answers: Iterator[tuple[str, str, Any]]) -> str:
    messages = [m for _, kind, answer in answers if kind == "message" for m in answer["logs"] if "filePath" not in m]
    return b"".join(base64.b64decode(m["content"]) for m in messages).decode()


def test_a_job_by_http_alone(server: LiveServer, client: Client) -> None:
    api = f"http://127.0.0.1:{server.ports['http']}/datasphere/v2"
    script = {"desc": {"path": "main.py", "var": "MAIN"}, "sha256": hashlib.sha256(SCRIPT).hexdigest()}
    parameters = {
        "cmd": "python3 ${MAIN}",
        "inputFiles": [{**script, "sizeBytes": str(len(SCRIPT)), "compressionType": "NONE"}],
        "outputFiles": [{"path": "o.txt"}],
        "cloudInstanceTypes": [{"name": "c1.4"}],
    }
    created = ask(f"{api}/projects/{client.project}/jobs", {"name": "by http", "jobParameters": parameters})
    job = f"{api}/jobs/{created['response']['jobId']}"
    for upload in created["response"]["uploadFiles"]:
        urllib.request.urlopen(urllib.request.Request(upload["url"], SCRIPT, method="PUT"), timeout=HANG_S).close()
    operation = ask(f"{job}:execute", {})

    seen = [(kind, answer.get("status")) for _, kind, answer in events(job)]
    assert (seen[-2:], seen[0][0]) == ([("message", "SUCCESS"), ("end", None)], "message")

    log = list(events(f"{job}/logs"))
    assert log[-1][1] == "end"
    assert {"to stdout", "to stderr"} <= set(text_of(iter(log)).splitlines())
    assert text_of(events(f"{job}/logs", last=log[-2][0])) == ""

    done = ask(f"http://127.0.0.1:{server.ports['http']}/operations/{operation['id']}")
    assert (done["done"], done["response"]["result"]["returnCode"]) == (True, "0")
    (output,) = done["response"]["outputFiles"]
    with urllib.request.urlopen(output["url"], timeout=HANG_S) as response:
        assert response.read() == b"42"
