"""How a job comes to its Spark: the words of the file that the vendor's SDK reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from jobsphere.domain.errors import InvalidArgumentError

CONNECTION_FILE = ".spark_connection_config.json"
"""The file in the working directory that ``datasphere.SDK().connect_to_spark()`` reads."""
CONNECTION_VARIABLE = "JOB_DATAPROC_CONNECTION_CONFIG"
"""The environment variable that says where the file is."""


class SparkMode(StrEnum):
    """What a job's session is: a client of a Spark Connect server, a driver of a cluster, or all in the job itself."""

    CONNECT = "SPARK_CONNECT"
    CONTEXT = "SPARK_CONTEXT"
    LOCAL = "SPARK_LOCAL"


@dataclass(frozen=True, slots=True)
class SparkConnection:
    """What an attempt gets: the connector with the values of its secret parameters, sealed until the program starts."""

    connector_id: str
    name: str
    mode: SparkMode
    master: str = ""
    params: tuple[tuple[str, str], ...] = ()
    sealed_params: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def connection_config(connection: SparkConnection, opened: Iterable[tuple[str, str]]) -> dict[str, object]:
    """What the file holds. ``opened``: the secret parameters with their values.

    In the mode SPARK_CONTEXT the SDK asks for the master ``yarn``, whatever the host; a parameter ``spark.master`` has
    the last word, so a cluster of Spark's own is reached by that.
    """
    host, params = connection.master or "localhost", {**dict(connection.params), **dict(opened)}
    if host.startswith("spark://"):
        params.setdefault("spark.master", host)
        host = host.removeprefix("spark://")
    return {"master_node_host": host, "connection_mode": connection.mode.value, "session_params": params}


def mode_named(text: str) -> SparkMode:
    """The mode of that word, with or without ``SPARK_``, in any case.

    Raises:
        InvalidArgumentError: it is none.
    """
    word = text.upper().removeprefix("SPARK_")
    if word not in SparkMode.__members__:
        raise InvalidArgumentError(f"mode: {text[:100]!r} is none of {', '.join(SparkMode)}")
    return SparkMode[word]
