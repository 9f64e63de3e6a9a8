"""The buckets of an attempt, without FUSE: brought before the program starts, and what it changed written back."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime

from jobsphere.domain.attempt import Ended, EndReason, S3Mount
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.job import Phase
from jobsphere.runner.bench import Bench, StepError, StoppedError
from jobsphere.runner.image_pull import Unseal, engine_environment
from jobsphere.runner.rundir import OUTBOX

_MODULE, _VARIABLE = "jobsphere.runner.s3_transfer", "JOBSPHERE_S3"


def fetch_buckets(bench: Bench, unseal: Unseal) -> None:
    """Bring what is in each bucket of the plan.

    Raises:
        StepError: a bucket cannot be read; its own words.
        StoppedError: a stop was asked for.
    """
    for mount in bench.plan.s3_mounts:
        bench.step(f"Staging the S3 connector {mount.name}", 8)
        os.makedirs(bench.run_directory.at(mount.location), exist_ok=True)
        code, words = _run(bench, unseal, mount, "fetch", Phase.STAGE)
        if code:
            raise StepError(Phase.STAGE, f"S3 connector {mount.name!r}: {words}")
        kept = "changes in it are not written back" if mount.read_only else "changes are written back at the end"
        bench.log(f"S3 connector {mount.name!r}: {words}; without FUSE, {kept}")


def store_buckets(bench: Bench, unseal: Unseal, ended: Ended) -> Ended:
    """Write back what a program that ended by itself has changed; the end that the attempt has then."""
    if ended.reason is not EndReason.EXITED:
        return ended
    for mount in bench.plan.s3_mounts:
        if mount.read_only:
            continue
        try:
            code, words = _run(bench, unseal, mount, "store", Phase.OUTPUTS)
        except StoppedError:
            text = f"Stopped while the changes of the S3 connector {mount.name!r} were being written back"
            bench.log(text)
            return Ended(datetime.now(UTC), EndReason.STOPPED, ended.code, Phase.OUTPUTS, text)
        except StepError as error:
            code, words = 1, str(error)
        if code:
            text = f"The program returned code {ended.code}, but its changes are not in the bucket. "
            text += f"S3 connector {mount.name!r}: {words}"
            bench.log(text)
            return Ended(datetime.now(UTC), EndReason.FAILED, None, Phase.OUTPUTS, text)
        bench.log(f"S3 connector {mount.name!r}: {words}")
    return ended


def _run(bench: Bench, unseal: Unseal, mount: S3Mount, verb: str, phase: Phase) -> tuple[int, str]:
    """Run the transfer in a process of its own, which a stop ends at once: its code and its last line."""
    keys = {"access_key": mount.access_key_sealed, "secret_key": mount.secret_key_sealed}
    try:
        opened = {name: unseal(bench.plan.project_id, sealed) if sealed else "" for name, sealed in keys.items()}
    except JobsphereError as error:
        raise StepError(phase, f"S3 connector {mount.name!r}: {error.public}") from error
    bucket = {"name": mount.bucket, "endpoint": mount.endpoint, "region": mount.region, "prefix": mount.prefix}
    lines: list[str] = []

    def on_line(line: str) -> None:
        for value in filter(None, opened.values()):
            line = line.replace(value, "*****")
        lines.append(line)

    folder = bench.run_directory.at(mount.location)
    manifest = bench.run_directory.at(OUTBOX, f"s3-{mount.connector_id}.json")
    argv = [sys.executable, "-I", "-m", _MODULE, verb, folder, manifest]
    code = bench.run(argv, engine_environment() | {_VARIABLE: json.dumps(bucket | opened)}, on_line)
    for line in lines[:-1]:
        bench.log(line)
    return code, lines[-1] if lines else f"the transfer ended with code {code} and without a word"
