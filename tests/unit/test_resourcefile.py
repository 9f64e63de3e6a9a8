"""The file of resources: all that is wrong with it at once, each with its line, and written back as it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain.access import ROLES, Scope
from jobsphere.domain.declared import STORED, Entry, Key, Reference, Value, merged
from jobsphere.resourcefile import MAX_CHARS, read, write
from jobsphere.service.declared_resources import DatasetKind, ImageKind, S3Kind, SecretKind, SparkKind
from jobsphere.service.declared_teams import CommunityKind, ProjectKind, Users, role_kind

KINDS = (
    Users.kind,
    CommunityKind.kind,
    role_kind(Scope.COMMUNITY),
    ProjectKind.kind,
    role_kind(Scope.PROJECT),
    SecretKind.kind,
    ImageKind.kind,
    DatasetKind.kind,
    S3Kind.kind,
    SparkKind.kind,
)
BY_NAME = {kind.name: kind for kind in KINDS}

GOOD = """\
users:
  ann:
  3.10: {service-account: true}
communities:
  team:
    description: on
    labels: {b: "2", a: 1}
    roles:
      ann: [admin, datasphere.community-projects.viewer]
    projects:
      p:
        secrets:
          TOKEN: {env: TOKEN}
          KEY: {file: a/b}
        images:
          i:
            image: x:1
            password: {file: pw}
"""


def test_scalars_are_text_and_everything_has_its_line() -> None:
    declared, problems = read(GOOD, KINDS)
    assert problems == []
    found = {str(e.key): e for e in declared.entries}
    assert found["user 3.10"].fields == {"service-account": True}
    assert found["community team"].fields == {"description": "on", "labels": (("a", "1"), ("b", "2"))}
    assert found["secret team/p/KEY"].fields == {"value": Reference(file="a/b")}
    assert found["image team/p/i"].lines == {"": 16, "image": 17, "password": 18}
    assert [k for k in found if "role" in k] == [
        "community role team/ann/datasphere.communities.admin",
        "community role team/ann/datasphere.community-projects.viewer",
    ]
    assert Key("secret", ("team", "p")) in declared.sections
    assert Key("dataset", ("team", "p")) not in declared.sections


def test_all_that_is_wrong_is_told_each_with_its_line() -> None:
    text = """\
users:
  ann: {service-account: perhaps}
  ann:
gadgets: {}
communities:
  team:
    description:
    roles:
      ann: [boss, admin, admin]
    projects:
      p:
        secrets:
          A: planted-value
          B: {env: X, file: Y}
          C: {value: planted-value}
        images: []
        datasets:
          d: {fodler: x}
"""
    declared, problems = read(text, KINDS)
    assert sorted(p.line for p in problems) == [2, 3, 4, 7, 9, 9, 13, 14, 15, 16, 18]
    words = "\n".join(p.text for p in problems)
    for part in (
        "service-account: is true or false",
        "users: 'ann' is there twice",
        "no 'gadgets' here; there are: users, communities",
        'description: is to be a text (an empty one is written as "")',
        "'boss' is none that can be given here",
        "ann: admin is there twice",
        "secret team/p/A: value: is {env: VARIABLE} or {file: PATH}, and never the value itself",
        "write {} to say that there are none",
        "no 'fodler' here; there are: folder, description, labels",
    ):
        assert part in words
    assert "planted" not in words
    assert "dataset team/p/d" in [str(e.key) for e in declared.entries]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "declares nothing"),
        ("a: [", 1, "expected"),
        ("users:\n  a: &x {}\n  b: *x\n", 3, "aliases"),
        ("a: " + "[" * 99 + "]" * 99, 1, "nested too deeply"),
        ("users: {}\n---\nusers: {}\n", 2, "second document"),
        ("users:\n  {a: 1}: x\n", 2, "holds a name that is no text"),
        ("- a\n", 1, "is to map names"),
        ("\x00", 1, "cannot be part of YAML"),
        ("#" * (MAX_CHARS + 1), 1, "while the limit is"),
    ],
)
def test_what_is_no_file_of_resources(text: str, line: int, words: str) -> None:
    _, problems = read(text, KINDS)
    assert any(p.line == line and words in p.text for p in problems), problems


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    ["on", "~", "a: b", "1", "#"]
)
NAME = TEXT.filter(bool)
LABELS = st.dictionaries(NAME, TEXT, max_size=2).map(lambda d: tuple(sorted(d.items())))
FIELDS: dict[str, st.SearchStrategy[Value]] = {
    "labels": LABELS,
    "quota": LABELS,
    "params": LABELS,
    "secret-params": LABELS,
    "service-account": st.booleans(),
    "read-write": st.booleans(),
    "password": st.sampled_from([Reference(), STORED]),
    "value": st.just(STORED),
}


@st.composite
def servers(draw: st.DrawFn) -> list[Entry]:
    found: list[Entry] = []

    def add(kind: str, *path: str) -> None:
        fields = {name: draw(FIELDS.get(name, TEXT)) for name in BY_NAME[kind].fields}
        found.append(Entry(Key(kind, path), fields))

    for user in draw(st.sets(NAME, max_size=2)):
        add("user", user)
    for team in draw(st.sets(NAME, max_size=2)):
        add("community", team)
        for role in draw(st.sets(st.sampled_from(sorted(ROLES)), max_size=2)):
            add("community role", team, draw(NAME), role)
        for project in draw(st.sets(NAME, max_size=2)):
            add("project", team, project)
            for kind in ("secret", "image", "dataset", "S3 connector", "Spark connector"):
                for name in draw(st.sets(NAME, max_size=2)):
                    add(kind, team, project, name)
    return found


@given(servers())
def test_what_is_written_is_read_back(entries: list[Entry]) -> None:
    declared, problems = read(write(entries, KINDS), KINDS)
    assert problems == [] or not entries
    back = {e.key: merged(BY_NAME[e.key.kind], e, None).fields for e in declared.entries}
    assert back.keys() == {e.key for e in entries}
    variables: list[str] = []
    for e in entries:
        for name, value in e.fields.items():
            read_back = back[e.key][name]
            if value == STORED:
                assert isinstance(read_back, Reference)
                variables.append(read_back.variable)
            else:
                assert read_back == value
    assert len(variables) == len(set(variables))
    assert all(variables)


def test_no_two_values_share_a_variable() -> None:
    text = """\
communities:
  team:
    projects:
      p:
        secrets:
          a-b: {env: X}
          A_B: {env: X}
        images:
          a_b: {password: {env: X}}
"""
    declared, _ = read(text, KINDS)
    stored = [
        Entry(e.key, {**merged(BY_NAME[e.key.kind], e, None).fields, **dict.fromkeys(e.fields, STORED)})
        for e in declared.entries
    ]
    written = write([e for e in stored if e.key.kind in ("secret", "image")] + stored[:2], KINDS)
    assert written.count("{env: VALUE_OF_TEAM_P_A_B}") == 1
    assert "{env: VALUE_OF_TEAM_P_A_B_2}" in written
    assert "{env: VALUE_OF_TEAM_P_A_B_3}" in written
