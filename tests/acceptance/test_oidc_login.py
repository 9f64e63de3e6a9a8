"""A user of an OpenID provider on a team's server, through the vendor's client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from yandex.cloud.iam.v1.iam_token_service_pb2 import CreateIamTokenRequest
from yandex.cloud.iam.v1.iam_token_service_pb2_grpc import IamTokenServiceStub

from tests.acceptance.test_teams import Desk
from tests.live import live_server, wait_for

KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture
def issuer() -> Iterator[str]:
    """A provider with one key: its URL."""

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            public = {**json.loads(RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "k", "alg": "RS256"}
            found = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
                "/keys": {"keys": [public]},
            }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found[self.path]).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


def token_of(issuer: str, subject: str) -> str:
    claims = {"iss": issuer, "aud": "jobsphere", "sub": subject, "exp": int(time.time()) + 600}
    return jwt.encode(claims, KEY, "RS256", headers={"kid": "k"})


def test_a_user_of_an_openid_provider(issuer: str, tmp_path: Path) -> None:
    settings = {"JOBSPHERE_OIDC_ISSUER": issuer, "JOBSPHERE_OIDC_AUDIENCE": "jobsphere", "NO_PROXY": "127.0.0.1"}
    with live_server(tmp_path / "data", "--require-tokens", environ=settings) as server:
        desk = Desk(server)
        client = desk.client(token_of(issuer, "ann-1"))
        get = ("project", "get", "--id", client.project)
        assert "jobsphere user add NAME --external-id ann-1" in client.run(*get, cwd=tmp_path, code=1)
        desk("user", "add", "ann", "--external-id", "ann-1")
        desk("project", "grant", client.project, "ann", "viewer")
        wait_for(lambda: client.project in client.run(*get, cwd=tmp_path), "the user is known")

        ca = (server.data_dir / "tls" / "ca.pem").read_bytes()
        with grpc.secure_channel(f"127.0.0.1:{server.ports['grpc']}", grpc.ssl_channel_credentials(ca)) as channel:
            stub = IamTokenServiceStub(channel)
            short = stub.Create(CreateIamTokenRequest(jwt=token_of(issuer, "ann-1")), timeout=60)
            with pytest.raises(grpc.RpcError, match="is no user here"):
                stub.Create(CreateIamTokenRequest(jwt=token_of(issuer, "bob-1")), timeout=60)
        assert client.project in desk.client(short.iam_token).run(*get, cwd=tmp_path)
        (row, *_) = desk.json("audit", "--subject", "ann")
        assert (row["action"], row["result"]) == ("IamTokenService/Create", "OK")
