"""Where a job's files lie and what its command says: pure layout of names, done before anything runs.

A job's root has a fixed shape. Paths here are relative to that root and use ``/``::

    work/            the working directory: every relative path of the spec
    inputs/<n>/      the n-th input, when its path is absolute or leaves the working directory
    outputs/<n>/     likewise for outputs
    modules/         local Python modules, on the import path
    outputs/dataset-<n>/  what becomes the n-th output dataset
    project/         the project's disk, read-only
    datasets/<id>/   a dataset, read-only
    s3/<id>/         what is in the bucket of an S3 connector
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from jobsphere.domain.artifact import Compression, File, FileDesc
from jobsphere.domain.job import JobSpec, OutputDatasetDesc

WORK = "work"
MODULES = "modules"
PROJECT_DISK = "project"
DATASETS = "datasets"
S3 = "s3"
# A name holds no brace: in the shell's own ${A:-${INPUT}} only the inner one may be ours.
_VARIABLE = re.compile(r"\$\{([^${}]+)}")


def stays_inside(path: str) -> bool:
    """Whether a path, as written, names something below the directory that it is relative to."""
    return not path.startswith("/") and ".." not in path.split("/")


def normalised(path: str) -> str:
    """The path without ``./``, ``//`` and trailing ``/``: ``./r.sh`` is ``r.sh``, ``o/`` is ``o``."""
    clean = posixpath.normpath(path)
    # Two slashes at the start, and only two, are kept by the standard.
    return clean[1:] if clean.startswith("//") else clean


@dataclass(frozen=True, slots=True)
class Placement:
    """A file to be put at ``target`` (relative to the job's root).

    ``unpack``: the bytes are a ZIP whose entries start with the target's base name; they go into its parent.
    ``into_target``: the entries go into ``target`` itself (local modules).
    """

    file: File
    target: str
    unpack: bool = False
    into_target: bool = False


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """An output of the spec and where the program leaves it (relative to the job's root)."""

    desc: FileDesc
    location: str


@dataclass(frozen=True, slots=True)
class DatasetPlace:
    """A dataset that the job makes, and the folder (relative to the job's root) that the program fills for it."""

    desc: OutputDatasetDesc
    location: str


@dataclass(frozen=True, slots=True)
class Layout:
    """All names of one job resolved.

    ``literals`` are variables whose text is the same everywhere; ``locations`` are those that name a place below the
    job's root, which only the node knows.
    """

    inputs: tuple[Placement, ...]
    outputs: tuple[OutputPlace, ...]
    literals: tuple[tuple[str, str], ...]
    locations: tuple[tuple[str, str], ...]
    datasets: tuple[DatasetPlace, ...] = ()


def _place(kind: str, index: int, path: str) -> str:
    clean = normalised(path)
    if stays_inside(path):
        return posixpath.join(WORK, clean)
    return posixpath.join(kind, str(index), posixpath.basename(clean))


def lay_out(spec: JobSpec) -> Layout:
    """Resolve where every file of ``spec`` goes and what every variable stands for."""
    literals = [(a.name, a.value) for a in spec.arguments]
    locations: list[tuple[str, str]] = []

    def name(desc: FileDesc, place: str) -> None:
        if desc.var and stays_inside(desc.path):
            literals.append((desc.var, desc.path))
        elif desc.var:
            locations.append((desc.var, place))

    inputs: list[Placement] = []
    for i, file in enumerate(spec.input_files):
        place = _place("inputs", i, file.desc.path)
        name(file.desc, place)
        inputs.append(Placement(file, place, unpack=file.compression is Compression.ZIP))
    modules = spec.env.python_env.local_modules if spec.env.python_env else ()
    inputs += [Placement(m, MODULES, unpack=True, into_target=True) for m in modules]
    outputs: list[OutputPlace] = []
    for i, desc in enumerate(spec.output_files):
        place = _place("outputs", i, desc.path)
        name(desc, place)
        outputs.append(OutputPlace(desc, place))
    datasets = tuple(DatasetPlace(desc, f"outputs/dataset-{i}") for i, desc in enumerate(spec.output_datasets))
    locations += [(place.desc.var, place.location) for place in datasets]
    locations += [(connector_id, f"{S3}/{connector_id}") for connector_id in spec.s3_mount_ids]
    return Layout(tuple(inputs), tuple(outputs), tuple(literals), tuple(locations), datasets)


def substitute(cmd: str, values: Mapping[str, str]) -> str:
    """Replace each ``${NAME}`` that is in ``values``; what is not stays for the shell."""
    return _VARIABLE.sub(lambda m: values.get(m.group(1), m.group(0)), cmd)
