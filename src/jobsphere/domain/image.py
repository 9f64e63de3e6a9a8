"""References to container images: what may be written, and the one complete spelling of each."""

from __future__ import annotations

import re

from jobsphere.domain.job import JobSpec

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST}(?::[0-9]{{1,5}})?)/)?(?P<name>{_PART}(?:/{_PART})*)"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_DOCKER_HUB = "docker.io"
MAX_CHARS = 1024


def has_image(spec: JobSpec) -> bool:
    """Whether the job runs in an image."""
    return spec.env.docker_image_spec is not None or bool(spec.env.docker_image_resource_id)


def complete(text: str) -> str | None:
    """``python`` is ``docker.io/library/python:latest``; None for what is no reference.

    Complete references never read as one of the engines' transports (``dir:``, ``oci-archive:``), which name files of
    the node.
    """
    match = _REFERENCE.fullmatch(text) if len(text) <= MAX_CHARS else None
    if match is None:
        return None
    host, name, tag, digest = match.group("host", "name", "tag", "digest")
    if host and not (any(c in host for c in ".:[") or host == "localhost"):
        if host != host.lower():
            return None
        host, name = None, f"{host}/{name}"
    if host is None:
        host = _DOCKER_HUB
        name = name if "/" in name else f"library/{name}"
    # With a digest the tag says nothing, and engines refuse to be told both.
    return f"{host}/{name}" + (digest or tag or ":latest")


def registry(reference: str) -> str:
    """The registry of a complete reference."""
    return reference.partition("/")[0]
