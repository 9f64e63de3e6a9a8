"""The local certificate authority."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from cryptography import x509

from jobsphere.api.tls import (
    SERVER_HOSTS,
    SERVER_LIFE,
    TlsFiles,
    ensure_certificates,
    issue_host_certificate,
    key_and_chain,
)

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def names(pem: bytes) -> set[str]:
    extension = certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(n.value) for n in extension.value}


def contents(files: TlsFiles) -> tuple[bytes, bytes, bytes]:
    return files.ca_pem.read_bytes(), files.ca_key.read_bytes(), files.server_pem.read_bytes()


def test_the_server_is_signed_by_the_authority_for_all_hosts(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "tls", ["gpu-box.example", "10.0.0.7"], NOW)
    server = certificate(files.server_pem.read_bytes())
    server.verify_directly_issued_by(certificate(files.ca_pem.read_bytes()))
    assert names(files.server_pem.read_bytes()) == {*SERVER_HOSTS, "gpu-box.example", "10.0.0.7"}
    assert server.not_valid_after_utc - server.not_valid_before_utc <= SERVER_LIFE


def test_the_public_file_holds_no_key(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, now=NOW)
    assert b"PRIVATE" not in files.ca_pem.read_bytes()
    assert b"PRIVATE" not in key_and_chain(files.server_pem.read_bytes())[1]
    assert files.ca_key.stat().st_mode & 0o777 == files.server_pem.stat().st_mode & 0o777 == 0o600


def test_nothing_changes_while_all_is_good(tmp_path: Path) -> None:
    first = contents(ensure_certificates(tmp_path, now=NOW))
    assert contents(ensure_certificates(tmp_path, now=NOW + timedelta(days=360))) == first


def test_the_server_is_renewed_in_its_last_month_and_the_authority_stays(tmp_path: Path) -> None:
    first = contents(ensure_certificates(tmp_path, now=NOW))
    second = contents(ensure_certificates(tmp_path, now=NOW + timedelta(days=368)))
    assert second[:2] == first[:2]
    assert second[2] != first[2]


def test_a_new_host_name_renews_the_server(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, now=NOW)
    files = ensure_certificates(tmp_path, ["other.example"], NOW)
    assert "other.example" in names(files.server_pem.read_bytes())


def test_an_authority_at_its_end_is_replaced_with_its_server(tmp_path: Path) -> None:
    first = contents(ensure_certificates(tmp_path, now=NOW))
    files = ensure_certificates(tmp_path, now=NOW + timedelta(days=3640))
    assert files.ca_pem.read_bytes() != first[0]
    certificate(files.server_pem.read_bytes()).verify_directly_issued_by(certificate(files.ca_pem.read_bytes()))


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_server_certificate_is_replaced(tmp_path: Path, damage: bytes) -> None:
    files = ensure_certificates(tmp_path, now=NOW)
    files.server_pem.write_bytes(damage)
    ensure_certificates(tmp_path, now=NOW)
    assert names(files.server_pem.read_bytes()) == set(SERVER_HOSTS)


def test_a_damaged_authority_is_never_replaced_silently(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, now=NOW)
    files.ca_key.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"."):
        ensure_certificates(tmp_path, now=NOW)
    assert files.ca_key.read_bytes() == b"junk"


def test_a_lost_public_file_comes_back(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, now=NOW)
    public = files.ca_pem.read_bytes()
    files.ca_pem.unlink()
    ensure_certificates(tmp_path, now=NOW)
    assert files.ca_pem.read_bytes() == public


def test_a_server_of_another_authority_is_replaced(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, now=NOW)
    files.ca_key.unlink()
    ensure_certificates(tmp_path, now=NOW)
    certificate(files.server_pem.read_bytes()).verify_directly_issued_by(certificate(files.ca_pem.read_bytes()))


def test_first_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    def start(together: Barrier) -> tuple[bytes, bytes, bytes]:
        together.wait()
        return contents(ensure_certificates(tmp_path, (), NOW))

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(start, [Barrier(8)] * 8))
    assert len(set(made)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "ca-key.pem", "ca.pem", "server.pem"]


@pytest.mark.parametrize("host", ["pypi.example", "192.0.2.1"])
def test_a_host_certificate_passes_strict_checks(tmp_path: Path, host: str) -> None:
    files = ensure_certificates(tmp_path)
    pem = issue_host_certificate(files, host)
    (tmp_path / "host.pem").write_bytes(pem)
    assert shake_hands(tmp_path / "host.pem", files.ca_pem, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "host.pem", files.ca_pem, "other.example")


def shake_hands(server_pem: Path, ca_pem: Path, host: str) -> bool:
    """A whole handshake in memory, with the client's checks as strict as they get."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(server_pem)
    client_context = ssl.create_default_context(cafile=str(ca_pem))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(up, down, server_side=True)
    client = client_context.wrap_bio(down, up, server_hostname=host)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version() is not None


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, now=NOW)
    with pytest.raises(ValueError, match=r"."):
        issue_host_certificate(files, "ü.example")
