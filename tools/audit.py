"""Ask whether a locked dependency is known to be vulnerable: ``python tools/audit.py UV``.

Exit codes: 0 none is, 1 some are, 2 nobody could be asked. No answer is not a good answer: a service that does not know
about a package, or not about a version that all of them know to be vulnerable, is taken for one that cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

AUDITOR = "pip-audit>=2.7,<3"
CANARY = "jinja2==2.10"
"""Vulnerable since 2019 (CVE-2019-10906): whoever does not say so knows nothing of the others either."""


class NotKnownError(Exception):
    """Nobody could be asked; the text says why."""


def main(uv: str) -> int:
    """Audit ``uv.lock`` and print what was found."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            canary = Path(folder, "canary.txt")
            canary.write_text(f"{CANARY}\n")
            check_canary(_report(uv, canary, "--no-deps"))
            locked = Path(folder, "locked.txt")
            _run([uv, "export", "--frozen", "--quiet", "--no-emit-project", "--output-file", str(locked)])
            found = vulnerable(_report(uv, locked, "--require-hashes"))
    except NotKnownError as error:
        print(f"make audit: NOT KNOWN whether a dependency is vulnerable: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for line in found:
        print(line)  # noqa: T201
    print(f"make audit: {len(found)} known vulnerabilities in what uv.lock names")  # noqa: T201
    return 1 if found else 0


def check_canary(dependencies: Sequence[dict[str, Any]]) -> None:
    """See that the service knows what everybody knows.

    Raises:
        NotKnownError: it does not.
    """
    if not any(d.get("vulns") for d in dependencies):
        why = next((d["skip_reason"] for d in dependencies if "skip_reason" in d), "it says that there is nothing")
        raise NotKnownError(
            f"the service of vulnerabilities does not know of those in {CANARY} ({why}); is the package index a mirror "
            "without them? Run it where the public index can be reached"
        )


def vulnerable(dependencies: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each known vulnerability.

    Raises:
        NotKnownError: the service did not know a dependency.
    """
    dependencies = list(dependencies)
    skipped = [f"{d['name']} ({d['skip_reason']})" for d in dependencies if "skip_reason" in d]
    if skipped or not dependencies:
        raise NotKnownError(f"{len(skipped)} of {len(dependencies)} were not looked at: {', '.join(skipped[:5])}")
    return [
        f"{d['name']} {d['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no version yet'}"
        for d in dependencies
        for v in d["vulns"]
    ]


def _report(uv: str, requirements: Path, *options: str) -> list[dict[str, Any]]:
    """The auditor's answer; it ends with 1 when it found something, and also when it failed."""
    report = requirements.with_suffix(".json")
    command = [
        uv,
        "tool",
        "run",
        "--quiet",
        "--from",
        AUDITOR,
        "pip-audit",
        "--disable-pip",
        "--progress-spinner",
        "off",
    ]
    _run([*command, *options, "-r", str(requirements), "-f", "json", "-o", str(report)], may_fail=report)
    return json.loads(report.read_text())["dependencies"]


def _run(command: list[str], may_fail: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not (may_fail and may_fail.exists()):
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise NotKnownError(f"`{Path(command[0]).name} {command[1]} {command[2]}` failed: {words[-1].strip()[:300]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
