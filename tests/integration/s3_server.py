"""An S3 service on loopback that checks signatures, with a bucket and a user of its own."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

BUCKET = "team-data"
_MAY_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'

_MAY_READ = _MAY_ALL.replace('"s3:*"', '["s3:Get*", "s3:List*", "s3:Head*"]')


class Gate:
    """What objects pass on their way in."""

    def __init__(self) -> None:
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


def _guarded(app: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    """Signatures are of a query whose every byte is quoted, however it was sent: moto takes it as it was sent."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "PUT":
            gate.pass_through()
        pairs = (pair.partition("=") for pair in environ["QUERY_STRING"].split("&"))
        environ["QUERY_STRING"] = "&".join(
            f"{quote(unquote(k), safe='')}{equals}{quote(unquote(v), safe='')}" for k, equals, v in pairs
        )
        return app(environ, start_response)

    return answer


@contextmanager
def s3_service() -> Iterator[Service]:
    gate = Gate()
    app = _guarded(DomainDispatcherApplication(create_backend_app), gate)
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
