"""Images on this host: which engine runs them, which have an id, and what a job's plan says of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobsphere.domain.attempt import ContainerEngine, EngineKind, ImagePlan
from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from jobsphere.domain.image import complete, has_image
from jobsphere.domain.job import JobSpec

_PATIENCE_S = 30
_HOW_TO = "install one (Debian: apt-get install podman), or set container_engine"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the operator has set; see :class:`jobsphere.config.Settings`."""

    engine: str = "auto"
    args: tuple[str, ...] = ()
    run_args: tuple[str, ...] = ()
    pull_always: bool = False
    pull_timeout_s: float = 1800.0
    network: bool = True


class EngineImages:
    """The :class:`jobsphere.domain.ports.Images` of this host.

    Args:
        known: Image references by id.
        settings: Which engine, and how.
        seal: Encrypts a secret of a project.
    """

    def __init__(self, known: Mapping[str, str], settings: EngineSettings, seal: Callable[[str, str], str]) -> None:
        self._known = known
        self._settings = settings
        self._seal = seal
        self._engine: ContainerEngine | None = None
        self._looking = asyncio.Lock()

    async def accept(self, project_id: str, spec: JobSpec) -> JobSpec:
        """See :meth:`jobsphere.domain.ports.Images.accept`."""
        if not has_image(spec):
            return spec
        name, image = spec.env.docker_image_resource_id, spec.env.docker_image_spec
        if name and name not in self._known:
            known = ", ".join(sorted(self._known)) or "none; the operator adds them under [images] in jobsphere.toml"
            by_url = "; an image by URL is written as docker: {image: URL}" if "/" in name or ":" in name else ""
            raise InvalidArgumentError(
                f"docker_image_resource_id: there is no image {name[:200]!r}; there are: {known}{by_url}"
            )
        await self._find()
        if image is None or not image.password_plain_text:
            return spec
        sealed = self._seal(project_id, image.password_plain_text)
        image = replace(image, password_plain_text="", password_sealed=sealed)
        return replace(spec, env=replace(spec.env, docker_image_spec=image))

    async def plan(self, project_id: str, spec: JobSpec) -> ImagePlan | None:  # noqa: ARG002
        """See :meth:`jobsphere.domain.ports.Images.plan`."""
        if not has_image(spec):
            return None
        image = spec.env.docker_image_spec
        reference = complete(image.image_url if image else self._known.get(spec.env.docker_image_resource_id, ""))
        if reference is None:
            raise FailedPreconditionError(f"there is no image {spec.env.docker_image_resource_id!r} any more")
        try:
            engine = await self._find()
        except FailedPreconditionError as error:
            raise UnavailableError(error.public) from error
        settings = self._settings
        plan = ImagePlan(
            reference,
            engine,
            pull_always=settings.pull_always,
            pull_timeout_s=settings.pull_timeout_s,
            network=settings.network,
        )
        if image is None:
            return plan
        return replace(plan, username=image.username, password_sealed=image.password_sealed)

    async def _find(self) -> ContainerEngine:
        """The engine; one that works is remembered, so that one that is installed later is found."""
        async with self._looking:
            if self._engine is None:
                self._engine = await asyncio.to_thread(find_engine, self._settings)
            return self._engine


def find_engine(settings: EngineSettings) -> ContainerEngine:
    """The first engine that works.

    Raises:
        FailedPreconditionError: there is none; why, and what to do.
    """
    if settings.engine == "none":
        raise FailedPreconditionError("this server runs no Docker images: its operator has set container_engine = none")
    kinds = tuple(EngineKind) if settings.engine == "auto" else (EngineKind(settings.engine),)
    reasons: list[str] = []
    for kind in kinds:
        program = shutil.which(kind)
        if program is None:
            reasons.append(f"{kind} is not installed")
            continue
        info, reason = _ask(kind, [program, *settings.args, "info", "--format", "{{json .}}"])
        if not reason:
            own_users = _has_own_users(kind, info)
            if kind is EngineKind.PODMAN and not own_users:
                _open_plain_store(info.get("store") or {})
            return ContainerEngine(kind, program, settings.args, settings.run_args, own_users)
        reasons.append(f"{kind} does not work ({reason})")
    raise FailedPreconditionError(
        f"Docker images need a container engine on this server, and there is none: {'; '.join(reasons)}; {_HOW_TO}"
    )


def _ask(kind: EngineKind, argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What the engine says of itself, or why it does not."""
    try:
        told = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, cwd="/")
        info: dict[str, Any] = json.loads(told.stdout or "{}")
    except subprocess.TimeoutExpired:
        return {}, f"no answer in {_PATIENCE_S} s"
    except ValueError:
        return {}, "its answer is no JSON"
    broken = told.returncode != 0 or (kind is EngineKind.DOCKER and info.get("ServerErrors"))
    last = told.stderr.strip().splitlines() or [f"exit code {told.returncode}"]
    return info, last[-1] if broken else ""


def _open_plain_store(store: Mapping[str, Any]) -> None:
    """Let containers with users of their own pass through the folders of podman's ``vfs`` store.

    Podman gives these folders, closed to others, to whoever came last: any call of it meanwhile locks a starting
    container out of its own file system. Its ``overlay`` store has them open for passing already.
    """
    if store.get("graphDriverName") != "vfs":
        return
    top = Path(store["graphRoot"], "vfs")
    for folder in (top, top / "dir"):
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.chmod(0o711)


def _has_own_users(kind: EngineKind, info: Mapping[str, Any]) -> bool:
    if kind is EngineKind.DOCKER:
        options = " ".join(info.get("SecurityOptions") or ())
        return "rootless" in options
    return os.geteuid() != 0
