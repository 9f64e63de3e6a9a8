"""The parts of a server that its settings choose."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from jobsphere.config import Settings
from jobsphere.domain.access_ports import IdentityProvider
from jobsphere.domain.attempt import S3Mode, SandboxPlan
from jobsphere.domain.capacity import GIB
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.quota import Quota
from jobsphere.domain.tracing import UNTRACED, Tracer
from jobsphere.runner import fuse, sandbox
from jobsphere.runner.images import EngineImages, EngineSettings
from jobsphere.secretbox import Keys

log = structlog.get_logger()


def quota_of(settings: Settings) -> Quota:
    """What projects without a quota of their own may have."""
    size = None if settings.project_gb is None else int(settings.project_gb * GIB)
    return Quota(settings.project_jobs, size, settings.project_running, settings.project_queued)


def provider_of(settings: Settings) -> IdentityProvider | None:
    """Who verifies tokens of the OpenID provider, if one is set.

    Raises:
        FailedPreconditionError: it is not said for whom its tokens must be meant.
    """
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_audience:
        raise FailedPreconditionError(
            "setting oidc_audience: is empty; set it to the client id that oidc_issuer knows this server by"
        )
    from jobsphere.oidc import OidcProvider, OidcSettings

    return OidcProvider(OidcSettings(settings.oidc_issuer, settings.oidc_audience, settings.oidc_subject_claim))


def tracer_of(settings: Settings, closing: AsyncExitStack) -> Tracer:
    """Who records traces, if anybody is to. What is not sent yet goes when ``closing`` closes.

    Raises:
        FailedPreconditionError: the packages for that are not installed.
    """
    if not settings.traced:
        return UNTRACED
    try:
        from jobsphere.traces import OtelTracer, TraceSettings
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"setting traces: the package {error.name} is not installed; install jobsphere[otel], or set traces = false"
        ) from error
    tracer = OtelTracer(TraceSettings(settings.trace_endpoint, settings.trace_sampling))
    closing.callback(tracer.close)
    return tracer


def sandbox_of(settings: Settings) -> SandboxPlan | None:
    """The fence for jobs, as set and as this host can.

    Raises:
        FailedPreconditionError: a sandbox is required, and this host cannot make one.
    """
    if settings.sandbox == "none":
        return None
    for path in settings.sandbox_read_only:
        if not (path.startswith("/") and Path(path).exists()):
            raise FailedPreconditionError(f"setting sandbox_read_only: {path!r} is not an absolute path that exists")
        shown, ours = Path(path).resolve(), {settings.data_dir.resolve(), settings.shared.resolve()}
        if shown == Path("/") or any(shown.is_relative_to(folder) for folder in ours):
            raise FailedPreconditionError(
                f"setting sandbox_read_only: {path!r} is not for jobs to see; name folders outside of "
                + " and ".join(sorted(map(str, ours)))
            )
        if settings.working_storage and settings.working_storage.resolve().is_relative_to(shown):
            raise FailedPreconditionError(
                f"setting sandbox_read_only: {path!r} would show jobs each other's working_storage; name others"
            )
    reason = sandbox.why_not()
    if not reason:
        apart = settings.shared != settings.data_dir.expanduser().absolute()
        return SandboxPlan(settings.network, settings.sandbox_read_only, (str(settings.shared),) if apart else ())
    if settings.sandbox == "bubblewrap":
        raise FailedPreconditionError(f"jobs cannot be fenced in: {reason}; `--sandbox none` does without")
    log.warning(
        "JOBS ARE NOT FENCED IN: each can read and change all that this user can",
        reason=reason,
        to_accept_that="sandbox = 'none'",
    )
    return None


def s3_mode_of(settings: Settings) -> S3Mode:
    """How jobs get at buckets.

    Raises:
        FailedPreconditionError: it is to be by FUSE, and this host cannot mount any.
    """
    mode = S3Mode(settings.s3_mounts)
    if mode is S3Mode.FUSE and (reason := fuse.why_not()):
        raise FailedPreconditionError(f"setting s3_mounts: no bucket can be mounted: {reason}; 'auto' stages them then")
    return mode


def keys_of(settings: Settings) -> Keys:
    """The keys that seal secrets."""
    file = settings.secret_key_file
    return Keys(settings.shared, file.expanduser().absolute() if file else None, os.environ)


def images_of(settings: Settings, keys: Keys) -> EngineImages:
    """The images that jobs may run in: the engine is looked for when the first of them asks."""
    known = {name: setting.image for name, setting in settings.images.items()}
    how = EngineSettings(
        settings.container_engine,
        settings.container_engine_args,
        settings.container_run_args,
        settings.image_pull == "always",
        settings.image_pull_timeout_s,
        settings.network,
    )
    return EngineImages(known, how, keys.seal)


def storage_of(settings: Settings, data_dir: Path) -> Path:
    """The folder of jobs with extended working storage.

    Raises:
        FailedPreconditionError: the one that is set is not there: its volume may not be mounted.
    """
    if settings.working_storage is None:
        folder = data_dir / "storage"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
    if not settings.working_storage.is_dir():
        raise FailedPreconditionError(f"setting working_storage: there is no folder {str(settings.working_storage)!r}")
    return settings.working_storage.absolute()


def node_command(data_dir: Path, settings: Settings, volume: Path) -> list[str]:
    """The command of this node's spawner."""
    command = [sys.executable, "-I", "-m", "jobsphere.node", "--data-dir", str(data_dir)]
    command += ["--shared-dir", str(settings.shared)]
    command += ["--conda-channel-alias", settings.conda_channel_alias]
    command += ["--working-storage", str(volume)]
    for folder in settings.python_search_path:
        command += ["--python-search-path", folder]
    return command
