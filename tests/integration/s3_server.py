"""An S3 service on loopback that checks signatures, with a bucket and a user of its own."""

from __future__ import annotations

import hashlib
import hmac
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

BUCKET = "team-data"
_MAY_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'

_MAY_READ = _MAY_ALL.replace('"s3:*"', '["s3:Get*", "s3:List*", "s3:Head*"]')


class Gate:
    """What objects pass on their way in. ``away``: the service answers nothing that is of use."""

    def __init__(self) -> None:
        self.away = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self.waiting = threading.Event()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.waiting.set()
            self._open.wait()


@dataclass
class Service:
    """Where it is, and the keys of a user who may do all with buckets."""

    url: str
    access_key: str
    secret_key: str
    _client: Any
    gate: Gate

    def put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def forbid_writing(self) -> None:
        with _unguarded(self.url):
            _client("iam", self.url, "setup", "setup").put_user_policy(
                UserName="ann", PolicyName="all", PolicyDocument=_MAY_READ
            )

    def remove_bucket(self) -> None:
        for key in self.objects():
            self._client.delete_object(Bucket=BUCKET, Key=key)
        self._client.delete_bucket(Bucket=BUCKET)

    def objects(self) -> dict[str, bytes]:
        listed = self._client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {o["Key"]: self._client.get_object(Bucket=BUCKET, Key=o["Key"])["Body"].read() for o in listed}


def _client(kind: str, url: str, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        kind, endpoint_url=url, region_name="us-east-1", aws_access_key_id=access_key, aws_secret_access_key=secret_key
    )


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream"}, method="POST")
    with urllib.request.urlopen(request, timeout=30):
        pass


@contextmanager
def _unguarded(url: str) -> Iterator[None]:
    """Meanwhile no request needs a signature; from then on every one does."""
    _post(f"{url}/moto-api/reset-auth", b"inf")
    yield
    _post(f"{url}/moto-api/reset-auth", b"0")


def _guarded(app: Callable[..., Any], gate: Gate, keys: dict[str, str]) -> Callable[..., Any]:
    """Signatures are of a query whose every byte is quoted, however it was sent: moto takes it as it was sent.

    Those in a URL it cannot check at all: they are checked here, and such a request goes on with one in a header.
    """

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if gate.away.is_set():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        if environ["REQUEST_METHOD"] == "PUT":
            gate.pass_through()
        pairs = [pair.partition("=")[::2] for pair in environ["QUERY_STRING"].split("&") if pair]
        query = {unquote(name): unquote(value) for name, value in pairs}
        if "X-Amz-Signature" in query:
            if why := _forged(environ, query, keys):
                start_response("403 Forbidden", [("Content-Length", str(len(why)))])
                return [why.encode()]
            query = _sign(environ, query, keys)
            environ["CONTENT_TYPE"] = "application/octet-stream"  # moto takes what some clients say for a form
        environ["QUERY_STRING"] = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query.items())
        return app(environ, start_response)

    return answer


def _forged(environ: dict[str, Any], query: dict[str, str], keys: dict[str, str]) -> str:
    """Why a signed URL is none: the signature of AWS, version 4, in a query."""
    given = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
    key, day, region, service, kind = given["X-Amz-Credential"].split("/")
    began = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if datetime.now(UTC) > began + timedelta(seconds=int(given["X-Amz-Expires"])):
        return "Request has expired"
    if given["X-Amz-SignedHeaders"] != "host" or "HTTP_TRANSFER_ENCODING" in environ:
        return "what clients send has no other header that could be signed, and a length"
    text = "&".join(f"{_quoted(n)}={_quoted(v)}" for n, v in sorted(given.items()))
    path, host = environ["RAW_URI"].partition("?")[0], environ["HTTP_HOST"]
    canonical = "\n".join([environ["REQUEST_METHOD"], path, text, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"])
    scope = "/".join([day, region, service, kind])
    to_sign = "\n".join([given["X-Amz-Algorithm"], given["X-Amz-Date"], scope, _hex(canonical)])
    secret = f"AWS4{keys.get(key, '')}".encode()
    for part in (day, region, service, kind):
        secret = hmac.digest(secret, part.encode(), "sha256")
    right = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    return "" if key in keys and hmac.compare_digest(right, query["X-Amz-Signature"]) else "SignatureDoesNotMatch"


def _sign(environ: dict[str, Any], query: dict[str, str], keys: dict[str, str]) -> dict[str, str]:
    key = query["X-Amz-Credential"].partition("/")[0]
    left = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
    request = AWSRequest(
        environ["REQUEST_METHOD"],
        f"http://{environ['HTTP_HOST']}{environ['RAW_URI'].partition('?')[0]}",
        headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"},
        params=left,
    )
    request.context["payload_signing_enabled"] = False
    S3SigV4Auth(Credentials(key, keys[key]), "s3", "us-east-1").add_auth(request)
    for name, value in request.headers.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return left


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


@contextmanager
def s3_service() -> Iterator[Service]:
    gate = Gate()
    known: dict[str, str] = {}
    app = _guarded(DomainDispatcherApplication(create_backend_app), gate, known)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with _unguarded(url):
            iam = _client("iam", url, "setup", "setup")
            iam.create_user(UserName="ann")
            iam.put_user_policy(UserName="ann", PolicyName="all", PolicyDocument=_MAY_ALL)
            keys = iam.create_access_key(UserName="ann")["AccessKey"]
        access_key, secret_key = keys["AccessKeyId"], keys["SecretAccessKey"]
        known[access_key] = secret_key
        client = _client("s3", url, access_key, secret_key)
        client.create_bucket(Bucket=BUCKET)
        yield Service(url, access_key, secret_key, client, gate)
    finally:
        gate.open()
        _post(f"{url}/moto-api/reset-auth", b"inf")
        _post(f"{url}/moto-api/reset", b"")
        server.shutdown()
        serving.join()
        server.server_close()
