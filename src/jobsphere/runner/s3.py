"""The buckets of an attempt: mounted where the node can, else brought before the program starts and written back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from jobsphere.domain.attempt import Ended, EndReason, Mount, S3Mode, S3Mount
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.job import Phase
from jobsphere.runner.bench import Bench, StepError, StoppedError
from jobsphere.runner.image_pull import Unseal, engine_environment
from jobsphere.runner.mounts import end_mounts
from jobsphere.runner.named_container import owner_of
from jobsphere.runner.rundir import OUTBOX
from jobsphere.runner.s3_mount import CannotMountError, MountedBucket

_MODULE, _VARIABLE = "jobsphere.runner.s3_transfer", "JOBSPHERE_S3"


class Buckets:
    """The buckets of one attempt's plan."""

    def __init__(self, bench: Bench, unseal: Unseal) -> None:
        self._bench = bench
        self._unseal = unseal
        self._mounted: dict[str, MountedBucket] = {}

    def open(self) -> Sequence[Mount]:
        """Bring what is in each bucket, or mount it; the mounts.

        Raises:
            StepError: a bucket cannot be read (its own words), or is to be mounted and cannot be.
            StoppedError: a stop was asked for.
        """
        for mount in self._bench.plan.s3_mounts:
            self._open(mount)
        return [bucket.mount for bucket in self._mounted.values()]

    def settle(self, ended: Ended) -> Ended:
        """Once no process of the program is left: the end that the attempt has, with what it wrote in the buckets.

        What is mounted was written when it was closed, whatever the end. What is staged is written back now, if the
        program ended by itself.
        """
        for mount in self._bench.plan.s3_mounts:
            if bucket := self._mounted.pop(mount.connector_id, None):
                ended = self._unmount(mount, bucket, ended)
            elif ended.reason is EndReason.EXITED and not mount.read_only:
                ended = self._write_back(mount, ended)
        return ended

    def close(self) -> None:
        """Let go of all that is still mounted, and end all processes: the program did not end as it should."""
        self._bench.reaper.end_spared()
        self._bench.reaper.end_all()
        for problem in end_mounts(self._bench.run_directory.path):
            self._bench.log(problem)

    def _open(self, mount: S3Mount) -> None:
        mode, named = self._bench.plan.s3_mode, f"S3 connector {mount.name!r}"
        try:
            if mode is not S3Mode.STAGING:
                self._mount(mount)
                return
        except CannotMountError as error:
            if mode is S3Mode.FUSE:
                text = f"{named}: it is to be mounted (s3_mounts = 'fuse'), and cannot be: {error}"
                raise StepError(Phase.STAGE, text) from error
            self._bench.log(f"{named}: not mounted, for {error}; a copy is used instead")
        self._fetch(mount)

    def _mount(self, mount: S3Mount) -> None:
        bench = self._bench
        bench.step(f"Mounting the S3 connector {mount.name}", 8)
        self._look(mount)
        keys = self._keys(mount, Phase.STAGE)
        image = bench.plan.image
        owner = owner_of(image) if image else None
        bucket = MountedBucket(bench, mount, keys, os.geteuid() if owner is None else owner, lambda t: _masked(t, keys))
        self._mounted[mount.connector_id] = bucket
        kept = "to be read only" if mount.read_only else "files are written to it when they are closed"
        bench.log(f"S3 connector {mount.name!r}: the bucket {mount.bucket} is mounted by {bucket.program.name}; {kept}")

    def _look(self, mount: S3Mount) -> None:
        """Mount programs have no good words for a bucket that cannot be had, and take long to find them."""
        code, words = self._transfer(mount, "look", Phase.STAGE)
        if code:
            raise StepError(Phase.STAGE, f"S3 connector {mount.name!r}: {words}")

    def _fetch(self, mount: S3Mount) -> None:
        bench = self._bench
        bench.step(f"Staging the S3 connector {mount.name}", 8)
        os.makedirs(bench.run_directory.at(mount.location), exist_ok=True)
        code, words = self._transfer(mount, "fetch", Phase.STAGE)
        if code:
            raise StepError(Phase.STAGE, f"S3 connector {mount.name!r}: {words}")
        kept = "changes in it are not written back" if mount.read_only else "changes are written back at the end"
        bench.log(f"S3 connector {mount.name!r}: {words}; this is a copy, {kept}")

    def _unmount(self, mount: S3Mount, bucket: MountedBucket, ended: Ended) -> Ended:
        problem = bucket.unmount()
        if ended.reason is not EndReason.EXITED:
            return ended
        if mount.read_only:
            if problem:
                self._bench.log(f"S3 connector {mount.name!r}: {problem}")
            return ended
        return self._told(mount, "look", ended, "what it wrote may not be in the bucket", problem)

    def _write_back(self, mount: S3Mount, ended: Ended) -> Ended:
        return self._told(mount, "store", ended, "its changes are not in the bucket")

    def _told(self, mount: S3Mount, verb: str, ended: Ended, lost: str, problem: str = "") -> Ended:
        """The end, by what the bucket says now, or by a ``problem`` that is known already."""
        bench = self._bench
        try:
            code, words = (1, problem) if problem else self._transfer(mount, verb, Phase.OUTPUTS)
        except StoppedError:
            text = f"Stopped while the changes of the S3 connector {mount.name!r} were being written back"
            bench.log(text)
            return Ended(datetime.now(UTC), EndReason.STOPPED, ended.code, Phase.OUTPUTS, text)
        except StepError as error:
            code, words = 1, str(error)
        if code:
            text = f"The program returned code {ended.code}, but {lost}. S3 connector {mount.name!r}: {words}"
            bench.log(text)
            return Ended(datetime.now(UTC), EndReason.FAILED, None, Phase.OUTPUTS, text)
        bench.log(f"S3 connector {mount.name!r}: {words}")
        return ended

    def _keys(self, mount: S3Mount, phase: Phase) -> tuple[str, str]:
        sealed = mount.access_key_sealed, mount.secret_key_sealed
        try:
            access, secret = (self._unseal(self._bench.plan.project_id, key) if key else "" for key in sealed)
        except JobsphereError as error:
            raise StepError(phase, f"S3 connector {mount.name!r}: {error.public}") from error
        return access, secret

    def _transfer(self, mount: S3Mount, verb: str, phase: Phase) -> tuple[int, str]:
        """Run the transfer in a process of its own, which a stop ends at once: its code and its last line."""
        bench, keys = self._bench, self._keys(mount, phase)
        bucket = {"name": mount.bucket, "endpoint": mount.endpoint, "region": mount.region, "prefix": mount.prefix}
        bucket |= {"access_key": keys[0], "secret_key": keys[1]}
        lines: list[str] = []
        folder = bench.run_directory.at(mount.location)
        manifest = bench.run_directory.at(OUTBOX, f"s3-{mount.connector_id}.json")
        argv = [sys.executable, "-I", "-m", _MODULE, verb, folder, manifest]
        environment = engine_environment() | {_VARIABLE: json.dumps(bucket)}
        code = bench.run(argv, environment, lambda line: lines.append(_masked(line, keys)))
        for line in lines[:-1]:
            bench.log(line)
        return code, lines[-1] if lines else f"the transfer ended with code {code} and without a word"


def _masked(text: str, keys: Sequence[str]) -> str:
    for key in filter(None, keys):
        text = text.replace(key, "*****")
    return text
