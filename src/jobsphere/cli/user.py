"""``jobsphere user``: who can call, besides the operator; works whether the server runs or not."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.accounts import Account, AccountKind

app = App(name="user", help="Users and service accounts: add, list, remove.")


@app.command
def add(
    name: str,
    *,
    service_account: Annotated[bool, Parameter(negative="")] = False,
    external_id: str = "",
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Add a user or a service account and print its id. It can do nothing yet: give it a role and a token.

    Parameters
    ----------
    name
        1 to 63 of a-z, A-Z, 0-9, -, _, . and @.
    service_account
        It stands for a program, not for a person.
    external_id
        What the OpenID provider of the server calls this user (by default the claim `sub`): its tokens are taken then.
    data_dir
        The data directory of the server.
    json_
        Print the whole account as JSON.
    """
    from jobsphere.wiring import desk

    kind = AccountKind.SERVICE_ACCOUNT if service_account else AccountKind.USER
    account = asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere user add",
            [("name", name), ("external_id", external_id)],
            lambda d, who: d.accounts.add(who, name, kind, external_id),
        )
    )
    print(json.dumps(_fields(account), indent=2) if json_ else account.id)  # noqa: T201


@app.command(name="list")
def list_(*, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False) -> None:
    """List all users and service accounts.

    Parameters
    ----------
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import desk

    found = asyncio.run(desk.read(data_dir_of(data_dir), lambda d, who: d.accounts.all(who)))
    show_all(found, _fields, ("ID", "Name", "Kind", "Created at", "External id"), _row, as_json=json_)


@app.command
def remove(user: str, *, data_dir: DataDir = None) -> None:
    """Remove a user or service account with its tokens and roles; a running server knows it within a second.

    What it made stays.

    Parameters
    ----------
    user
        Its name or id.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import desk

    asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere user remove",
            [("account", user)],
            lambda d, who: d.accounts.remove(who, user),
        )
    )


def _row(account: Account) -> tuple[str, ...]:
    made = f"{account.created_at:%Y-%m-%d %H:%M}"
    return account.id, account.name, account.kind.value, made, account.external_id


def _fields(account: Account) -> dict[str, str]:
    return {
        "id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "created_at": account.created_at.isoformat(),
        "created_by_id": account.created_by_id,
        "external_id": account.external_id,
    }
