"""JobParameters and its parts: published messages to domain values and back, field by field."""

from __future__ import annotations

from collections.abc import Iterable

from yandex.cloud.datasphere.v2.jobs import jobs_pb2

from jobsphere.api.wire import duration, enum_name, enum_numbers, read_duration
from jobsphere.domain.artifact import Compression, File, FileDesc
from jobsphere.domain.job import (
    Argument,
    DockerImageSpec,
    EnvironmentSpec,
    GracefulShutdown,
    JobSpec,
    OutputDatasetDesc,
    PipOptions,
    PythonEnv,
    WorkingStorage,
)

_COMPRESSION = jobs_pb2.DESCRIPTOR.enum_types_by_name["FileCompressionType"]
_COMPRESSIONS = enum_numbers(_COMPRESSION)
_STORAGE_TYPE = jobs_pb2.ExtendedWorkingStorage.DESCRIPTOR.enum_types_by_name["StorageType"]
_STORAGE_TYPES = enum_numbers(_STORAGE_TYPE)


def decode_spec(message: jobs_pb2.JobParameters) -> JobSpec:
    """What the user asks for. Nothing is checked but what has no domain value.

    Raises:
        InvalidArgumentError: an enum value without a name, or a duration that is none.
    """
    has = message.HasField
    return JobSpec(
        cmd=message.cmd,
        input_files=decode_files(message.input_files),
        output_files=tuple(_decode_desc(d) for d in message.output_files),
        s3_mount_ids=tuple(message.s3_mount_ids),
        dataset_ids=tuple(message.dataset_ids),
        env=_decode_environment(message.env),
        attach_project_disk=message.attach_project_disk,
        instance_types=tuple(t.name for t in message.cloud_instance_types),
        working_storage=_decode_storage(message.extended_working_storage) if has("extended_working_storage") else None,
        arguments=tuple(Argument(a.name, a.value) for a in message.arguments),
        output_datasets=tuple(_decode_dataset_desc(d) for d in message.output_datasets),
        graceful_shutdown=(
            _decode_shutdown(message.graceful_shutdown_parameters) if has("graceful_shutdown_parameters") else None
        ),
        spark_connector_id=message.spark_parameters.connector_id,
    )


def decode_files(messages: Iterable[jobs_pb2.File]) -> tuple[File, ...]:
    """Files as the client names them.

    Raises:
        InvalidArgumentError: a compression type without a name.
    """
    return tuple(_decode_file(m) for m in messages)


def _decode_file(message: jobs_pb2.File) -> File:
    name = enum_name("compression_type", _COMPRESSION, message.compression_type)
    return File(_decode_desc(message.desc), message.sha256, message.size_bytes, Compression(name))


def _decode_desc(message: jobs_pb2.FileDesc) -> FileDesc:
    return FileDesc(message.path, message.var)


def _decode_environment(message: jobs_pb2.Environment) -> EnvironmentSpec:
    return EnvironmentSpec(
        # Maps have no order: sorting makes equal requests equal values.
        vars=tuple(sorted(message.vars.items())),
        docker_image_resource_id=message.docker_image_resource_id,
        docker_image_spec=_decode_image(message.docker_image_spec) if message.HasField("docker_image_spec") else None,
        python_env=_decode_python(message.python_env) if message.HasField("python_env") else None,
    )


def _decode_image(message: jobs_pb2.DockerImageSpec) -> DockerImageSpec:
    return DockerImageSpec(
        image_url=message.image_url,
        username=message.username,
        password_plain_text=message.password_plain_text,
        password_ds_secret_name=message.password_ds_secret_name,
    )


def _decode_python(message: jobs_pb2.PythonEnv) -> PythonEnv:
    return PythonEnv(
        conda_yaml=message.conda_yaml,
        local_modules=decode_files(message.local_modules),
        python_version=message.python_version,
        requirements=tuple(message.requirements),
        pip_options=_decode_pip(message.pip_options) if message.HasField("pip_options") else None,
    )


def _decode_pip(message: jobs_pb2.PipOptions) -> PipOptions:
    return PipOptions(
        index_url=message.index_url,
        extra_index_urls=tuple(message.extra_index_urls),
        trusted_hosts=tuple(message.trusted_hosts),
        no_deps=message.no_deps,
    )


def _decode_storage(message: jobs_pb2.ExtendedWorkingStorage) -> WorkingStorage:
    name = enum_name("extended_working_storage.type", _STORAGE_TYPE, message.type)
    return WorkingStorage(size_gb=message.size_gb, type=name)


def _decode_dataset_desc(message: jobs_pb2.OutputDatasetDesc) -> OutputDatasetDesc:
    return OutputDatasetDesc(
        name=message.name,
        var=message.var,
        size_gb=message.size_gb,
        description=message.description,
        labels=tuple(sorted(message.labels.items())),
    )


def _decode_shutdown(message: jobs_pb2.GracefulShutdownParameters) -> GracefulShutdown:
    timeout = None
    if message.HasField("timeout"):
        timeout = read_duration("graceful_shutdown_parameters.timeout", message.timeout).total_seconds()
    return GracefulShutdown(timeout_s=timeout, signal=message.signal)


def encode_spec(spec: JobSpec) -> jobs_pb2.JobParameters:
    """The published form of a spec. A plain-text password never comes back."""
    message = jobs_pb2.JobParameters(
        cmd=spec.cmd,
        input_files=encode_files(spec.input_files),
        output_files=[encode_desc(d) for d in spec.output_files],
        s3_mount_ids=spec.s3_mount_ids,
        dataset_ids=spec.dataset_ids,
        attach_project_disk=spec.attach_project_disk,
        cloud_instance_types=[jobs_pb2.CloudInstanceType(name=n) for n in spec.instance_types],
        arguments=[jobs_pb2.Argument(name=a.name, value=a.value) for a in spec.arguments],
        output_datasets=[encode_dataset_desc(d) for d in spec.output_datasets],
    )
    if spec.env != EnvironmentSpec():
        message.env.CopyFrom(_encode_environment(spec.env))
    if spec.working_storage is not None:
        message.extended_working_storage.CopyFrom(_encode_storage(spec.working_storage))
    if spec.graceful_shutdown is not None:
        message.graceful_shutdown_parameters.CopyFrom(_encode_shutdown(spec.graceful_shutdown))
    if spec.spark_connector_id:
        message.spark_parameters.connector_id = spec.spark_connector_id
    return message


def encode_files(files: Iterable[File]) -> list[jobs_pb2.File]:
    """The published form of files."""
    return [encode_file(f) for f in files]


def encode_file(file: File) -> jobs_pb2.File:
    """The published form of a file."""
    message = jobs_pb2.File(desc=encode_desc(file.desc), sha256=file.sha256, size_bytes=file.size_bytes)
    message.compression_type = _COMPRESSIONS[file.compression]  # pyright: ignore[reportAttributeAccessIssue]
    return message


def encode_desc(desc: FileDesc) -> jobs_pb2.FileDesc:
    """The published form of a path, letter for letter."""
    return jobs_pb2.FileDesc(path=desc.path, var=desc.var)


def encode_dataset_desc(desc: OutputDatasetDesc) -> jobs_pb2.OutputDatasetDesc:
    """The published form of a dataset that is to be made."""
    return jobs_pb2.OutputDatasetDesc(
        name=desc.name, description=desc.description, labels=dict(desc.labels), size_gb=desc.size_gb, var=desc.var
    )


def _encode_environment(env: EnvironmentSpec) -> jobs_pb2.Environment:
    message = jobs_pb2.Environment(vars=dict(env.vars))
    if env.docker_image_resource_id:
        message.docker_image_resource_id = env.docker_image_resource_id
    if env.docker_image_spec is not None:
        message.docker_image_spec.CopyFrom(_encode_image(env.docker_image_spec))
    if env.python_env is not None:
        message.python_env.CopyFrom(_encode_python(env.python_env))
    return message


def _encode_image(image: DockerImageSpec) -> jobs_pb2.DockerImageSpec:
    message = jobs_pb2.DockerImageSpec(image_url=image.image_url, username=image.username)
    if image.password_ds_secret_name:
        message.password_ds_secret_name = image.password_ds_secret_name
    return message


def _encode_python(env: PythonEnv) -> jobs_pb2.PythonEnv:
    message = jobs_pb2.PythonEnv(
        conda_yaml=env.conda_yaml,
        local_modules=encode_files(env.local_modules),
        python_version=env.python_version,
        requirements=env.requirements,
    )
    if env.pip_options is not None:
        message.pip_options.CopyFrom(_encode_pip(env.pip_options))
    return message


def _encode_pip(options: PipOptions) -> jobs_pb2.PipOptions:
    return jobs_pb2.PipOptions(
        index_url=options.index_url,
        extra_index_urls=options.extra_index_urls,
        trusted_hosts=options.trusted_hosts,
        no_deps=options.no_deps,
    )


def _encode_storage(storage: WorkingStorage) -> jobs_pb2.ExtendedWorkingStorage:
    message = jobs_pb2.ExtendedWorkingStorage(size_gb=storage.size_gb)
    message.type = _STORAGE_TYPES[storage.type]  # pyright: ignore[reportAttributeAccessIssue]
    return message


def _encode_shutdown(shutdown: GracefulShutdown) -> jobs_pb2.GracefulShutdownParameters:
    message = jobs_pb2.GracefulShutdownParameters(signal=shutdown.signal)
    if shutdown.timeout_s is not None:
        message.timeout.CopyFrom(duration(shutdown.timeout_s))
    return message
