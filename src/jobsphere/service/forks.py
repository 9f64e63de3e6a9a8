"""Forks: a new spec from an old one and what the caller changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import EnvironmentSpec, JobSpec

T = TypeVar("T")


def merge(source: JobSpec, overrides: JobSpec) -> JobSpec:
    """The spec of a fork. What ``overrides`` leaves empty stays as it is in ``source``.

    Inputs and outputs are replaced by their variable, arguments by their name; environment variables as a whole.

    Raises:
        InvalidArgumentError: an override for a variable or argument that the source does not have.
    """
    return replace(
        source,
        cmd=overrides.cmd or source.cmd,
        input_files=_by_key(source.input_files, overrides.input_files, lambda f: f.desc.var, "input_files"),
        output_files=_by_key(source.output_files, overrides.output_files, lambda d: d.var, "output_files"),
        arguments=_by_key(source.arguments, overrides.arguments, lambda a: a.name, "arguments"),
        s3_mount_ids=overrides.s3_mount_ids or source.s3_mount_ids,
        dataset_ids=overrides.dataset_ids or source.dataset_ids,
        env=_merge_env(source.env, overrides.env),
        attach_project_disk=source.attach_project_disk or overrides.attach_project_disk,
        instance_types=overrides.instance_types or source.instance_types,
        working_storage=overrides.working_storage or source.working_storage,
        output_datasets=overrides.output_datasets or source.output_datasets,
        graceful_shutdown=overrides.graceful_shutdown or source.graceful_shutdown,
        spark_connector_id=overrides.spark_connector_id or source.spark_connector_id,
    )


def _merge_env(source: EnvironmentSpec, overrides: EnvironmentSpec) -> EnvironmentSpec:
    image = overrides if overrides.docker_image_resource_id or overrides.docker_image_spec else source
    return EnvironmentSpec(
        vars=overrides.vars or source.vars,
        docker_image_resource_id=image.docker_image_resource_id,
        docker_image_spec=image.docker_image_spec,
        python_env=overrides.python_env or source.python_env,
    )


def _by_key(source: Sequence[T], overrides: Iterable[T], key: Callable[[T], str], where: str) -> tuple[T, ...]:
    new = {key(item): item for item in overrides}
    known = {key(item) for item in source if key(item)}
    for name in new:
        if name not in known:
            raise InvalidArgumentError(f"{where}: the source job has nothing named {name!r} to override")
    return tuple(new.get(key(item), item) for item in source)
