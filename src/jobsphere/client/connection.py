"""Where the server is and who asks: from the arguments, else the environment, else the server on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError
from jobsphere.serverfile import default_data_dir, running_server

ENDPOINT, TOKEN, PROJECT, DATA_DIR = "JOBSPHERE_ENDPOINT", "YC_IAM_TOKEN", "JOBSPHERE_PROJECT", "JOBSPHERE_DATA_DIR"
CA_FILE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
_SERVICES = (
    "yandex.cloud.datasphere.v2.jobs.ProjectJobService",
    "yandex.cloud.datasphere.v2.ProjectService",
    "yandex.cloud.datasphere.v2.CommunityService",
    "yandex.cloud.operation.OperationService",
)


@dataclass(frozen=True, slots=True)
class Connection:
    """All that a client needs to know of a server.

    Args:
        endpoint: ``HOST:PORT`` of its API.
        ca: The certificate authority, PEM; None for those that the system trusts.
        token: What the client authenticates with; empty where the server asks for none.
        project: The id of the project; empty for the only one that the caller may see.
    """

    endpoint: str
    ca: bytes | None = None
    token: str = field(default="", repr=False)
    project: str = ""

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel to the endpoint."""
        return grpc.ssl_channel_credentials(self.ca)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """For each call."""
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    @property
    def options(self) -> list[tuple[str, str | int]]:
        """Of a channel: a call is repeated while the server is away, and goes to it by no proxy."""
        retry = {
            "maxAttempts": 5,
            "initialBackoff": "0.2s",
            "maxBackoff": "5s",
            "backoffMultiplier": 2.0,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config = {"methodConfig": [{"name": [{"service": name} for name in _SERVICES], "retryPolicy": retry}]}
        return [("grpc.enable_http_proxy", 0), ("grpc.service_config", json.dumps(config))]


def find_connection(
    endpoint: str | None = None,
    *,
    project: str | None = None,
    token: str | None = None,
    ca_file: Path | str | None = None,
    data_dir: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Connection:
    """The connection that the arguments name; what they leave out, the environment and this machine tell.

    Raises:
        FailedPreconditionError: no endpoint is named, and no server runs on this machine.
        InvalidArgumentError: the file of the certificate authority cannot be read.
    """
    known = os.environ if environ is None else environ
    endpoint = endpoint or ("" if data_dir else known.get(ENDPOINT, ""))
    ca_file = ca_file or ("" if data_dir else known.get(CA_FILE, ""))
    first = ""
    if not endpoint:
        folder = Path(data_dir or known.get(DATA_DIR) or default_data_dir()).expanduser()
        try:
            info = running_server(folder)
        except FailedPreconditionError as error:
            raise FailedPreconditionError(f"{error.public}; or set {ENDPOINT}=HOST:PORT for one elsewhere") from error
        endpoint, ca_file = f"{info.host}:{info.grpc_port}", ca_file or folder / "tls" / "ca.pem"
        first = info.project_id
    try:
        ca = Path(ca_file).read_bytes() if ca_file else None
    except OSError as error:
        raise InvalidArgumentError(f"the certificate authority cannot be read: {error}") from error
    return Connection(
        endpoint,
        ca,
        known.get(TOKEN, "") if token is None else token,
        project or known.get(PROJECT) or first,
    )
