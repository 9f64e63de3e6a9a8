"""The published limits: kept at the border, broken right behind it, and said by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain import limits
from jobsphere.domain.artifact import File, FileDesc
from jobsphere.domain.command import lay_out, normalised
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import (
    Argument,
    EnvironmentSpec,
    GracefulShutdown,
    JobSpec,
    OutputDatasetDesc,
    PythonEnv,
    WorkingStorage,
)
from jobsphere.domain.limits import GIB, check_spec, human_size

SPEC = JobSpec(cmd="true", instance_types=("c1.4",))
ID = "a" * 20


def a_file(path: str, var: str = "", size: int = 1) -> File:
    return File(FileDesc(path, var), "0" * 64, size)


def inputs(*files: File) -> JobSpec:
    return replace(SPEC, input_files=files)


def outputs(*descs: FileDesc) -> JobSpec:
    return replace(SPEC, output_files=descs)


def many(n: int) -> list[str]:
    return [f"f{i}" for i in range(n)]


def python(version: str = "", *modules: File) -> JobSpec:
    return replace(SPEC, env=EnvironmentSpec(python_env=PythonEnv(python_version=version, local_modules=modules)))


def variables(*pairs: tuple[str, str]) -> JobSpec:
    return replace(SPEC, env=EnvironmentSpec(vars=pairs))


def shutdown(**values: float) -> JobSpec:
    return replace(SPEC, graceful_shutdown=GracefulShutdown(**values))


def arguments(*names: str) -> JobSpec:
    return replace(SPEC, arguments=tuple(Argument(name, "x") for name in names))


GOOD = {
    "plain": SPEC,
    "100 inputs": inputs(*map(a_file, many(100))),
    "100 outputs": outputs(*map(FileDesc, many(100))),
    "5 GiB": inputs(a_file("a", size=5 * GIB)),
    "10 GiB": inputs(a_file("a", size=5 * GIB), a_file("b", size=5 * GIB)),
    "empty file": inputs(a_file("a", size=0)),
    "two of one hash": inputs(a_file("a"), a_file("b")),
    "one place in and out": replace(inputs(a_file("a")), output_files=(FileDesc("a"),)),
    "absolute with var": inputs(a_file("/data/x", "X")),
    "outside with var": outputs(FileDesc("../x", "X")),
    "similar names": outputs(FileDesc("a"), FileDesc("ab/c"), FileDesc("a.b")),
    "long var": arguments("a" * 50),
    "odd var": arguments("0-_Z"),
    "module": python("3.11", a_file("/tmp/m", "_LOCAL_MODULE_0")),
    "variables": variables(("A-B", ""), ("C", "x" * 1000)),
    "signals": shutdown(signal=10, timeout_s=0),
    "no signal": shutdown(signal=0, timeout_s=limits.MAX_GRACE.total_seconds()),
    "smallest storage": replace(SPEC, working_storage=WorkingStorage(100)),
    "largest storage": replace(SPEC, working_storage=WorkingStorage(10240)),
    "resources": replace(SPEC, s3_mount_ids=(ID,), dataset_ids=("b" * 20,)),
    "long cmd": replace(SPEC, cmd="x" * limits.MAX_CMD_CHARS),
}

BAD = [
    (replace(SPEC, cmd=" \n"), "cmd: is empty"),
    (replace(SPEC, cmd="x" * (limits.MAX_CMD_CHARS + 1)), "cmd: is longer"),
    (replace(SPEC, cmd="a\0b"), "cmd: .*NUL"),
    (replace(SPEC, instance_types=()), "cloud_instance_types: at least one"),
    (replace(SPEC, instance_types=("c1.4",) * 101), "cloud_instance_types: 101 entries"),
    (inputs(*map(a_file, many(101))), "input_files: 101 entries"),
    (outputs(*map(FileDesc, many(101))), "output_files: 101 entries"),
    (arguments(*many(101)), "arguments: 101 entries"),
    (replace(SPEC, s3_mount_ids=(ID,) * 101), "s3_mount_ids: 101 entries"),
    (replace(SPEC, dataset_ids=(ID,) * 101), "dataset_ids: 101 entries"),
    (replace(SPEC, output_datasets=tuple(OutputDatasetDesc("d", v) for v in many(101))), "output_datasets: 101"),
    (inputs(a_file("big", size=5 * GIB + 1)), "file 'big': 5.0 GiB, while the limit for one file is 5.0 GiB"),
    (inputs(a_file("a", size=-1)), "'a': size_bytes is negative"),
    (inputs(File(FileDesc("a"), "A" * 64, 1)), "'a': sha256"),
    (inputs(File(FileDesc("a"), "0" * 63, 1)), "'a': sha256"),
    (python("", File(FileDesc("m"), "", 1)), "'m': sha256"),
    (
        inputs(a_file("a", size=5 * GIB), a_file("b", size=4 * GIB), a_file("c", size=2 * GIB)),
        r"11.0 GiB.* a \(5.0 GiB\), b",
    ),
    (inputs(a_file("")), "path ''"),
    (inputs(a_file("a\0")), "NUL"),
    (inputs(a_file("x" * (limits.MAX_PATH_CHARS + 1))), "4096"),
    (inputs(a_file("a/" * 201 + "x")), "200 folders"),
    (outputs(FileDesc("/" + "a/" * 201 + "x", "V")), "200 folders"),
    (inputs(a_file("/data/x")), "leaves the working directory"),
    (outputs(FileDesc("a/../b")), "leaves the working directory"),
    (inputs(a_file("a"), a_file("./a/")), "'a' is named twice"),
    (inputs(a_file("/a", "A"), a_file("//a", "B")), "'/a' is named twice"),
    (outputs(FileDesc("a/b"), FileDesc("a")), "'a/b' lies inside 'a'"),
    (outputs(FileDesc("/a/b/c", "X"), FileDesc("/a", "Y")), "'/a/b/c' lies inside '/a'"),
    (arguments(""), "var ''"),
    (arguments("a" * 51), "50"),
    (arguments("a b"), "var 'a b'"),
    (arguments("a\n"), "var"),
    (arguments("DS_PROJECT_HOME"), "reserved"),
    (arguments("A", "A"), "var 'A': is used more than once"),
    (replace(arguments("A"), input_files=(a_file("a", "A"),)), "var 'A': is used more than once"),
    (replace(SPEC, output_datasets=(OutputDatasetDesc("d", "A"), OutputDatasetDesc("e", "A"))), "more than once"),
    (replace(SPEC, s3_mount_ids=(ID,), dataset_ids=(ID,)), "more than once"),
    (replace(SPEC, s3_mount_ids=("A" * 20,)), "s3_mount_ids: .*not an id"),
    (replace(SPEC, dataset_ids=("a" * 19,)), "dataset_ids: .*not an id"),
    (variables(("A=B", "")), "env.vars"),
    (variables(("", "")), "env.vars"),
    (variables(("A", "hush\0")), "env.vars"),
    (python("3"), "python_version"),
    (python("2.7"), "python_version"),
    (python("3.11.4"), "python_version"),
    (python("3.\u0661"), "python_version"),
    (python("", a_file("m", "OTHER")), "local_modules"),
    (python("", a_file("m", "_LOCAL_MODULE_\u0661")), "local_modules"),
    (shutdown(signal=9), "signal: 9 is not one of 1, 2, 10, 12, 15"),
    (shutdown(timeout_s=-1), "timeout: must be between 0"),
    (shutdown(timeout_s=limits.MAX_GRACE.total_seconds() + 1), "timeout: must be between 0"),
    (shutdown(timeout_s=float("nan")), "timeout: must be between 0"),
    (replace(SPEC, working_storage=WorkingStorage(99)), "size_gb: 99"),
    (replace(SPEC, working_storage=WorkingStorage(10241)), "size_gb: 10241"),
]


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD.keys())
def test_what_keeps_the_limits_passes(spec: JobSpec) -> None:
    check_spec(spec)


@pytest.mark.parametrize(("spec", "said"), BAD, ids=[said for _, said in BAD])
def test_what_breaks_a_limit_is_refused_by_name(spec: JobSpec, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        check_spec(spec)


def test_the_value_of_a_variable_is_not_shown() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_spec(variables(("A", "hush\0")))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("path", [".", "./", "..", "../..", "a/..", "a/../..", "/", "//", "///", "/..", "/a/..", "/."])
def test_a_path_names_something_of_its_own(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        check_spec(outputs(FileDesc(path, "X")))


parts = st.sampled_from(["a", "b", "..", ".", ""])
written = st.builds(
    str.__add__, st.sampled_from(["", "/", "//"]), st.lists(parts, min_size=1, max_size=5).map("/".join)
)


@given(st.lists(written, max_size=4))
def test_what_passes_has_a_place_of_its_own_with_a_name(paths: list[str]) -> None:
    descs = tuple(FileDesc(path, f"v{i}") for i, path in enumerate(paths))
    try:
        check_spec(outputs(*descs))
    except InvalidArgumentError:
        return
    places = [output.location for output in lay_out(outputs(*descs)).outputs]
    assert all(normalised(place) == place for place in places)
    for place in places:
        assert not any(other == place or other.startswith(f"{place}/") for other in places if other is not place)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * GIB, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert human_size(size) == text
