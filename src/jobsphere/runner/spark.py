"""The file by which a program finds its Spark, made when it starts: values of secrets are in it."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, field

from jobsphere.domain.command import WORK
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.job import Phase
from jobsphere.domain.spark import SPARK_FILE, SparkPlan
from jobsphere.runner.bench import Bench, StepError
from jobsphere.runner.confinement import PrivateFile
from jobsphere.runner.image_pull import Unseal

CONNECTION = posixpath.join(WORK, SPARK_FILE)
"""Where the file is, relative to the job's root."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What an attempt has of a Spark. ``hidden``: the secrets in ``files``, as they are and as JSON spells them."""

    files: tuple[PrivateFile, ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)


def open_connection(bench: Bench, unseal: Unseal) -> Connection:
    """The connection of the plan's Spark; an empty one if it has none.

    Raises:
        StepError: a secret cannot be opened; its parameter is named.
    """
    spark = bench.plan.spark
    if spark is None:
        return Connection()
    opened = {name: _open(bench, unseal, spark, name, sealed) for name, sealed in spark.sealed_params}
    config = {
        "master_node_host": spark.host,
        "connection_mode": spark.mode.value,
        "session_params": {**dict(spark.params), **opened},
    }
    hidden = tuple(text for value in opened.values() for text in (value, json.dumps(value)[1:-1]))
    bench.log(f"Spark connector {spark.name!r} ({spark.mode}): its connection file is {SPARK_FILE}")
    return Connection((PrivateFile(CONNECTION, json.dumps(config)),), hidden)


def lost_connection(bench: Bench) -> Connection:
    """What may be left of it of an attempt whose supervisor is gone: without its text."""
    return Connection((PrivateFile(CONNECTION, ""),)) if bench.plan.spark else Connection()


def _open(bench: Bench, unseal: Unseal, spark: SparkPlan, name: str, sealed: str) -> str:
    try:
        return unseal(bench.plan.project_id, sealed)
    except JobsphereError as error:
        raise StepError(Phase.ENVIRONMENT, f"Spark connector {spark.name!r}: {name}: {error.public}") from error
