"""The published limits of a job's spec, checked before anything is stored.

Every refusal names the field, the value and the limit, so that the user can mend the config without guessing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from jobsphere.domain.artifact import File, FileDesc
from jobsphere.domain.capacity import GIB
from jobsphere.domain.command import normalised, stays_inside
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.image import complete, has_image
from jobsphere.domain.job import DockerImageSpec, JobSpec, OutputDatasetDesc
from jobsphere.domain.spark import SPARK_FILE
from jobsphere.domain.text import has_controls

MAX_FILE_BYTES = 5 * GIB
MAX_UPLOAD_BYTES = 10 * GIB
MAX_LIST = 100
MAX_FILTER_CHARS = 1000
MAX_CONFIG_BYTES = 1 << 20
MAX_CMD_CHARS = 128 * 1024
MAX_NAME_CHARS = 1024
MAX_PATH_CHARS = 4096
MAX_DEPTH = 200
"""Folders within folders: each costs an open file, or a call within a call, of whoever makes or opens them."""
MAX_DATASET_NAME_CHARS = 128
MAX_LABELS = 64
MAX_PASSWORD_CHARS = 16 * 1024
WORKING_STORAGE_GB = (100, 10 * 1024)
SIGNALS = (1, 2, 10, 12, 15)
PROJECT_HOME = "DS_PROJECT_HOME"
"""The environment variable that says where the project's disk is."""
RESERVED_VARIABLES = (PROJECT_HOME,)
MAX_GRACE = timedelta(days=7)

_VARIABLE = re.compile(r"[0-9A-Za-z_-]{1,50}")
_MODULE_VARIABLE = re.compile(r"_LOCAL_MODULE_[0-9]{1,6}")
_RESOURCE_ID = re.compile(r"[0-9a-z]{20}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PYTHON_VERSION = re.compile(r"3\.[0-9]{1,2}")
_ENV_NAME = re.compile(r"[^=\0]{1,256}")


def check_spec(spec: JobSpec) -> None:
    """Check everything about a spec that needs no look at the server's state.

    Raises:
        InvalidArgumentError: the first limit that is broken, by field name.
    """
    if not spec.cmd.strip():
        _refuse("cmd", "is empty; name the command to run")
    if len(spec.cmd) > MAX_CMD_CHARS or "\0" in spec.cmd:
        _refuse("cmd", f"is longer than {MAX_CMD_CHARS} characters or holds a NUL")
    _check_list_lengths(spec)
    for file in spec.uploads():
        _check_file(file)
    _check_total(spec.uploads())
    for desc in [f.desc for f in spec.input_files] + list(spec.output_files):
        _check_desc(desc)
    _check_overlaps("input_files", [f.desc.path for f in spec.input_files])
    _check_overlaps("output_files", [d.path for d in spec.output_files])
    _check_variables(spec)
    _check_ids("s3_mount_ids", spec.s3_mount_ids)
    _check_ids("dataset_ids", spec.dataset_ids)
    for dataset in spec.output_datasets:
        _check_output_dataset(dataset)
    _check_environment(spec)
    _check_shutdown(spec)
    _check_storage(spec)
    _check_spark(spec)


def _refuse(where: str, what: str) -> None:
    raise InvalidArgumentError(f"{where}: {what}")


def human_size(n: int) -> str:
    """``5.0 GiB`` for 5368709120."""
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _check_list_lengths(spec: JobSpec) -> None:
    for where, items in (
        ("input_files", spec.input_files),
        ("output_files", spec.output_files),
        ("s3_mount_ids", spec.s3_mount_ids),
        ("dataset_ids", spec.dataset_ids),
        ("output_datasets", spec.output_datasets),
        ("arguments", spec.arguments),
        ("cloud_instance_types", spec.instance_types),
    ):
        if len(items) > MAX_LIST:
            _refuse(where, f"{len(items)} entries, while the limit is {MAX_LIST}")
    if not spec.instance_types:
        _refuse("cloud_instance_types", "at least one must be named, e.g. c1.4")


def _check_file(file: File) -> None:
    where = f"file {file.desc.path!r}"
    if not _SHA256.fullmatch(file.sha256):
        _refuse(where, "sha256 must be 64 lower-case hex digits")
    if file.size_bytes < 0:
        _refuse(where, "size_bytes is negative")
    if file.size_bytes > MAX_FILE_BYTES:
        _refuse(where, f"{human_size(file.size_bytes)}, while the limit for one file is {human_size(MAX_FILE_BYTES)}")


def _check_total(files: Iterable[File]) -> None:
    files = list(files)
    total = sum(f.size_bytes for f in files)
    if total <= MAX_UPLOAD_BYTES:
        return
    largest = sorted(files, key=lambda f: -f.size_bytes)[:3]
    names = ", ".join(f"{f.desc.path} ({human_size(f.size_bytes)})" for f in largest)
    _refuse(
        "input_files",
        f"{human_size(total)} with modules, while the limit is {human_size(MAX_UPLOAD_BYTES)}; the largest: {names}",
    )


def _check_desc(desc: FileDesc) -> None:
    where = f"path {desc.path!r}"
    if not desc.path or len(desc.path) > MAX_PATH_CHARS or "\0" in desc.path:
        _refuse(where, f"must have 1 to {MAX_PATH_CHARS} characters and no NUL")
    if normalised(desc.path).count("/") > MAX_DEPTH:
        _refuse(f"path {desc.path[:100]!r}…", f"is more than {MAX_DEPTH} folders deep")
    if normalised(desc.path) in {"/", "..", "."} or normalised(desc.path).endswith("/.."):
        _refuse(where, "names no file or folder of its own; name one")
    if not stays_inside(desc.path) and not desc.var:
        _refuse(where, "leaves the working directory; make it relative, or give it a var to refer to it")


def _check_overlaps(where: str, paths: list[str]) -> None:
    """Two entries of one list may not be the same place, nor one inside the other."""
    clean = [normalised(p) for p in paths]
    seen = set(clean)
    if len(seen) != len(clean):
        twice = next(p for p, n in Counter(clean).items() if n > 1)
        _refuse(where, f"the path {twice!r} is named twice")
    for path in clean:
        parts = path.split("/")
        for i in range(1, len(parts)):
            parent = "/".join(parts[:i])
            if parent in seen:
                _refuse(where, f"{path!r} lies inside {parent!r}, which is named as well")


def _check_variables(spec: JobSpec) -> None:
    names = [f.desc.var for f in spec.input_files if f.desc.var]
    names += [d.var for d in spec.output_files if d.var]
    names += [a.name for a in spec.arguments]
    names += [d.var for d in spec.output_datasets]
    for name in names:
        if not _VARIABLE.fullmatch(name):
            _refuse(f"var {name!r}", "must have 1 to 50 of the characters 0-9 A-Z a-z _ -")
        if name in RESERVED_VARIABLES:
            _refuse(f"var {name!r}", "is reserved; choose another name")
    names += [*spec.s3_mount_ids, *spec.dataset_ids]
    for name, n in Counter(names).items():
        if n > 1:
            _refuse(f"var {name!r}", "is used more than once; each name may stand for one thing only")


def _check_ids(where: str, ids: tuple[str, ...]) -> None:
    for value in ids:
        if not _RESOURCE_ID.fullmatch(value):
            _refuse(where, f"{value!r} is not an id: 20 of the characters 0-9 a-z")


def _check_output_dataset(dataset: OutputDatasetDesc) -> None:
    where = f"output_datasets {dataset.name[:100]!r}"
    if not 1 <= len(dataset.name) <= MAX_DATASET_NAME_CHARS or not dataset.name.isprintable():
        _refuse(where, f"the name must have 1 to {MAX_DATASET_NAME_CHARS} characters, all of them printable")
    if dataset.size_gb < 0:
        _refuse(where, "size_gb is negative")
    if has_controls(dataset.description, lines=True):
        _refuse(where, "the description holds a control character")
    if len(dataset.description) > MAX_PATH_CHARS:
        _refuse(where, f"the description is longer than {MAX_PATH_CHARS} characters")
    if len(dataset.labels) > MAX_LABELS:
        _refuse(where, f"{len(dataset.labels)} labels, while the limit is {MAX_LABELS}")


def _check_environment(spec: JobSpec) -> None:
    for name, value in spec.env.vars:
        if not _ENV_NAME.fullmatch(name) or "\0" in value:
            _refuse("env.vars", f"{name!r} is not the name of an environment variable, or its value holds a NUL")
    if spec.env.docker_image_spec is not None:
        _check_image(spec.env.docker_image_spec, spec.env.docker_image_resource_id)
    python = spec.env.python_env
    if python is None:
        return
    if python.python_version and not _PYTHON_VERSION.fullmatch(python.python_version):
        _refuse("python_version", f"{python.python_version!r} is not a version as major.minor, e.g. 3.11")
    for module in python.local_modules:
        if module.desc.var and not _MODULE_VARIABLE.fullmatch(module.desc.var):
            _refuse("local_modules", f"var {module.desc.var!r} is not _LOCAL_MODULE_<number>")


def _check_image(image: DockerImageSpec, resource_id: str) -> None:
    """The URL is not shown where it may hold a login."""
    where = "docker_image_spec"
    if resource_id:
        _refuse(where, "stands beside docker_image_resource_id; name one image")
    if complete(image.image_url) is None:
        shown = "the image URL" if "@" in image.image_url else repr(image.image_url[:200])
        _refuse(f"{where}.image_url", f"{shown} is no image; write it as registry/name:tag, e.g. docker.io/python:3.11")
    has_password = bool(image.password_plain_text or image.password_ds_secret_name or image.password_sealed)
    if bool(image.username) is not has_password:
        _refuse(where, "a username and a password go together; one of them is missing")
    if ":" in image.username or any(not c.isprintable() for c in image.username):
        _refuse(f"{where}.username", "may hold no colon and no control character")
    if len(image.password_plain_text) > MAX_PASSWORD_CHARS:
        _refuse(f"{where}.password_plain_text", f"is longer than {MAX_PASSWORD_CHARS} characters")


def _check_shutdown(spec: JobSpec) -> None:
    graceful = spec.graceful_shutdown
    if graceful is None:
        return
    if graceful.signal and graceful.signal not in SIGNALS:
        _refuse(
            "graceful_shutdown_parameters.signal", f"{graceful.signal} is not one of {', '.join(map(str, SIGNALS))}"
        )
    if graceful.timeout_s is not None and not 0 <= graceful.timeout_s <= MAX_GRACE.total_seconds():
        _refuse("graceful_shutdown_parameters.timeout", f"must be between 0 and {MAX_GRACE.days} days")


def _check_spark(spec: JobSpec) -> None:
    """The connection file is the server's: it may hold secrets, which are in no input and in no output."""
    if not spec.spark_connector_id:
        return
    _check_ids("spark_parameters.connector_id", (spec.spark_connector_id,))
    if has_image(spec):
        _refuse("spark_parameters", "a job with a Spark connector cannot choose a Docker image; leave out one of them")
    for where, paths in (
        ("input_files", [f.desc.path for f in spec.input_files]),
        ("output_files", [d.path for d in spec.output_files]),
    ):
        if any(normalised(path).split("/")[0] == SPARK_FILE for path in paths):
            _refuse(where, f"{SPARK_FILE!r} is where a job with a Spark connector has its connection file")


def _check_storage(spec: JobSpec) -> None:
    storage = spec.working_storage
    low, high = WORKING_STORAGE_GB
    if storage is not None and not low <= storage.size_gb <= high:
        _refuse("extended_working_storage.size_gb", f"{storage.size_gb}, while it must be {low} to {high}")
