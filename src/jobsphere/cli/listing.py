"""How commands show what they have found: a table for people, JSON for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.table import Column

from jobsphere.domain.text import one_line

T = TypeVar("T")


def show_all(
    found: Sequence[T],
    fields: Callable[[T], Mapping[str, object]],
    columns: Sequence[Column | str],
    row: Callable[[T], Iterable[str]],
    *,
    as_json: bool,
    caption: str | None = None,
) -> None:
    """Print all that was found.

    Args:
        found: The things, in their order.
        fields: One of them for JSON.
        columns: The heads of the table.
        row: One of them for the table.
        as_json: Print a JSON array instead of the table.
        caption: What stands below the table.
    """
    if as_json:
        print(json.dumps([fields(one) for one in found], indent=2))  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, caption=caption)
    for one in found:
        # Text, for rich takes what is in brackets for markup.
        table.add_row(*(Text(one_line(cell)) for cell in row(one)))
    Console().print(table)
