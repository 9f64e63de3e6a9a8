"""From what is declared and what is there to the steps in between: the same for every kind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain.declared import (
    STORED,
    Declared,
    Entry,
    Field,
    Key,
    Kind,
    OnChange,
    Plan,
    Reference,
    Shape,
    Value,
    Verb,
    merged,
    parent_of,
    plan,
    problems,
    uses,
)

KINDS = (
    Kind("user", "users", fields={"fixed": Field(on_change=OnChange.REFUSE)}),
    Kind("box", "boxes", fields={"text": Field()}),
    Kind("box role", "roles", "box", grant=True),
    Kind("secret", "secrets", "box", {"value": Field(Shape.SECRET, required=True)}),
    Kind(
        "image",
        "images",
        "box",
        {
            "by": Field(names="secret", instead_of="own"),
            "own": Field(Shape.SECRET, instead_of="by"),
            "folder": Field(Shape.FOLDER, on_change=OnChange.REPLACE),
        },
    ),
    Kind("spark", "sparks", "box", {"by": Field(Shape.LABELS, names="secret")}),
)
BY_NAME = {kind.name: kind for kind in KINDS}
VARIABLE = Reference("V")


def entry(kind: str, *path: str, in_use: str = "", product: bool = False, **fields: Value) -> Entry:
    return Entry(Key(kind, path), fields, {"": 1}, in_use, product)


def whole(*entries: Entry) -> list[Entry]:
    """As if they were there."""
    return [replace(e, fields=merged(BY_NAME[e.key.kind], e, None).fields) for e in entries]


def signs(planned: Plan) -> list[str]:
    return [f"{step.verb.value} {step.entry.key}" for step in planned.steps]


def done(planned: Plan, present: list[Entry]) -> list[Entry]:
    """What is there once all is done."""
    there = {e.key: e for e in present}
    for step in planned.steps:
        if step.verb is Verb.REMOVE:
            del there[step.entry.key]
        else:
            there[step.entry.key] = step.entry
    return list(there.values())


def sections(*keys: tuple[str, ...]) -> frozenset[Key]:
    return frozenset(Key(kind, path) for kind, *path_ in keys for path in [tuple(path_)])


def test_what_is_new_comes_in_the_order_of_the_kinds_and_whole() -> None:
    file = Declared((entry("image", "b", "i", by="s"), entry("secret", "b", "s", value=VARIABLE), entry("box", "b")))
    planned = plan(KINDS, file, [], prune=False)
    assert signs(planned) == ["+ box b", "+ secret b/s", "+ image b/i"]
    assert planned.steps[2].entry.fields == {"by": "s", "own": Reference(), "folder": "."}


def test_only_what_differs_is_changed_and_what_is_not_said_stays() -> None:
    there = whole(entry("box", "a", text="x"), entry("box", "b", text="x"))
    planned = plan(KINDS, Declared((entry("box", "a"), entry("box", "b", text="y"))), there, prune=False)
    assert signs(planned) == ["~ box b"]
    assert planned.steps[0].changes() == [("text", "x", "y")]


def test_one_way_to_a_password_takes_the_place_of_the_other() -> None:
    there = whole(entry("secret", "b", "s", value=STORED), entry("image", "b", "i", own=STORED))
    (step,) = plan(KINDS, Declared((entry("image", "b", "i", by="s"),)), there, prune=False).steps
    assert step.changes() == [("by", "", "s"), ("own", STORED, Reference())]


def test_what_cannot_change_is_made_anew() -> None:
    there = whole(entry("image", "b", "i", folder="old"))
    assert signs(plan(KINDS, Declared((entry("image", "b", "i", folder="new"),)), there, prune=False)) == [
        "± image b/i"
    ]


def test_problems_are_told_all_at_once() -> None:
    file = Declared(
        (
            entry("user", "ann", fixed="other"),
            entry("box role", "b", "bob", "r"),
            entry("secret", "b", "s"),
            replace(entry("image", "b", "i", by="gone"), lines={"": 7, "by": 8}),
        )
    )
    found = problems(KINDS, file, whole(entry("user", "ann", fixed="one")))
    assert [(p.line, p.text) for p in found] == [
        (1, "user ann: fixed cannot be changed; remove it first, then apply this"),
        (1, "box role b/bob/r: there is no user bob, neither in the file nor on the server"),
        (1, "secret b/s: lacks value"),
        (8, "image b/i: there is no secret b/gone, neither in the file nor on the server"),
    ]


def test_prune_keeps_to_the_sections_of_the_file_and_removes_users_first() -> None:
    there = whole(
        entry("user", "ann"),
        entry("box", "b"),
        entry("secret", "b", "s", value=STORED),
        entry("image", "b", "i", by="s"),
        entry("box", "other"),
        entry("secret", "other", "s", value=STORED),
    )
    file = Declared((entry("box", "b"),), sections(("secret", "b"), ("image", "b")))
    assert signs(plan(KINDS, file, there, prune=False)) == []
    assert signs(plan(KINDS, file, there, prune=True)) == ["- image b/i", "- secret b/s"]


def test_with_a_thing_goes_what_is_in_it() -> None:
    there = whole(entry("box", "b"), entry("secret", "b", "s", value=STORED), entry("box role", "b", "ann", "r"))
    planned = plan(KINDS, Declared((), sections(("box",))), there, prune=True)
    assert signs(planned) == ["- secret b/s", "- box role b/ann/r", "- box b"]


def test_what_is_in_use_stays_with_all_that_it_needs() -> None:
    there = whole(
        entry("user", "ann"),
        entry("box", "b"),
        entry("box role", "b", "ann", "r"),
        entry("secret", "b", "s", value=STORED),
        entry("secret", "b", "t", value=STORED),
        entry("image", "b", "i", by="s", in_use="a job uses it"),
    )
    file = Declared((), sections(("user",), ("box",), ("secret", "b")))
    planned = plan(KINDS, file, there, prune=True)
    assert signs(planned) == ["- secret b/t"]
    assert {(str(key), why) for key, why in planned.kept} == {
        ("box b", "image b/i needs it"),
        ("secret b/s", "image b/i needs it"),
        ("user ann", "box role b/ann/r needs it"),
    }


def test_what_a_job_made_is_never_pruned() -> None:
    there = whole(entry("box", "b"), entry("image", "b", "i", product=True))
    planned = plan(KINDS, Declared((), sections(("box",), ("image", "b"))), there, prune=True)
    assert signs(planned) == []
    assert planned.kept == ((Key("box", ("b",)), "image b/i needs it"),)


def test_labels_may_name_things_by_their_values() -> None:
    spark = replace(entry("spark", "b", "s", by=(("k", "there"), ("l", "gone"))), lines={"": 1, "by": 2})
    there = whole(entry("box", "b"), entry("secret", "b", "there", value=VARIABLE))
    (found,) = problems(KINDS, Declared((spark,)), there)
    assert (found.line, found.text) == (
        2,
        "spark b/s: there is no secret b/gone, neither in the file nor on the server",
    )


NAMES = st.sampled_from("ab")
REFERENCES = st.sampled_from([VARIABLE, Reference(file="f")])


@st.composite
def things(draw: st.DrawFn, present: bool) -> list[Entry]:
    """Entries of which each has what it is in and what it names."""
    found: dict[Key, Entry] = {}
    in_use = st.sampled_from(["", "", "a job uses it"]) if present else st.just("")

    def add(e: Entry) -> None:
        found.setdefault(e.key, replace(e, in_use=draw(in_use)))

    for box in draw(st.sets(NAMES)):
        add(entry("box", box, **draw(st.sampled_from([{}, {"text": "x"}, {"text": "y"}]))))
        for name in draw(st.sets(NAMES)):
            add(entry("secret", box, name, value=draw(REFERENCES)))
            if draw(st.booleans()):
                add(entry("image", box, draw(NAMES), by=name, folder=draw(NAMES)))
            if draw(st.booleans()):
                add(entry("spark", box, draw(NAMES), by=(("k", name),)))
        for user in draw(st.sets(NAMES)):
            add(entry("user", user))
            add(entry("box role", box, user, "r"))
    entries = list(draw(st.permutations(list(found.values()))))
    return whole(*entries) if present else entries


@given(things(present=False), things(present=True), st.booleans(), st.data())
def test_once_done_nothing_is_left_to_do_and_no_step_lacks_what_it_needs(
    file: list[Entry], there: list[Entry], prune: bool, data: st.DataObject
) -> None:
    every = [Key("user", ()), Key("box", ())] + [
        Key(kind.name, (box,)) for kind in KINDS if kind.parent == "box" for box in "ab"
    ]
    declared = Declared(tuple(file), frozenset(data.draw(st.sets(st.sampled_from(every)))))
    there = [replace(e, in_use=e.in_use) for e in there]
    assert problems(KINDS, declared, there) == []
    planned = plan(KINDS, declared, there, prune=prune)

    # Broken off anywhere, the rest is still to do, in the same order, and everything in between is whole.
    for count in range(len(planned.steps) + 1):
        between = done(replace(planned, steps=planned.steps[:count]), there)
        keys = {e.key for e in between}
        for e in between:
            kind = BY_NAME[e.key.kind]
            assert all(key in keys for key in uses(kind, e))
            assert not kind.parent or parent_of(kind, e.key) in keys
        assert signs(plan(KINDS, declared, between, prune=prune)) == signs(planned)[count:]
    assert not [s for s in planned.steps if s.verb is Verb.REMOVE and (s.entry.in_use or not prune)]
    gone = {s.entry.key for s in planned.steps if s.verb is Verb.REMOVE}
    assert not gone & {e.key for e in file}
