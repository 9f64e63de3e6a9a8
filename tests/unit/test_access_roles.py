"""The vendor's roles and what they amount to."""

from __future__ import annotations

import pytest

from jobsphere.domain.access import ROLES, Action, Level, Role, Scope, on_community, on_project, role_named
from jobsphere.domain.errors import InvalidArgumentError

PROJECT = {level: Role(Scope.PROJECT, level) for level in Level}
COMMUNITY = {level: Role(Scope.COMMUNITY, level) for level in Level}


def test_the_roles_are_those_of_the_vendor() -> None:
    names = ("viewer", "developer", "editor", "admin")
    expected = {f"datasphere.{scope}.{name}" for scope in ("community-projects", "communities") for name in names}
    assert set(ROLES) == expected
    assert all(role.id == name for name, role in ROLES.items())


@pytest.mark.parametrize(
    ("own", "of_community", "level"),
    [
        ([], [], Level.NONE),
        ([Level.DEVELOPER], [], Level.DEVELOPER),
        ([Level.DEVELOPER, Level.VIEWER], [], Level.DEVELOPER),
        ([], [COMMUNITY[Level.VIEWER]], Level.VIEWER),
        ([], [COMMUNITY[Level.DEVELOPER]], Level.VIEWER),
        ([], [COMMUNITY[Level.EDITOR]], Level.EDITOR),
        ([], [COMMUNITY[Level.ADMIN]], Level.ADMIN),
        ([], [PROJECT[Level.DEVELOPER]], Level.DEVELOPER),
        ([Level.EDITOR], [COMMUNITY[Level.DEVELOPER]], Level.EDITOR),
        ([Level.VIEWER], [COMMUNITY[Level.DEVELOPER], PROJECT[Level.ADMIN]], Level.ADMIN),
    ],
)
def test_the_greatest_role_counts_on_a_project(own: list[Level], of_community: list[Role], level: Level) -> None:
    assert on_project([PROJECT[x] for x in own], of_community) is level


def test_a_role_about_projects_is_none_on_their_community() -> None:
    assert on_community([PROJECT[Level.ADMIN]]) is Level.NONE
    assert on_community([PROJECT[Level.ADMIN], COMMUNITY[Level.VIEWER]]) is Level.VIEWER


def test_every_action_takes_a_role_and_greater_ones_include_it() -> None:
    for action in Action:
        assert action.least is not Level.NONE
        assert not action.allowed(Level.NONE)
        assert [action.allowed(level) for level in Level] == [level >= action.least for level in Level]
        assert action.role.id in ROLES
    assert len({action.words for action in Action}) == len(Action)


@pytest.mark.parametrize(
    ("text", "scope", "role"),
    [
        ("viewer", Scope.PROJECT, PROJECT[Level.VIEWER]),
        ("viewer", Scope.COMMUNITY, COMMUNITY[Level.VIEWER]),
        ("datasphere.community-projects.editor", Scope.COMMUNITY, PROJECT[Level.EDITOR]),
        ("datasphere.communities.admin", Scope.COMMUNITY, COMMUNITY[Level.ADMIN]),
    ],
)
def test_a_role_is_named_in_full_or_by_its_level(text: str, scope: Scope, role: Role) -> None:
    assert role_named(text, scope) == role


@pytest.mark.parametrize("text", ["", "owner", "none", "NONE", "Viewer", "datasphere.communities.viewer", "editor "])
def test_any_other_role_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"datasphere\.community-projects\.admin") as caught:
        role_named(text, Scope.PROJECT)
    assert "communities." not in caught.value.public.partition("there are:")[2]
