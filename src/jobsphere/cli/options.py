"""Options that several commands share."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jobsphere.domain.errors import InvalidArgumentError

DataDir = Annotated[
    Path | None,
    Parameter(help="Where everything lives. Default: JOBSPHERE_DATA_DIR, else ~/.local/share/jobsphere."),
]
ProjectId = Annotated[str, Parameter(help="The id of the project. Default: the first one.")]
Json = Annotated[bool, Parameter(negative="", help="Print JSON, for other programs to read.")]


def data_dir_of(data_dir: Path | None) -> Path:
    """The data directory that a command is about, absolute."""
    from jobsphere import config

    return config.load({"data_dir": data_dir}).data_dir.expanduser().absolute()


def hidden_value(what: str, file: Path | None) -> str:
    """A secret value: from the file if one is named, else a hidden prompt, or stdin where nobody can be asked.

    Raises:
        InvalidArgumentError: it cannot be read, or is no text.
    """
    if file is None and sys.stdin.isatty():
        return getpass.getpass(f"{what} (it is not shown): ")
    try:
        text = (file.read_bytes() if file else sys.stdin.buffer.read()).decode()
    except OSError as error:
        raise InvalidArgumentError(f"the value cannot be read: {error}") from error
    except UnicodeDecodeError:
        raise InvalidArgumentError("the value is no UTF-8 text; encode it, in base64 for example") from None
    return text.removesuffix("\n").removesuffix("\r")
