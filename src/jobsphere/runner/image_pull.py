"""The image of an attempt, brought to this host before the program starts: a step of its own, live in the log."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from jobsphere.domain.attempt import ContainerEngine, EngineKind, ImagePlan
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.image import registry
from jobsphere.domain.job import Phase
from jobsphere.runner.archive import remove_tree
from jobsphere.runner.bench import Bench, StepError
from jobsphere.runner.image_records import Claim, Version

Unseal = Callable[[str, str], str]
"""Opens the sealed secret of ``(project_id, sealed)``; raises JobsphereError."""
LOGIN_FOLDER = "login"
"""In the run directory, while a pull with a login is under way and never longer."""
_TIMED_OUT, _KILL_AFTER_S = 124, 5
_LAST_LINES = 5
_POLL_S = 0.1
_MARK = "image="
_DOCKER_HUB = "https://index.docker.io/v1/"
_CAUSES = (
    (
        "unauthori[sz]ed|authentication required|access denied|access to the resource is denied|forbidden",
        "the registry does not accept the login, or asks for one",
        "Mend username and password of the image in the job's config.",
    ),
    (
        "manifest unknown|name unknown|not found|does not exist|repository name not known",
        "the registry has no such image",
        "Mend the name and the tag of the image in the job's config.",
    ),
    (
        "dial tcp|no such host|connection refused|i/o timeout|unreachable|no route|tls:|x509|reset by peer",
        "the registry cannot be reached",
        "Check the registry's name and the server's network, then create the job again.",
    ),
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is on this host: its id (64 hex digits), the environment variables that it sets, and its size."""

    id: str
    environment: dict[str, str] = field(default_factory=dict[str, str])
    size_bytes: int = 0


def no_secrets(_: str, __: str) -> str:
    """For a node that was given no way to open secrets."""
    raise JobsphereError("this node opens no secrets")


def engine_environment() -> dict[str, str]:
    """What the engine's own program runs with: the server's surroundings without its settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JOBSPHERE_")}


def client(engine: ContainerEngine, *argv: str) -> list[str]:
    """A call of the engine."""
    return [engine.program, *engine.args, *argv]


def prepare_image(bench: Bench, unseal: Unseal) -> Image | None:
    """See to it that the plan's image is here, and stays until this process ends; None if the plan has none.

    Raises:
        StepError: it cannot be had; the registry's own words and the next step.
        StoppedError: a stop was asked for; nothing of the pull is left running.
    """
    plan = bench.plan.image
    if plan is None:
        return None
    begin = time.monotonic()
    bench.step(f"Preparing the image {plan.reference}", 5)
    claim = Claim(os.path.dirname(os.path.dirname(bench.run_directory.path)), plan.engine, plan.reference)
    claim.hold(lambda: bench.pause(_POLL_S))
    image = None if plan.pull_always and "@" not in plan.reference else _inspect(bench, plan)
    how = "found on this host"
    if image is None:
        how = "pulled"
        with claim.pulling(lambda: bench.pause(_POLL_S)):
            image = _bring(bench, plan, unseal, claim)
    else:
        claim.used()
    if image is None:
        raise StepError(Phase.IMAGE, f"The image {plan.reference} was pulled and is gone again; create the job again")
    bench.log(f"Image {how} in {time.monotonic() - begin:.3f} s: {plan.reference} ({image.id[:12]})")
    return image


def _inspect(bench: Bench, plan: ImagePlan) -> Image | None:
    lines: list[str] = []
    asked = ["image", "inspect", "--format", _MARK + "{{.Id}} {{.Size}} {{json .Config.Env}}", plan.reference]
    bench.run(client(plan.engine, *asked), engine_environment(), lines.append)
    told = next((line for line in lines if line.startswith(_MARK)), None)
    if told is None:
        return None
    image_id, size, variables = told.removeprefix(_MARK).split(" ", 2)
    pairs = (entry.partition("=") for entry in cast("list[str] | None", json.loads(variables)) or ())
    return Image(image_id.removeprefix("sha256:"), {name: value for name, _, value in pairs}, int(size))


def _bring(bench: Bench, plan: ImagePlan, unseal: Unseal, claim: Claim) -> Image | None:
    """Pull it, and note that it is ours; a reference that a user brought to this host stays theirs."""
    ours = claim.is_ours() or not plan.pull_always or _inspect(bench, plan) is None
    if ours:
        claim.begin()
    _pull(bench, plan, unseal)
    image = _inspect(bench, plan)
    if ours and image is not None:
        claim.brought(Version(image.id, image.size_bytes))
    return image


def _pull(bench: Bench, plan: ImagePlan, unseal: Unseal) -> None:
    bench.step(f"Pulling the image {plan.reference}", 5)
    bench.log(f"Pulling the image {plan.reference} with {plan.engine.kind}")
    password = _password(bench, plan, unseal)
    lines: list[str] = []

    def on_line(line: str) -> None:
        shown = line.replace(password, "*****") if password else line
        lines.append(shown)
        bench.log(shown)

    with _login(bench.run_directory.at(LOGIN_FOLDER), plan, password) as folder:
        argv = ["timeout", "--kill-after", str(_KILL_AFTER_S), f"{plan.pull_timeout_s:.3f}", *_argv(plan, folder)]
        code = bench.run(argv, engine_environment(), on_line)
    if code:
        raise StepError(Phase.IMAGE, _why(plan, code, [line for line in lines if line.strip()]))


def _argv(plan: ImagePlan, login: str | None) -> list[str]:
    engine = plan.engine
    if engine.kind is EngineKind.DOCKER:
        return [engine.program, *engine.args, *(("--config", login) if login else ()), "pull", plan.reference]
    options = ("--authfile", os.path.join(login, "config.json")) if login else ()
    return [engine.program, *engine.args, "pull", *options, f"docker://{plan.reference}"]


def _password(bench: Bench, plan: ImagePlan, unseal: Unseal) -> str:
    if not plan.password_sealed:
        return ""
    try:
        return unseal(bench.plan.project_id, plan.password_sealed)
    except JobsphereError as error:
        raise StepError(Phase.IMAGE, error.public) from error


@contextmanager
def _login(folder: str, plan: ImagePlan, password: str) -> Generator[str | None]:
    """A folder with the login for this one pull, readable by its owner only; None if there is none."""
    if not password:
        yield None
        return
    host = registry(plan.reference)
    login = {"auth": base64.b64encode(f"{plan.username}:{password}".encode()).decode()}
    names = (host, _DOCKER_HUB) if host == "docker.io" else (host,)
    os.mkdir(folder, 0o700)
    try:
        fd = os.open(os.path.join(folder, "config.json"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            json.dump({"auths": dict.fromkeys(names, login)}, file)
        yield folder
    finally:
        remove_tree(folder)


def _why(plan: ImagePlan, code: int, lines: Sequence[str]) -> str:
    what = f"The image {plan.reference} cannot be pulled"
    if code == _TIMED_OUT:
        longer = f"it took longer than {plan.pull_timeout_s:g} s"
        return f"{what}: {longer}. Raise image_pull_timeout_s on the server, or try again."
    told = "\n".join(lines[-_LAST_LINES:]) or f"{plan.engine.kind} ended with code {code} and without a word"
    for pattern, cause, next_step in _CAUSES:
        if re.search(pattern, told, re.IGNORECASE):
            return f"{what}: {cause}.\n{told}\n{next_step}"
    return f"{what}.\n{told}\nMend the image in the job's config, or ask the server's operator."
