"""The connection file of an attempt with a Spark connector: made just before the program starts, for it alone."""

from __future__ import annotations

import json
import os

from jobsphere.domain.command import WORK
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.job import Phase
from jobsphere.domain.spark import CONNECTION_FILE, SparkMode, connection_config
from jobsphere.runner.bench import Bench, StepError
from jobsphere.runner.image_pull import Unseal


def write_connection(bench: Bench, unseal: Unseal) -> tuple[str, ...]:
    """Put the file into the working directory; the values of its secret parameters.

    Raises:
        StepError: one of them cannot be opened; it is named.
    """
    plan, spark = bench.plan, bench.plan.spark
    if spark is None:
        return ()
    opened: list[tuple[str, str]] = []
    for name, sealed in spark.sealed_params:
        try:
            opened.append((name, unseal(plan.project_id, sealed)))
        except JobsphereError as error:
            text = f"Spark connector {spark.name!r}, parameter {name!r}: {error.public}"
            raise StepError(Phase.STAGE, text) from error
    path = bench.run_directory.at(WORK, CONNECTION_FILE)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        text = f"{CONNECTION_FILE!r} comes from an input, while it is the file of the Spark connector; leave it out"
        raise StepError(Phase.STAGE, text) from error
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(connection_config(spark, opened), file)
    bench.log(f"Spark connector {spark.name!r}: {spark.mode}{f' at {spark.master}' if spark.master else ''}")
    if spark.mode is not SparkMode.LOCAL and plan.sandbox is not None and not plan.sandbox.network:
        bench.log("This server gives jobs no network: the program will not reach that Spark")
    return tuple(value for _, value in opened)
