"""Signed URLs: what one says was granted by this server, or it opens nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from jobsphere.domain.errors import PermissionDeniedError
from jobsphere.domain.ports import BlobGrant, Clock, UrlSigner

MIN_KEY_BYTES = 32
_PATH = re.compile(r"/v1/blobs/([^/]+)/([0-9a-f]{64})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_LAST = int(datetime.max.replace(tzinfo=UTC).timestamp())


class HmacUrlSigner:
    """The :class:`jobsphere.domain.ports.UrlSigner` whose URLs lead to this server.

    Args:
        key: 32 secret bytes or more. All servers behind one ``base_url`` share it; a new key ends all URLs.
        base_url: What clients reach the server by, e.g. ``http://127.0.0.1:8080``.
        clock: Decides what has expired.
    """

    def __init__(self, key: bytes, base_url: str, clock: Clock) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key for signing URLs must have {MIN_KEY_BYTES} bytes or more")
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._clock = clock

    def sign(self, grant: BlobGrant) -> str:
        """An absolute URL for one plain HTTP request. ``expires_at`` counts in whole seconds, rounded down."""
        query = {"method": grant.method, "size": grant.size_bytes, "expires": int(grant.expires_at.timestamp())}
        if grant.name:
            query["name"] = grant.name
        query["signature"] = self._signature(grant)
        path = f"/v1/blobs/{quote(grant.project_id, safe='')}/{grant.sha256}"
        return f"{self._base_url}{path}?{urlencode(query)}"

    def verify(self, method: str, path: str, query: Mapping[str, str]) -> BlobGrant:
        """The grant of a request, from its decoded path and query.

        Raises:
            PermissionDeniedError: forged, expired, or for another method.
        """
        grant = _read(path, query)
        # Bytes, because compare_digest refuses strings with other characters than ASCII.
        given = query.get("signature", "").encode("utf-8", "replace")
        if grant is None or not hmac.compare_digest(given, self._signature(grant).encode()):
            raise PermissionDeniedError("this URL was not made by this server; ask for a new one")
        if grant.method != method:
            raise PermissionDeniedError(f"this URL is for {grant.method} only")
        if self._clock.now() >= grant.expires_at:
            raise PermissionDeniedError("this URL has expired; ask for a new one")
        return grant

    def _signature(self, grant: BlobGrant) -> str:
        """Over all fields, each with its bounds: JSON keeps them apart whatever they hold."""
        fields = [
            grant.method,
            grant.project_id,
            grant.sha256,
            grant.size_bytes,
            int(grant.expires_at.timestamp()),
            grant.name,
        ]
        return hmac.new(self._key, json.dumps(fields).encode(), hashlib.sha256).hexdigest()


class ServerTransfers:
    """The :class:`jobsphere.domain.blob_ports.Transfers` of a server that takes blobs in itself."""

    def __init__(self, signer: UrlSigner) -> None:
        self._signer = signer

    async def urls(self, grants: Sequence[BlobGrant]) -> Sequence[str]:
        """URLs that lead to this server."""
        return [self._signer.sign(grant) for grant in grants]

    async def take_in(self, project_id: str, sizes: Mapping[str, int]) -> Mapping[str, str]:  # noqa: ARG002 - as the port has it
        """What has come is a blob already."""
        return dict.fromkeys(sizes, "")


def _read(path: str, query: Mapping[str, str]) -> BlobGrant | None:
    """What a URL claims; None if it is none of ours."""
    place = _PATH.fullmatch(path)
    size, expires = query.get("size", ""), query.get("expires", "")
    if place is None or not _NUMBER.fullmatch(size) or not _NUMBER.fullmatch(expires) or int(expires) > _LAST:
        return None
    return BlobGrant(
        method=query.get("method", ""),
        project_id=place[1],
        sha256=place[2],
        size_bytes=int(size),
        expires_at=datetime.fromtimestamp(int(expires), UTC),
        name=query.get("name", ""),
    )
