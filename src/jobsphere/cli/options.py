"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

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
