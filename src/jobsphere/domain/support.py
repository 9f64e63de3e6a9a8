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
        (bool(spec.s3_mount_ids), "s3_mount_ids", "S3 connectors; pass the files as inputs"),
        (bool(spec.dataset_ids), "dataset_ids", "datasets; pass the files as inputs"),
        (bool(spec.output_datasets), "output_datasets", "output datasets; name the directory in outputs"),
        (spec.attach_project_disk, "attach_project_disk", "the project disk; pass the files as inputs"),
        (bool(spec.spark_connector_id), "spark_parameters", "Spark connectors"),
        (
            spec.env.docker_image_spec is not None and bool(spec.env.docker_image_spec.password_ds_secret_name),
            "env.docker_image_spec.password_ds_secret_name",
            "project secrets; give the password as password_plain_text: it is stored encrypted",
        ),
    )
    for asked, where, what in missing:
        if asked:
            raise UnsupportedError(f"{where}: this jobsphere server does not have {what}")
