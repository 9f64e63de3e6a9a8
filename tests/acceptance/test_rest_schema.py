"""What the OpenAPI document says, against a real server: requests made of it, and each answer held to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.live import BIN, HANG_S, live_server

SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
LEFT_OUT = ("negative_data_rejection", "positive_data_acceptance")
"""Protobuf's JSON takes null for a field that is not set, which the schema does not say; what a job or a name may be,
the document does not say either: those are rules that the server tells in its refusals."""


def test_every_operation_keeps_to_the_document(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        base = f"http://127.0.0.1:{server.ports['http']}"
        ids = what_there_is(base)
        config = tmp_path / "schemathesis.toml"
        config.write_text("[parameters]\n" + "".join(f'"path.{name}" = "{value}"\n' for name, value in ids.items()))
        command = [BIN / "st", "--config-file", config, "run", f"{base}/openapi.json", "--seed", "8", "--no-color"]
        command += ["--exclude-checks", ",".join(LEFT_OUT), "--generation-database", "none"]
        command += ["--max-examples", "200" if SOAK else "3", "--phases", "examples,coverage,fuzzing"]
        limit_s = HANG_S * (20 if SOAK else 1)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=limit_s)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert re.search(r"(\d{3,}) generated, \1 passed", done.stdout), done.stdout[-2000:]
        assert "code=INTERNAL" not in server.log


def what_there_is(base: str) -> dict[str, str]:
    """A community, a project and a job, for requests to be about."""

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(base + path, json.dumps(body).encode(), headers)) as answer:
            return json.load(answer)["response"]

    community = post("/datasphere/v2/communities", {"name": "looked-at"})["id"]
    project = post("/datasphere/v2/projects", {"name": "looked-at", "communityId": community})["id"]
    parameters = {"cmd": "true", "cloudInstanceTypes": [{"name": "c1.4"}]}
    job = post(f"/datasphere/v2/projects/{project}/jobs", {"jobParameters": parameters})["jobId"]
    return {"communityId": community, "projectId": project, "jobId": job, "sourceJobId": job}
