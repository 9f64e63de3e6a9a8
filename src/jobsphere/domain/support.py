"""What this version does not do yet, said at Create: nothing that a job asks for is silently left out."""

from __future__ import annotations

from jobsphere.domain.errors import UnsupportedError
from jobsphere.domain.job import JobSpec


def check_supported(spec: JobSpec) -> None:
    """Refuse what no part of this server brings.

    Raises:
        UnsupportedError: naming the first field of the spec that cannot be honoured, and what can be used instead.
    """
    missing: tuple[tuple[bool, str, str], ...] = (
        (bool(spec.spark_connector_id), "spark_parameters", "Spark connectors"),
    )
    for asked, where, what in missing:
        if asked:
            raise UnsupportedError(f"{where}: this jobsphere server does not have {what}")
