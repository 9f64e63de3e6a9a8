"""``jobsphere token``: long-lived tokens of users and service accounts; works whether the server runs or not."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.accounts import Account, Credential

app = App(name="token", help="Long-lived tokens of users and service accounts: create, list, revoke.")


@app.command
def create(
    user: str,
    *,
    name: str = "default",
    days: int = 90,
    data_dir: DataDir = None,
    json_: Annotated[Json, Parameter(name="--json")] = False,
) -> None:
    """Create a token and print it: this once, since only its hash is kept.

    The vendor's client takes it by `-t` (it exchanges it for a short-lived one) or as the variable YC_IAM_TOKEN.

    Parameters
    ----------
    user
        The name or id of a user or service account.
    name
        By which you know it again; each of an account's tokens has its own.
    days
        How long it is good.
    data_dir
        The data directory of the server.
    json_
        Print the token with its id and its end as JSON.
    """
    from jobsphere.wiring import desk

    life = timedelta(days=days)
    credential, text = asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere token create",
            [("account", user), ("name", name)],
            lambda d, who: d.accounts.create_token(who, user, name, life),
        )
    )
    print(json.dumps({**_fields(credential), "token": text}, indent=2) if json_ else text)  # noqa: T201


@app.command(name="list")
def list_(
    user: str = "", *, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False
) -> None:
    """List tokens: their names and ends, never themselves.

    Parameters
    ----------
    user
        The name or id of a user or service account; all if none is named.
    data_dir
        The data directory of the server.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import desk

    found = asyncio.run(desk.read(data_dir_of(data_dir), lambda d, who: d.accounts.tokens(who, user)))
    show_all(found, _listed_fields, ("ID", "User", "Name", "Created at", "Ends (UTC)"), _row, as_json=json_)


@app.command
def revoke(token_id: str, *, data_dir: DataDir = None) -> None:
    """End a token and all short-lived ones made of it; a running server refuses them within a second.

    Parameters
    ----------
    token_id
        Its id, as `jobsphere token list` shows it.
    data_dir
        The data directory of the server.
    """
    from jobsphere.wiring import desk

    asyncio.run(
        desk.change(
            data_dir_of(data_dir),
            "jobsphere token revoke",
            [("token_id", token_id)],
            lambda d, who: d.accounts.revoke_token(who, token_id),
        )
    )


def _listed_fields(found: tuple[Credential, Account]) -> dict[str, str]:
    credential, account = found
    return {**_fields(credential), "account": account.name}


def _row(found: tuple[Credential, Account]) -> tuple[str, ...]:
    c, account = found
    return c.id, account.name, c.name, f"{c.created_at:%Y-%m-%d %H:%M}", f"{c.expires_at:%Y-%m-%d %H:%M}"


def _fields(credential: Credential) -> dict[str, str]:
    return {
        "id": credential.id,
        "account_id": credential.account_id,
        "name": credential.name,
        "created_at": credential.created_at.isoformat(),
        "expires_at": credential.expires_at.isoformat(),
    }
