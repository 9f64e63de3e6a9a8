"""Where files lie and what a command says."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain.artifact import Compression, File, FileDesc
from jobsphere.domain.command import Placement, lay_out, normalised, stays_inside, substitute
from jobsphere.domain.job import Argument, EnvironmentSpec, JobSpec, PythonEnv

parts = st.sampled_from(["a", "b.txt", "..", ".", "", "...", "a..b"])
paths = st.builds(str.__add__, st.sampled_from(["", "/", "//", "./"]), st.lists(parts, min_size=1).map("/".join))
names = st.text("abXY_-09", min_size=1, max_size=8)


@given(paths)
def test_a_path_that_stays_inside_cannot_leave(path: str) -> None:
    if stays_inside(path):
        assert posixpath.normpath(f"/root/{path}").startswith("/root")


@given(paths)
def test_dots_and_a_leading_slash_never_stay_inside(path: str) -> None:
    if ".." in path.split("/") or path.startswith("/"):
        assert not stays_inside(path)


@given(paths)
def test_a_normalised_path_has_one_spelling(path: str) -> None:
    clean = normalised(path)
    assert normalised(clean) == clean
    assert "//" not in clean
    assert normalised(f"{path}/") == normalised(f"{path}/.") == clean or not path


@given(st.lists(paths, max_size=5))
def test_every_place_is_below_the_root_of_the_job(written: list[str]) -> None:
    descs = [FileDesc(path, f"v{i}") for i, path in enumerate(written)]
    layout = lay_out(JobSpec(cmd="x", input_files=tuple(File(d) for d in descs), output_files=tuple(descs)))
    for place in [*(p.target for p in layout.inputs), *(o.location for o in layout.outputs)]:
        assert posixpath.normpath(f"/root/{place}").startswith("/root/")


def test_relative_paths_keep_their_spelling_for_the_program() -> None:
    layout = lay_out(
        JobSpec(cmd="x", input_files=(File(FileDesc("./in/x", "IN")),), output_files=(FileDesc("o/", "OUT"),))
    )
    assert [p.target for p in layout.inputs] == ["work/in/x"]
    assert [o.location for o in layout.outputs] == ["work/o"]
    assert layout.literals == (("IN", "./in/x"), ("OUT", "o/"))
    assert layout.locations == ()


def test_absolute_paths_get_a_place_of_their_own() -> None:
    inputs = (File(FileDesc("/data/x", "A")), File(FileDesc("/other/x", "B")), File(FileDesc("../x", "C")))
    layout = lay_out(JobSpec(cmd="x", input_files=inputs, output_files=(FileDesc("/data/x", "D"),)))
    assert [p.target for p in layout.inputs] == ["inputs/0/x", "inputs/1/x", "inputs/2/x"]
    assert layout.literals == ()
    assert layout.locations == (("A", "inputs/0/x"), ("B", "inputs/1/x"), ("C", "inputs/2/x"), ("D", "outputs/0/x"))


def test_arguments_come_as_they_are_and_folders_and_modules_are_unpacked() -> None:
    folder = File(FileDesc("data"), compression=Compression.ZIP)
    module = File(FileDesc("/tmp/of/the/client", "_LOCAL_MODULE_0"), compression=Compression.ZIP)
    spec = JobSpec(
        cmd="x",
        input_files=(folder,),
        env=EnvironmentSpec(python_env=PythonEnv(local_modules=(module,))),
        arguments=(Argument("N", "1 2"),),
    )
    layout = lay_out(spec)
    assert layout.inputs == (
        Placement(folder, "work/data", unpack=True),
        Placement(module, "modules", unpack=True, into_target=True),
    )
    assert layout.literals == (("N", "1 2"),)


@given(st.text(), st.dictionaries(names, st.text()))
def test_a_command_without_known_names_is_left_alone(cmd: str, values: dict[str, str]) -> None:
    if not any(f"${{{name}}}" in cmd for name in values):
        assert substitute(cmd, values) == cmd


@given(st.lists(st.tuples(st.sampled_from(["", " ", "$", "${", "}", "$X", "${?}"]), names, st.booleans())), st.text())
def test_known_names_and_only_they_are_replaced_once(pieces: list[tuple[str, str, bool]], value: str) -> None:
    values = {name: value for _, name, known in pieces if known}
    cmd = "".join(f"{glue} ${{{name}}}" for glue, name, _ in pieces)
    expected = "".join(f"{glue} {values.get(name, f'${{{name}}}')}" for glue, name, _ in pieces)
    assert substitute(cmd, values) == expected


@pytest.mark.parametrize(
    ("cmd", "expected"),
    [
        ("cat ${IN}", "cat a b"),
        ("cat $IN ${HOME} ${in}", "cat $IN ${HOME} ${in}"),
        ("${IN}${IN}", "a ba b"),
        ("${A:-${IN}}", "${A:-a b}"),
        ("${TO-${IN}", "${TO-a b"),
        ("${OUT}", "${IN}"),
        ("${}${IN", "${}${IN"),
        ("${two\nlines} ${IN}", "${two\nlines} a b"),
    ],
)
def test_substitution(cmd: str, expected: str) -> None:
    assert substitute(cmd, {"IN": "a b", "OUT": "${IN}"}) == expected
