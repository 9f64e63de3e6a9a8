"""Python environments: what the user wrote, made canonical, and the fingerprint that two equal ones share.

What a ``conda_yaml`` adds is read in :mod:`jobsphere.domain.conda`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from jobsphere.domain.conda import CondaPackages
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import PythonEnv

# A requirement is a name, extras, versions and a marker: nothing that names a file, a URL, an option or a variable, for
# the server would read it with its own rights. Blanks are single when it is matched.
_VERSION = r"(?:===|~=|[<>=!]=|[<>]) ?[A-Za-z0-9._*+!-]+"
_VERSIONS = rf"{_VERSION}(?: ?, ?{_VERSION})* ?,?"
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    r" ?(?:\[[A-Za-z0-9._ ,-]*\])?"
    rf" ?(?:{_VERSIONS}|\( ?{_VERSIONS} ?\))?"
    r" ?(?:;[A-Za-z0-9._ <>=!~()'\"*+,-]+)?"
)
_ARCHIVE = re.compile(r".*\.(?:whl|egg|zip|tgz|txz|tbz|tar(?:\.[a-z0-9]+)?)(?: ?[\[;].*)?", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_INDEX_URL = re.compile(r"https?://[^\s/?#,][^\s,]*", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?")
_OPTION_NAME = re.compile(r"--[A-Za-z-]*|-[A-Za-z]?")


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    """A canonical environment: one interpreter (``major.minor``) and the packages to install into it.

    With ``conda`` the prefix and its interpreter come from conda packages, and ``requirements`` go into it as well.
    Index URLs may carry credentials: they are handed to the installer by environment variables and masked in its log.
    """

    python_version: str
    requirements: tuple[str, ...] = ()
    index_url: str = field(default="", repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    trusted_hosts: tuple[str, ...] = ()
    no_deps: bool = False
    conda: CondaPackages | None = None

    @property
    def asks_for_anything(self) -> bool:
        """Whether it names an interpreter or a package; an image's own Python does for one that does not."""
        return bool(self.python_version or self.requirements or self.conda)

    def fingerprint(self, platform: str) -> str:
        """64 hex digits that are equal for equal environments on equal ``platform`` strings."""
        text = json.dumps({"platform": platform, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def canonical(env: PythonEnv, conda: CondaPackages | None = None) -> PythonEnvironment:
    """Read the requirement lines (specifiers and the pip options among them) and the options into one value.

    ``conda``: what ``env.conda_yaml`` was read to. The lines of its ``pip:`` section come before those of ``env``.

    Raises:
        InvalidArgumentError: a line is an option other than ``--no-deps``, ``--extra-index-url``, ``--trusted-host``,
            ``--index-url``, or an option lacks its value; a requirement is a path or a URL; an index is no http(s) URL.
    """
    options = env.pip_options
    index_url = options.index_url if options else ""
    extra = list(options.extra_index_urls) if options else []
    hosts = list(options.trusted_hosts) if options else []
    no_deps = options.no_deps if options else False
    requirements: set[str] = set()
    for raw in (*(conda.pip if conda else ()), *env.requirements):
        line = _COMMENT.sub("", raw.strip()).strip()
        if not line:
            continue
        if not line.startswith("-"):
            requirements.add(_requirement(line))
            continue
        option, value = _option(line)
        match option:
            case "--no-deps" if not value:
                no_deps = True
            case "--extra-index-url" if value:
                extra.append(value)
            case "--trusted-host" if value:
                hosts.append(value)
            case "--index-url" if value:
                index_url = value
            case _:
                raise InvalidArgumentError(
                    f"requirements: the option {option!r} is not supported; use package specifiers, --no-deps, "
                    "--index-url URL, --extra-index-url URL or --trusted-host HOST"
                )
    _check_indexes([index_url, *extra], hosts)
    return PythonEnvironment(
        python_version=env.python_version if conda is None else "",
        requirements=tuple(sorted(requirements)),
        index_url=index_url,
        extra_index_urls=tuple(dict.fromkeys(extra)),
        trusted_hosts=tuple(dict.fromkeys(hosts)),
        no_deps=no_deps,
        conda=conda.without_pip(env.python_version, bool(requirements)) if conda else None,
    )


def _requirement(line: str) -> str:
    """The line with its blanks made single. Its text is shown only if it cannot hold a credential."""
    line = " ".join(line.split())
    if not _REQUIREMENT.fullmatch(line) or _ARCHIVE.fullmatch(line):
        shown = "a line with a URL" if "//" in line or "@" in line else repr(line[:200])
        raise InvalidArgumentError(
            f"requirements: {shown} is not a package with versions, e.g. numpy>=1.26,<3; "
            "paths and URLs are not supported: publish the package to an index, or pass it as a local module"
        )
    return line


def _check_indexes(urls: Iterable[str], hosts: Iterable[str]) -> None:
    """URLs are never shown: they may carry credentials."""
    if not all(_INDEX_URL.fullmatch(url) for url in urls if url):
        raise InvalidArgumentError("requirements: an index must be given by an http:// or https:// URL")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise InvalidArgumentError("requirements: a trusted host must be given as HOST or HOST:PORT")


def _option(line: str) -> tuple[str, str]:
    """Split ``--name value``, ``--name=value`` and ``-n value``. The name never holds a part of a value."""
    name = _OPTION_NAME.match(line)
    head = name.group() if name else ""
    return head, line[len(head) :].removeprefix("=").strip()
