"""Signed URLs: what was granted opens, and nothing else does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.domain.errors import PermissionDeniedError
from jobsphere.domain.ports import BlobGrant

KEY = bytes(range(32))
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
GRANT = BlobGrant("PUT", "p" * 20, "a" * 64, 5, NOW + timedelta(hours=1), "name.txt")


class StoppedClock:
    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def signer(at: datetime = NOW, key: bytes = KEY) -> HmacUrlSigner:
    return HmacUrlSigner(key, "http://127.0.0.1:8080/", StoppedClock(at))


def parts(url: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(url)
    return split.path, {k: v[0] for k, v in parse_qs(split.query, keep_blank_values=True).items()}


@given(
    st.builds(
        BlobGrant,
        st.sampled_from(["PUT", "GET"]),
        st.from_regex(r"[0-9a-z]{20}", fullmatch=True),
        st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        st.integers(0, 1 << 40),
        st.integers(1, 10**9).map(lambda s: NOW + timedelta(seconds=s)),
        st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_a_grant_comes_back_as_it_was(grant: BlobGrant) -> None:
    assert signer().verify(grant.method, *parts(signer().sign(grant))) == grant


def test_the_url_is_absolute_and_below_the_base() -> None:
    assert signer().sign(GRANT).startswith(f"http://127.0.0.1:8080/v1/blobs/{'p' * 20}/{'a' * 64}?")


@pytest.mark.parametrize(
    "changed",
    [
        {"size": "6"},
        {"expires": str(int(NOW.timestamp()) + 7201)},
        {"name": "other.txt"},
        {"name": ""},
        {"method": "GET"},
        {"signature": "0" * 64},
        {"signature": ""},
        {"signature": "é"},
        {"size": "-5"},
        {"size": "\u0665"},
        {"expires": "9" * 18},
        {"expires": "soon"},
    ],
)
def test_a_changed_query_opens_nothing(changed: dict[str, str]) -> None:
    path, query = parts(signer().sign(GRANT))
    for method in ("PUT", "GET"):
        with pytest.raises(PermissionDeniedError, match="not made by this server"):
            signer().verify(method, path, query | changed)


@pytest.mark.parametrize("name", ["signature", "size", "expires", "method", "name"])
def test_a_query_with_a_part_missing_opens_nothing(name: str) -> None:
    path, query = parts(signer().sign(GRANT))
    del query[name]
    with pytest.raises(PermissionDeniedError):
        signer().verify("PUT", path, query)


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/blobs/{'q' * 20}/{'a' * 64}",
        f"/v1/blobs/{'p' * 20}/{'b' * 64}",
        f"/v1/blobs/../{'a' * 64}",
        f"/v1/blobs/{'p' * 20}/{'a' * 64}/",
        f"/v1/blobs/{'p' * 20}/{'a' * 64}\n",
        "/",
    ],
)
def test_a_signature_opens_no_other_path(path: str) -> None:
    with pytest.raises(PermissionDeniedError):
        signer().verify("PUT", path, parts(signer().sign(GRANT))[1])


def test_a_url_is_for_its_method_only() -> None:
    with pytest.raises(PermissionDeniedError, match="for PUT only"):
        signer().verify("GET", *parts(signer().sign(GRANT)))


def test_a_url_opens_until_it_expires() -> None:
    url = parts(signer().sign(GRANT))
    assert signer(GRANT.expires_at - timedelta(seconds=1)).verify("PUT", *url) == GRANT
    with pytest.raises(PermissionDeniedError, match="expired"):
        signer(GRANT.expires_at).verify("PUT", *url)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(PermissionDeniedError):
        signer(key=b"k" * 32).verify("PUT", *parts(signer().sign(GRANT)))


def test_a_field_cannot_lend_its_end_to_the_next_one() -> None:
    moved = replace(GRANT, size_bytes=51, name="")
    assert (
        parts(signer().sign(moved))[1]["signature"]
        != parts(signer().sign(replace(moved, size_bytes=5)))[1]["signature"]
    )


def test_a_short_key_is_refused_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="32 bytes") as caught:
        HmacUrlSigner(b"short-key", "http://localhost", StoppedClock())
    assert "short-key" not in str(caught.value)
    assert "key" not in repr(signer()).lower().replace("hmacurlsigner", "")
