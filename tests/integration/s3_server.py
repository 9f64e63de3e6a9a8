"""An S3 service on loopback that checks signatures, with a bucket and a user of its own."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "team-data"
_MAY_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


@dataclass
class Service:
    """Where it is, and the keys of a user who may do all with buckets."""

    url: str
    access_key: str
    secret_key: str
    _client: Any

    def put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=body)

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
def s3_service() -> Iterator[Service]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        iam = _client("iam", url, "setup", "setup")
        iam.create_user(UserName="ann")
        iam.put_user_policy(UserName="ann", PolicyName="all", PolicyDocument=_MAY_ALL)
        keys = iam.create_access_key(UserName="ann")["AccessKey"]
        access_key, secret_key = keys["AccessKeyId"], keys["SecretAccessKey"]
        _post(f"{url}/moto-api/reset-auth", b"0")  # from now on every request needs a good signature
        client = _client("s3", url, access_key, secret_key)
        client.create_bucket(Bucket=BUCKET)
        yield Service(url, access_key, secret_key, client)
    finally:
        _post(f"{url}/moto-api/reset-auth", b"inf")
        _post(f"{url}/moto-api/reset", b"")
        server.stop()
