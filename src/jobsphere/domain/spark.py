"""How a job finds a Spark: what a connector says of it, and what the vendor's ``SDK().connect_to_spark()`` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SPARK_FILE = ".spark_connection_config.json"
"""The connection file, in the working directory: an object with ``master_node_host``, ``connection_mode`` (see
:class:`SparkMode`) and ``session_params`` (text to text)."""
SPARK_VARIABLE = "JOB_DATAPROC_CONNECTION_CONFIG"
"""The environment variable that holds the file's path."""


class SparkMode(StrEnum):
    """What the client makes of the host; the value stands in the connection file."""

    CONNECT = "SPARK_CONNECT"
    """A Spark Connect server: ``sc://<host>``."""
    CONTEXT = "SPARK_CONTEXT"
    """A driver in the job, on a cluster: YARN's, or the one that the parameter ``spark.master`` names."""
    LOCAL = "SPARK_LOCAL"
    """All of it in the job."""


@dataclass(frozen=True, slots=True)
class SparkPlan:
    """The Spark of an attempt. ``sealed_params`` are more session parameters, each sealed until the program starts."""

    name: str
    mode: SparkMode
    host: str = ""
    params: tuple[tuple[str, str], ...] = ()
    sealed_params: tuple[tuple[str, str], ...] = field(default=(), repr=False)
