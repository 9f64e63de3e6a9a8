"""The example of docs/resources.md through a whole server: applied, used by a job of the vendor's CLI, written back."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.acceptance.jobfiles import write_job
from tests.commands import jobsphere
from tests.live import BIN, HANG_S, live_server

DOCS = Path(__file__).parents[2] / "docs" / "resources.md"
CONFIG = """cmd: printenv API_TOKEN > ${OUT}; cat ${DATA}/p.csv >> ${OUT}
datasets:
- %s:
    var: DATA
outputs:
- out.txt: OUT
"""


def example(folder: Path) -> Path:
    """The page's example with all that it names."""
    for name, text in (("secrets/s3-id", "id"), ("secrets/s3-key", "key"), ("prices/p.csv", "1,2\n")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    found = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    (folder / "resources.yaml").write_text(found[1])
    return folder / "resources.yaml"


def test_applied_used_written_back_and_changed(tmp_path: Path) -> None:
    file, environ = example(tmp_path), {**os.environ, "API_TOKEN": "planted-4711"}
    with live_server(tmp_path / "data") as server:
        data, client = server.data_dir, server.client()

        def apply(*args: str, code: int = 0, **more: str) -> str:
            argv = [BIN / "jobsphere", "apply", *args, "--data-dir", data]
            done = subprocess.run(argv, env={**environ, **more}, capture_output=True, text=True, timeout=HANG_S)
            assert done.returncode == code, done.stderr
            return done.stdout

        would = apply("-f", str(file), "--dry-run", code=2)
        assert "+ secret forecasting/demand/API_TOKEN\n    value: (the variable API_TOKEN)\n" in would
        assert would.endswith("\n13 to add.\n")
        assert apply("-f", str(file)).endswith("\n13 done.\n")
        projects = json.loads(jobsphere(data, "project", "list", "--json"))
        project = next(p["id"] for p in projects if p["name"] == "demand")
        (prices,) = json.loads(jobsphere(data, "dataset", "list", "--json", "--project", project))

        job = write_job(tmp_path / "job", CONFIG % prices["id"])
        client.run("project", "job", "execute", "-p", project, "-c", "config.yaml", cwd=job)
        assert (job / "out.txt").read_text() == "planted-4711\n1,2\n"

        exported = jobsphere(data, "export")
        assert "planted" not in exported
        (tmp_path / "exported.yaml").write_text(exported)
        assert apply("-f", str(tmp_path / "exported.yaml"), "--dry-run") == "Nothing would change.\n"
        assert apply("-f", str(file), "--dry-run") == "Nothing would change.\n"

        changed = exported.replace("Prices until 2024", "Prices until 2025")
        (tmp_path / "exported.yaml").write_text(changed)
        diff = apply("-f", str(tmp_path / "exported.yaml"), "--dry-run", code=2)
        assert diff == (
            "~ dataset forecasting/demand/prices\n"
            "    description: 'Prices until 2024' -> 'Prices until 2025'\n"
            "1 to change.\n"
        )
        coloured = apply("-f", str(tmp_path / "exported.yaml"), "--dry-run", code=2, FORCE_COLOR="1", TERM="xterm")
        assert "\x1b[33m~ dataset" in coloured
        assert "\x1b" not in diff


def test_without_a_server_errors_have_their_lines_and_code_1(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert jobsphere(data, "apply", "-f", "-", value=b"users: {ann: {}}\n") == "+ user ann\n1 done.\n"
    words = jobsphere(data, "apply", "-f", "-", "--dry-run", value=b"users:\n  b c: {}\n  d: {e: f}\n", code=1)
    assert "cannot be applied, and nothing was changed:\n  line 2: user b c: name: 'b c' must" in words
    assert "\n  line 3: user d: no 'e' here" in words
    assert "cannot be read: No such file" in jobsphere(data, "apply", "-f", str(tmp_path / "gone"), code=1)
    assert jobsphere(data, "apply", "-f", "-", value=b"users: {ann: {}}\n") == "Nothing to do.\n"
