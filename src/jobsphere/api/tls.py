"""The local certificate authority and the certificates that it signs.

Clients are told to trust ``ca.pem`` and nothing else changes for them: the server shows a certificate for the vendor's
host names and for this machine. The authority's key never leaves its directory (mode 0600).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jobsphere.durable import Point, ensure_private, locked_file, write_private

SERVER_HOSTS = (
    "datasphere.api.cloud.yandex.net",
    "operation.api.cloud.yandex.net",
    "iam.api.cloud.yandex.net",
    "api.cloud.yandex.net",
    "*.api.cloud.yandex.net",
    "localhost",
    "127.0.0.1",
    "::1",
)
CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the PEM files are.

    ``ca_pem`` is public: what clients trust. ``ca_key`` and ``server_pem`` (key, then the chain of certificates) are
    readable by their owner only.
    """

    ca_pem: Path
    ca_key: Path
    server_pem: Path


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure_certificates(
    directory: Path, hosts: Sequence[str] = (), now: datetime | None = None, own: Path | None = None
) -> TlsFiles:
    """See to it that there are a good authority, shared by all servers, and this server's own good certificate.

    The authority is made once and kept for ten years. The server's certificate is made anew when less than 30 days of
    it are left, when it lacks one of the names, or when it is damaged. Each file appears complete or not at all; any
    number of processes may call this at the same moment.

    Args:
        directory: Made if it is not there.
        hosts: Host names and addresses to be named besides :data:`SERVER_HOSTS`.
        now: The present, for tests.
        own: Where this server's certificate is, beside a copy of ``ca.pem``; by default with the authority.

    Raises:
        OSError: a directory cannot be written.
        ValueError: the authority's own files are damaged, or one of ``hosts`` is no host name.
    """
    now, own = now or datetime.now(UTC), own or directory
    files = TlsFiles(directory / "ca.pem", directory / "ca-key.pem", own / "server.pem")
    for folder in (directory, own):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked_file(directory / ".lock"):
        authority = _ensure_authority(files, now)
        # Commands beside this server look for it by the data directory alone.
        _show(own / "ca.pem", authority)
        names = tuple(dict.fromkeys((*SERVER_HOSTS, *hosts)))
        if not _is_good(files.server_pem, authority, names, now):
            write_private(files.server_pem, _issue(authority, names, now), Point.TLS_FILE)
    return files


def ensure_authority(directory: Path, now: datetime | None = None) -> Path:
    """See to it that the directory holds a good authority, and nothing else: its ``ca.pem``.

    Raises:
        OSError, ValueError: as :func:`ensure_certificates`.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked_file(directory / ".lock"):
        files = TlsFiles(directory / "ca.pem", directory / "ca-key.pem", directory / "server.pem")
        _ensure_authority(files, now or datetime.now(UTC))
    return files.ca_pem


def issue_host_certificate(tls: TlsFiles, host: str, now: datetime | None = None) -> bytes:
    """A new key and certificate for one host, signed by the local authority: key, certificate, authority, as PEM.

    Raises:
        ValueError: ``host`` is no host name.
    """
    authority = _load_authority(tls)
    return _issue(authority, (host,), now or datetime.now(UTC))


def key_and_chain(pem: bytes) -> tuple[bytes, bytes]:
    """Divide the content of ``server_pem`` into the key and the chain of certificates."""
    start = pem.index(b"-----BEGIN CERTIFICATE-----")
    return pem[:start], pem[start:]


def _ensure_authority(files: TlsFiles, now: datetime) -> _Authority:
    # The key's file holds the certificate as well, so that a crash between two files cannot part them. The first one is
    # safe even between hosts whose locks do not reach each other.
    made = ensure_private(files.ca_key, lambda: _new_authority(now), Point.TLS_FILE)
    if not made and _expires_soon(_load_authority(files).certificate, now):
        write_private(files.ca_key, _new_authority(now), Point.TLS_FILE)
    authority = _load_authority(files)
    _show(files.ca_pem, authority)
    return authority


def _show(path: Path, authority: _Authority) -> None:
    """Have the public part there."""
    public = authority.certificate.public_bytes(serialization.Encoding.PEM)
    ensure_private(path, lambda: public, Point.TLS_FILE, mode=0o644)
    if path.read_bytes() != public:
        write_private(path, public, Point.TLS_FILE, mode=0o644)


def _load_authority(files: TlsFiles) -> _Authority:
    pem = files.ca_key.read_bytes()
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{files.ca_key}: is not the key of the local certificate authority")  # noqa: TRY004
    return _Authority(x509.load_pem_x509_certificate(pem), key)


def _expires_soon(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_after_utc - now < RENEW_BEFORE


def _is_good(path: Path, authority: _Authority, names: tuple[str, ...], now: datetime) -> bool:
    if not path.exists():
        return False
    try:
        pem = path.read_bytes()
        serialization.load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(authority.certificate)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is replaced
        return False
    return not _expires_soon(certificate, now) and set(map(_general_name, names)) == set(named)


def _new_authority(now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"jobsphere local CA {now:%Y-%m-%d}")])
    certificate = (
        _builder(name, name, key.public_key(), now, now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _issue(authority: _Authority, hosts: tuple[str, ...], now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jobsphere")])
    issuer = authority.certificate
    end = min(now - _CLOCK_SKEW + SERVER_LIFE, issuer.not_valid_after_utc)
    certificate = (
        _builder(name, issuer.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, hosts)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    chain = (certificate, issuer)
    return _key_pem(key) + b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(end)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
