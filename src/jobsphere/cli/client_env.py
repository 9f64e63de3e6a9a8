"""``jobsphere client-env``: what makes the vendor's unchanged client talk to this server."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.serverfile import ServerInfo, running_server

_TOKEN_LIFE = timedelta(days=7)


def client_env(
    *,
    data_dir: DataDir = None,
    offline: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Print the exports that make the vendor's CLI and SDK talk to the running server.

    Use it as `eval "$(jobsphere client-env)"`. It also sets JOBSPHERE_PROJECT to the default project's id. It copes
    with a `no_proxy` and `http_proxy` of your own: what they said for other hosts stays.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    offline
        Also answer the client's question for its newest version, for hosts without a package index. While it is set,
        other programs of the shell that use HTTPS proxies are refused.
    json_
        Print one JSON object instead of shell commands.
    """
    from jobsphere.wiring import desk, keys

    folder = data_dir_of(data_dir)
    info = running_server(folder)
    project_id = asyncio.run(desk.default_project_id(folder))
    token = keys.issue_token(folder, _TOKEN_LIFE)
    values = exports(info, keys.ca_file(folder), token, project_id, offline, os.environ)
    if json_:
        print(json.dumps(values, indent=2))  # noqa: T201
        return
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")  # noqa: T201


def exports(
    info: ServerInfo, ca: Path, token: str, project_id: str, offline: bool, environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables, by name.

    Args:
        info: Where the server listens.
        ca: The local certificate authority.
        token: What the client authenticates with.
        project_id: The default project.
        offline: Whether to answer for the package index too.
        environ: The user's environment: what it says about proxies for other hosts is kept.
    """
    direct = _with_hosts(environ.get("no_proxy") or environ.get("NO_PROXY") or "", info.host)
    values = {
        "grpc_proxy": f"http://{info.host}:{info.proxy_port}",
        # Set to anything, it keeps gRPC from reading no_proxy, which may name the vendor's domain.
        "no_grpc_proxy": info.host,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ca),
        "YC_IAM_TOKEN": token,
        "no_proxy": direct,
        "NO_PROXY": direct,
        "JOBSPHERE_ENDPOINT": f"{info.host}:{info.grpc_port}",
        "JOBSPHERE_PROJECT": project_id,
    }
    if offline:
        from jobsphere.api.proxy import offline_proxy_url

        through = offline_proxy_url(info.host, info.proxy_port)
        values |= {"HTTPS_PROXY": through, "https_proxy": through, "REQUESTS_CA_BUNDLE": str(ca)}
    return values


def _with_hosts(no_proxy: str, *hosts: str) -> str:
    named = [h.strip() for h in no_proxy.split(",") if h.strip()]
    return ",".join(dict.fromkeys([*named, *hosts]))
