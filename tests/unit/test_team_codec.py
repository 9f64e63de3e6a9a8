"""Projects and communities as messages, and what an update makes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import Int64Value
from yandex.cloud.datasphere.v2 import project_pb2
from yandex.cloud.datasphere.v2.community_service_pb2 import UpdateCommunityRequest
from yandex.cloud.datasphere.v2.project_service_pb2 import CreateProjectRequest, UpdateProjectRequest

from jobsphere.api.team_codec import (
    community_edit,
    decode_kept,
    decode_labels,
    encode_community,
    encode_project,
    project_edit,
)
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.resource import Community, Project

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
Settings, Limits = project_pb2.Project.Settings, project_pb2.Project.Limits
SETTINGS = Settings(subnet_id="net", security_group_ids=["a", "b"], vm_inactivity_timeout=Duration(seconds=60))
LIMITS = Limits(max_units_per_hour=Int64Value(value=5))
PROJECT = Project(
    "p" * 20, "one", "c" * 20, NOON, "ann", "what for", (("a", "1"), ("b", "2")),
    SETTINGS.SerializeToString(), LIMITS.SerializeToString(),
)  # fmt: skip
COMMUNITY = Community("c" * 20, "team", NOON, "ann", "what for", (("a", "1"),), "org", "zone")


def updated(request: UpdateProjectRequest, *paths: str) -> Project:
    request.update_mask.paths[:] = paths
    return project_edit(request)(PROJECT)


def test_all_of_a_project_is_published() -> None:
    message = encode_project(PROJECT)
    assert (message.id, message.name, message.community_id, message.created_by_id) == (
        PROJECT.id, "one", "c" * 20, "ann"
    )  # fmt: skip
    assert (message.description, dict(message.labels)) == ("what for", {"a": "1", "b": "2"})
    assert (message.settings, message.limits) == (SETTINGS, LIMITS)
    plain = encode_project(replace(PROJECT, settings=b"", limits=b"", labels=()))
    assert not plain.HasField("settings")
    assert not plain.HasField("limits")


def test_what_is_only_kept_comes_back_as_it_was_sent() -> None:
    request = CreateProjectRequest(settings=SETTINGS, labels={"b": "2", "a": "1"})
    assert Settings.FromString(decode_kept(request, "settings")) == SETTINGS
    assert decode_kept(request, "limits") == b""
    assert decode_labels(request.labels) == (("a", "1"), ("b", "2"))


def test_a_mask_changes_what_it_names_and_nothing_else() -> None:
    request = UpdateProjectRequest(name="two", description="", labels={"c": "3"})
    assert updated(request, "name") == replace(PROJECT, name="two")
    assert updated(request, "description") == replace(PROJECT, description="")
    assert updated(request, "labels") == replace(PROJECT, labels=(("c", "3"),))
    assert updated(request, "settings") == replace(PROJECT, settings=b"")


def test_a_mask_may_name_a_part_of_the_settings() -> None:
    request = UpdateProjectRequest(settings=Settings(subnet_id="other", security_group_ids=["c"]))
    new = Settings.FromString(updated(request, "settings.subnet_id", "settings.security_group_ids").settings)
    assert (new.subnet_id, list(new.security_group_ids)) == ("other", ["c"])
    assert new.vm_inactivity_timeout.seconds == 60


def test_without_a_mask_what_is_not_sent_becomes_empty() -> None:
    new = updated(UpdateProjectRequest(name="two", limits=LIMITS))
    assert new == replace(PROJECT, name="two", description="", labels=(), settings=b"")


@pytest.mark.parametrize("path", ["id", "community_id", "project_id", "nothing", "settings.nothing", "", "name.x"])
def test_what_cannot_be_changed_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name, description, labels, settings, limits"):
        updated(UpdateProjectRequest(), path)


def test_communities_are_changed_alike() -> None:
    message = encode_community(COMMUNITY)
    assert (message.name, message.organization_id, message.zone_id) == ("team", "org", "zone")
    request = UpdateCommunityRequest(name="new", labels={"z": "9"})
    assert community_edit(request)(COMMUNITY) == replace(COMMUNITY, name="new", description="", labels=(("z", "9"),))
    request.update_mask.paths[:] = ["labels"]
    assert community_edit(request)(COMMUNITY) == replace(COMMUNITY, labels=(("z", "9"),))
    request.update_mask.paths[:] = ["organization_id"]
    with pytest.raises(InvalidArgumentError, match="name, description, labels"):
        community_edit(request)
