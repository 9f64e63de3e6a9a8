"""What this version does not do yet, said at Create: nothing that a job asks for is silently left out."""

from __future__ import annotations

from jobsphere.domain.errors import UnsupportedError
from jobsphere.domain.image import has_image
from jobsphere.domain.job import JobSpec, PythonEnv


def check_supported(spec: JobSpec) -> None:
    """Refuse what no part of this server brings.

    Raises:
        UnsupportedError: naming the first field of the spec that cannot be honoured, and what can be used instead.
    """
    missing: tuple[tuple[bool, str, str], ...] = (
        (
            spec.working_storage is not None,
            "extended_working_storage",
            "a volume for it; leave the section out to work on the server's own disk",
        ),
        (bool(spec.spark_connector_id), "spark_parameters", "Spark connectors"),
        (
            has_image(spec) and _packages(spec.env.python_env),
            "env.python_env",
            "Python environments inside Docker images; bring the packages in the image (local modules work)",
        ),
    )
    for asked, where, what in missing:
        if asked:
            raise UnsupportedError(f"{where}: this jobsphere server does not have {what}")


def _packages(env: PythonEnv | None) -> bool:
    """Whether anything is to be installed."""
    return env is not None and bool(env.requirements or env.conda_yaml.strip() or env.python_version)
