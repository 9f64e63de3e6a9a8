"""Small jobs and what tests ask about them."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from tests.live import HANG_S, Client, LiveServer, wait_for


def write_job(folder: Path, config: str, **files: str) -> Path:
    """A folder with a config.yaml and some files (``name__sh`` is ``name.sh``)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def write_script(folder: Path, script: str, more: str = "") -> Path:
    """A job that is one shell script; ``more`` is added to its config."""
    return write_job(folder, f"cmd: bash job.sh\ninputs:\n- job.sh\n{more}", job__sh=script)


def execute(client: Client, folder: Path, code: int = 0) -> str:
    """``project job execute`` in the foreground: its words."""
    return client.run("project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=folder, code=code)


def start_async(client: Client, folder: Path) -> dict[str, str]:
    """``execute --async``: job_id and operation_id."""
    out = folder / "execution.json"
    client.run(
        "project", "job", "execute", "-p", client.project, "-c", "config.yaml", "--async", "-o", str(out), cwd=folder
    )
    return json.loads(out.read_text())


def get(client: Client, job_id: str, cwd: Path) -> dict[str, str]:
    """``project job get`` as JSON."""
    out = cwd / "get.json"
    client.run("project", "job", "get", "--id", job_id, "--format", "json", "-o", str(out), cwd=cwd)
    return json.loads(out.read_text())


def job_id_in(words: str) -> str:
    """The job id that the client logged."""
    found = re.search(r"created job `(\w+)`", words)
    assert found, words
    return found.group(1)


def wait_status(client: Client, job_id: str, cwd: Path, *statuses: str) -> dict[str, str]:
    """The job, once it is in one of ``statuses``."""

    def reached() -> dict[str, str] | None:
        job = get(client, job_id, cwd)
        return job if job["status"] in statuses else None

    return wait_for(reached, f"{job_id} is in one of {statuses}")


def run_dir(data_dir: Path, job_id: str) -> Path:
    """The run directory of a job that is under way."""
    return data_dir / "attempts" / f"{job_id}-1"


def log_text(data_dir: Path, job_id: str) -> str:
    """All that a job that is under way has logged, frame headers and all."""
    path = run_dir(data_dir, job_id) / "logs"
    return path.read_bytes().decode(errors="replace") if path.exists() else ""


def sleepers(marker: str) -> list[str]:
    """Process ids of ``sleep <marker>``: the marker is a number that no other test uses."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[:2] == [b"sleep", marker.encode()]:
                found.append(entry.name)
    return found


def ask(server: LiveServer, path: str, body: object = None, **headers: str) -> Any:
    """What REST answers at a path below its prefix."""
    data = None if body is None else json.dumps(body).encode()
    url = f"http://127.0.0.1:{server.ports['http']}/datasphere/v2/{path}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=HANG_S) as answer:
        return json.load(answer)


def submit(server: LiveServer, parameters: object, **headers: str) -> str:
    """A job without files, made and executed by REST: its id."""
    project = json.loads((server.data_dir / "run" / "server.json").read_text())["project_id"]
    new = {"name": "name-of-the-user", "jobParameters": parameters}
    job_id = ask(server, f"projects/{project}/jobs", new, **headers)["response"]["jobId"]
    ask(server, f"jobs/{job_id}:execute", {}, **headers)
    return job_id
