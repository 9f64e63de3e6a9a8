"""The one process that carries one attempt through (stage, build, launch, collect) or closes a lost one's books."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from jobsphere.domain.attempt import Ended, EndReason
from jobsphere.domain.job import Phase
from jobsphere.domain.limits import human_size
from jobsphere.domain.ports import EnvironmentBuilder, EnvironmentBuildError
from jobsphere.runner import cgroups, sandbox
from jobsphere.runner.bench import Bench, StepError, StoppedError
from jobsphere.runner.bringing import Bring
from jobsphere.runner.build_fence import BuildBench
from jobsphere.runner.collecting import collect
from jobsphere.runner.confinement import Confinement, Unconfined
from jobsphere.runner.container import Container
from jobsphere.runner.datasets import make_dataset_folders
from jobsphere.runner.group import end_group, make_group
from jobsphere.runner.image_build import ImageBuild, end_build
from jobsphere.runner.image_pull import Image, Unseal, no_secrets, prepare_image
from jobsphere.runner.mounts import end_mounts
from jobsphere.runner.processes import become_subreaper, end_leftovers, set_process_name
from jobsphere.runner.program import Program
from jobsphere.runner.room import NoRoomError, blame, is_full
from jobsphere.runner.rundir import COLLECTED, CUT, EXIT, ROOT_DIRECTORIES, STARTED, RunDirectory
from jobsphere.runner.s3 import Buckets
from jobsphere.runner.secrets import open_secrets
from jobsphere.runner.spark import Connection, lost_connection, open_connection
from jobsphere.runner.staging import SetAside, Source, make_output_folders, stage_inputs
from jobsphere.runner.storage import moved_folders, open_storage, remove_job_folder

_KEPT_LOG_BYTES = 1 << 20
"""What is kept of the log of a job that has filled the disk."""


class Supervisor:
    """Carries attempts through, one in each process.

    Args:
        source: Where the bytes of ``(project_id, sha256)`` are on this host; raises NotFoundError.
        set_aside: Told of such bytes that are other ones than their hash says.
        bring: Sees to it first that they are on this host.
        builder: Makes the builder of environments; called only for a plan that has one.
        unseal: Opens the sealed secret of a project; raises JobsphereError.
        volume: The folder that extended working storage lies in.
    """

    def __init__(
        self,
        source: Source,
        builder: Callable[[], EnvironmentBuilder],
        unseal: Unseal = no_secrets,
        volume: str = "",
        set_aside: SetAside = lambda _, __: None,
        bring: Bring = lambda _: None,
    ) -> None:
        self._source = source
        self._set_aside = set_aside
        self._bring = bring
        self._builder = builder
        self._unseal = unseal
        self._volume = volume
        sandbox.warm()
        cgroups.find()

    def carry(self, path: str) -> None:
        """Carry the attempt of the run directory ``path`` to its ``collected`` record.

        The program is started by the first supervisor that gets so far, and by no other, ever: one that finds the
        attempt claimed kills what may be left of it, writes down that it was lost, and collects what is there. One that
        finds another alive leaves.
        """
        run = RunDirectory(path)
        lock = run.lock()
        if lock is None:
            return
        try:
            if not run.has(COLLECTED):
                self._carry(run)
        finally:
            os.close(lock)
            _settle()

    def _carry(self, run: RunDirectory) -> None:
        plan = run.plan()
        set_process_name(f"js-{plan.attempt_id[-12:]}")
        become_subreaper()
        bench = Bench(run, plan)
        try:
            ended = run.read(EXIT, Ended)
            if ended is None:
                ended = self._attempt(bench) if run.claim() else _lost(bench)
                run.record(EXIT, ended)
            run.record(
                COLLECTED, collect(bench, ended, _confinement(bench, None).seen_as, moved_folders(bench, self._volume))
            )
        finally:
            bench.close()

    def _attempt(self, bench: Bench) -> Ended:
        """From the inputs to the end of the program; no process or mount of it is left then, whatever went wrong."""
        phase, buckets = bench.enter(Phase.STAGE), Buckets(bench, self._unseal)
        try:
            bench.check()
            open_storage(bench, self._volume)
            self._bring(bench)
            stage_inputs(bench, self._source, self._set_aside)
            make_output_folders(bench)
            make_dataset_folders(bench)
            bench.plan = replace(bench.plan, mounts=(*bench.plan.mounts, *buckets.open()))
            phase = bench.enter(Phase.IMAGE)
            image = prepare_image(bench, self._unseal)
            phase = bench.enter(Phase.ENVIRONMENT)
            prefix = self._prefix(bench, image)
            bench.check()
            secrets, connection = open_secrets(bench, self._unseal), open_connection(bench, self._unseal)
            phase = bench.enter(Phase.RUN)
            if bench.plan.sandbox is None and image is None:
                bench.log("No sandbox: nothing keeps this program from what the server's user can read and change")
            fence, group = _confinement(bench, prefix, image, connection), make_group(bench)
            ended = Program(bench, prefix, fence, group, secrets, connection.hidden).finish()
            ended = buckets.settle(ended)
            if is_full(bench.run_directory.path):  # its outputs would keep the server from writing down its end
                blame(bench.run_directory.path)
        except StoppedError:
            bench.log("Stopped before the program was started")
            ended = Ended(datetime.now(UTC), EndReason.STOPPED, None, phase, "Stopped before the program was started")
        except StepError as error:
            ended = _failed(bench, error.phase, str(error))
        except EnvironmentBuildError as error:
            ended = _failed(bench, Phase.ENVIRONMENT, str(error))
        except NoRoomError as error:
            bench.reaper.end_all()
            _remove_files(bench.run_directory)
            _cut_log(bench)
            ended = _failed(bench, phase, str(error))
        except OSError as error:
            ended = _failed(bench, phase, _words(error))
        finally:
            buckets.close()
        return replace(ended, entered=tuple(bench.entered))

    def _prefix(self, bench: Bench, image: Image | None) -> str | None:
        environment, image_plan = bench.plan.environment, bench.plan.image
        if environment is None:
            return None
        begin = time.monotonic()
        bench.step("Preparing the environment", 10)
        inside = ImageBuild(bench, image_plan, image) if image_plan and image else None
        fence = bench.plan.sandbox
        workbench = BuildBench(bench, [_data(bench), self._volume, *fence.hidden]) if fence else bench
        built = self._builder().ensure(environment, workbench, inside)
        how = "found in the cache" if built.hit else "built"
        bench.log(f"Environment {how} in {time.monotonic() - begin:.3f} s: {built.prefix}")
        return str(built.prefix)


def _confinement(
    bench: Bench, prefix: str | None, image: Image | None = None, connection: Connection | None = None
) -> Confinement:
    path, plan = bench.run_directory.path, bench.plan.sandbox
    if bench.plan.image is not None:
        return Container(path, bench.plan, bench.plan.image, image, prefix)
    files = (connection or lost_connection(bench)).files
    if plan is None:
        return Unconfined(path, files)
    gpus, mounts = bench.plan.limits.gpus if bench.plan.limits else None, bench.plan.mounts
    return sandbox.Sandbox(path, plan, _data(bench), prefix, gpus, mounts=mounts, files=files)


def _data(bench: Bench) -> str:
    return os.path.dirname(os.path.dirname(bench.run_directory.path))


def _settle() -> None:
    """Let builders come to their end: what they have built may still be on its way to the disk."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()


def _remove_files(run: RunDirectory) -> None:
    for name in ROOT_DIRECTORIES:
        remove_job_folder(run.at(name))


def _cut_log(bench: Bench) -> None:
    size = bench.logs.size
    if size > _KEPT_LOG_BYTES:
        bench.run_directory.write(CUT, size)
        bench.logs.cut(_KEPT_LOG_BYTES)
        bench.log(f"The log was cut here: it had {human_size(size)}")


def _failed(bench: Bench, phase: Phase, message: str) -> Ended:
    bench.run_directory.free_reserve()
    bench.log(message)
    return Ended(datetime.now(UTC), EndReason.FAILED, None, phase, message)


def _lost(bench: Bench) -> Ended:
    run = bench.run_directory
    run.free_reserve()
    end_group(run)
    bench.reaper.end_all()
    _confinement(bench, None).end()
    if bench.plan.image is not None and bench.plan.environment is not None:
        end_build(run.path, bench.plan, bench.plan.image)
    left, problems = end_leftovers(bench.mark), end_mounts(run.path)
    if run.claimed_in_this_boot() is False:
        cause = "the machine was restarted"
    else:
        cause = "the supervisor of the job was killed (out of memory, by somebody, or by a disk that failed it)"
    state = "while the program was running" if run.has(STARTED) else "before the program was started"
    message = f"The job was lost: {cause} {state}. It is not started again by itself; create it anew."
    for line in (*problems, message):
        bench.log(line)
    if left:
        bench.log(f"Killed {left} processes that were left of it")
    return Ended(datetime.now(UTC), EndReason.LOST, None, Phase.MACHINE, message)


def _words(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{what}: {os.path.basename(str(error.filename))}" if error.filename else what
