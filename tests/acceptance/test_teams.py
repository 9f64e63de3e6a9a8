"""A team on one server: users with tokens and roles, their projects and communities, and who did what."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from yandex.cloud.datasphere.v2.project_service_pb2 import DeleteProjectRequest, GetProjectRequest
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub

from tests.acceptance.jobfiles import write_script
from tests.acceptance.test_sdk import python
from tests.grpc_client import Api
from tests.live import BIN, HANG_S, Client, LiveServer, live_server, wait_for

WITH_OWN_TOKEN = """
import sys
import yandexcloud
from yandex.cloud.datasphere.v2.project_service_pb2 import GetProjectRequest
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub

endpoint, ca, token, project = sys.argv[1:]
sdk = yandexcloud.SDK(endpoint=endpoint, root_certificates=open(ca, "rb").read(), token=token)
print(sdk.client(ProjectServiceStub).Get(GetProjectRequest(project_id=project)).name)
"""
TEAM = """
import sys
import yandexcloud
from yandex.cloud.access.access_pb2 import (
    ADD, AccessBinding, AccessBindingDelta, ListAccessBindingsRequest, SetAccessBindingsRequest, Subject,
    UpdateAccessBindingsRequest,
)
from yandex.cloud.datasphere.v2 import community_pb2, project_pb2
from yandex.cloud.datasphere.v2.community_service_pb2 import (
    CreateCommunityMetadata, CreateCommunityRequest, DeleteCommunityRequest, GetCommunityRequest,
    ListCommunitiesRequest, UpdateCommunityRequest,
)
from yandex.cloud.datasphere.v2.community_service_pb2_grpc import CommunityServiceStub
from yandex.cloud.datasphere.v2.project_service_pb2 import (
    CreateProjectMetadata, CreateProjectRequest, DeleteProjectRequest, GetProjectRequest, ListProjectsRequest,
    UpdateProjectRequest,
)
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub

endpoint, ca, token, account = sys.argv[1:]
sdk = yandexcloud.SDK(endpoint=endpoint, root_certificates=open(ca, "rb").read(), iam_token=token)
communities, projects = sdk.client(CommunityServiceStub), sdk.client(ProjectServiceStub)

def done(operation, response=None, meta=None):
    return sdk.wait_operation_and_get_result(operation, response_type=response, meta_type=meta, timeout=60)

made = done(communities.Create(CreateCommunityRequest(name="Cat lovers", labels={"a": "b"}, organization_id="org")),
            community_pb2.Community, CreateCommunityMetadata)
community = made.response
assert made.meta.community_id == community.id
assert (community.name, dict(community.labels), community.organization_id) == ("Cat lovers", {"a": "b"}, "org")
assert communities.Get(GetCommunityRequest(community_id=community.id)) == community
assert community.id in {c.id for c in communities.List(ListCommunitiesRequest(page_size=1000)).communities}

settings = project_pb2.Project.Settings(subnet_id="subnet", ide=project_pb2.Project.Settings.JUPYTER_LAB)
asked = CreateProjectRequest(community_id=community.id, name="cats", description="of cats", settings=settings)
made = done(projects.Create(asked), project_pb2.Project, CreateProjectMetadata)
project = made.response
assert (made.meta.project_id, project.community_id, project.settings) == (project.id, community.id, settings)
assert [p.id for p in projects.List(ListProjectsRequest(community_id=community.id)).projects] == [project.id]

update = UpdateProjectRequest(project_id=project.id, name="ignored", labels={"k": "v"})
update.update_mask.paths[:] = ["labels", "settings.subnet_id"]
update.settings.subnet_id = "other"
changed = done(projects.Update(update), project_pb2.Project).response
assert (changed.name, dict(changed.labels), changed.description) == ("cats", {"k": "v"}, "of cats")
assert (changed.settings.subnet_id, changed.settings.ide) == ("other", settings.ide)
whole = done(projects.Update(UpdateProjectRequest(project_id=project.id, name="dogs")), project_pb2.Project).response
assert (whole.name, whole.description, dict(whole.labels), whole.HasField("settings")) == ("dogs", "", {}, False)
renamed = UpdateCommunityRequest(community_id=community.id, name="Dog lovers")
renamed.update_mask.paths[:] = ["name"]
assert done(communities.Update(renamed), community_pb2.Community).response.name == "Dog lovers"

def binding(role):
    return AccessBinding(role_id=role, subject=Subject(id=account, type="userAccount"))

viewer, editor = (binding(f"datasphere.community-projects.{level}") for level in ("viewer", "editor"))
done(projects.SetAccessBindings(SetAccessBindingsRequest(resource_id=project.id, access_bindings=[viewer])))
delta = AccessBindingDelta(action=ADD, access_binding=editor)
done(projects.UpdateAccessBindings(UpdateAccessBindingsRequest(resource_id=project.id, access_binding_deltas=[delta])))
held = projects.ListAccessBindings(ListAccessBindingsRequest(resource_id=project.id)).access_bindings
assert list(held) == [editor, viewer], held
member = AccessBinding(role_id="datasphere.communities.viewer", subject=viewer.subject)
done(communities.SetAccessBindings(SetAccessBindingsRequest(resource_id=community.id, access_bindings=[member])))
held = communities.ListAccessBindings(ListAccessBindingsRequest(resource_id=community.id)).access_bindings
assert list(held) == [member]

done(projects.Delete(DeleteProjectRequest(project_id=project.id)))
done(communities.Delete(DeleteCommunityRequest(community_id=community.id)))
print("all done")
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that asks for tokens."""
    with live_server(tmp_path_factory.mktemp("teams") / "data", "--require-tokens") as running:
        yield running


class Desk:
    """The operator's commands, beside the running server."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def __call__(self, *args: object, code: int = 0) -> str:
        done = subprocess.run(
            [BIN / "jobsphere", *map(str, args), "--data-dir", self.server.data_dir],
            capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def json(self, *args: object) -> list[dict[str, str]]:
        return json.loads(self(*args, "--json"))

    def user(self, name: str) -> str:
        """A new user: their token."""
        self("user", "add", name)
        return self("token", "create", name, "--name", "laptop")

    def client(self, token: str) -> Client:
        """The vendor's CLI of somebody who has that token."""
        client = self.server.client()
        client.exports = {**client.exports, "YC_IAM_TOKEN": token}
        return client


@pytest.fixture
def desk(guarded: LiveServer) -> Desk:
    return Desk(guarded)


def test_a_users_life_through_the_vendors_client(desk: Desk, tmp_path: Path) -> None:
    token = desk.user("ann")
    client = desk.client(token)
    project = client.project
    folder = write_script(tmp_path / "job", "echo of ann")
    submit = ("project", "job", "execute", "-p", project, "-c", "config.yaml")

    assert "NOT_FOUND" in client.run("project", "get", "--id", project, cwd=tmp_path, code=1)
    desk("project", "grant", project, "ann", "viewer")
    wait_for(lambda: "default" in _run(client, "project", "get", "--id", project, cwd=tmp_path), "the role counts")
    assert "datasphere.community-projects.developer" in client.run(*submit, cwd=folder, code=1)
    desk("project", "grant", project, "ann", "developer")
    wait_for(lambda: "of ann" in _run(client, *submit, cwd=folder), "the greater role counts")
    (member, _) = desk.json("project", "members", project)
    assert member["name"] == "ann"

    # The client's own way: a long-lived token by -t, which it exchanges.
    without = Client({k: v for k, v in client.exports.items() if k != "YC_IAM_TOKEN"}, client.base)
    assert project in without.run("-t", token, "project", "get", "--id", project, cwd=tmp_path)
    ca = client.exports["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]
    endpoint = f"127.0.0.1:{desk.server.ports['grpc']}"
    assert python(client, WITH_OWN_TOKEN, endpoint, ca, token, project, cwd=tmp_path) == "default\n"

    (credential,) = desk.json("token", "list", "ann")
    desk("token", "revoke", credential["id"])
    get = ("project", "get", "--id", project)
    wait_for(lambda: "UNAUTHENTICATED" in _run(client, *get, cwd=tmp_path), "the token has ended")
    with_t = _run(without, "-t", token, *get, cwd=tmp_path)
    assert "UNAUTHENTICATED" in with_t, with_t
    assert "revoked" in with_t


def _run(client: Client, *args: str, cwd: Path) -> str:
    process = client.start(*args, cwd=cwd)
    out, _ = process.communicate(timeout=HANG_S)
    return out


def test_roles_end_with_their_revocation(desk: Desk, tmp_path: Path) -> None:
    client = desk.client(desk.user("bob"))
    community = desk.json("project", "list")[0]["community_id"]
    desk("community", "grant", community, "bob", "viewer")
    listing = ("project", "list", "-c", community)
    wait_for(lambda: client.project in _run(client, *listing, cwd=tmp_path), "the project is listed")
    desk("community", "revoke", community, "bob")
    wait_for(lambda: client.project not in _run(client, *listing, cwd=tmp_path), "the project is listed no more")
    desk("user", "remove", "bob")
    wait_for(lambda: "UNAUTHENTICATED" in _run(client, *listing, cwd=tmp_path), "the user is gone")


def test_the_sdk_makes_changes_and_deletes_a_team(desk: Desk, tmp_path: Path) -> None:
    desk.user("cat")
    account = next(a["id"] for a in desk.json("user", "list") if a["name"] == "cat")
    client = desk.server.client()
    endpoint = f"127.0.0.1:{desk.server.ports['grpc']}"
    ca, token = client.exports["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"], client.exports["YC_IAM_TOKEN"]
    assert "all done" in python(client, TEAM, endpoint, ca, token, account, cwd=tmp_path)


def test_a_project_goes_with_its_files_when_no_job_is_under_way(desk: Desk) -> None:
    operator = desk.server.client().exports["YC_IAM_TOKEN"]
    project = desk("project", "create", "short-lived", "--description", "soon gone")
    api = Api(desk.server.ports["grpc"], desk.server.data_dir / "tls" / "ca.pem", operator)
    projects = ProjectServiceStub(api.channel)
    ended = api.create(project, "echo done > out; exit 0", {"in.txt": b"bytes of a project"})
    api.execute(ended)
    api.wait(ended)
    job = api.create(project, "sleep 600")
    api.execute(job)
    assert job in desk("project", "delete", project, code=1)
    with pytest.raises(grpc.RpcError, match=job):
        api.call(projects.Delete, DeleteProjectRequest(project_id=project))
    api.cancel(job)
    api.wait(job)
    stored = api.call(projects.Get, GetProjectRequest(project_id=project))
    assert stored.description == "soon gone"

    late = api.create(project, "cat late.txt", {"late.txt": b"late"}, upload=False)
    url = _upload_url(api, project, b"later")
    desk("project", "delete", project)
    for job_id in (ended, job, late):
        with pytest.raises(grpc.RpcError, match="there is no job"):
            api.get(job_id)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(url, b"later", method="PUT"), timeout=HANG_S)
    data = desk.server.data_dir
    assert not (data / "blobs" / project).exists()
    assert not [p for folder in ("attempts", "ended") for p in (data / folder).iterdir() if ended in p.name]
    api.close()


def _upload_url(api: Api, project: str, content: bytes) -> str:
    from yandex.cloud.datasphere.v2.jobs import jobs_pb2
    from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

    from tests.grpc_client import file_of

    parameters = jobs_pb2.JobParameters(
        cmd="true", input_files=[file_of("x", content)], cloud_instance_types=[jobs_pb2.CloudInstanceType(name="c1.4")]
    )
    answer = pb.CreateProjectJobResponse()
    api.call(
        api.jobs.Create, pb.CreateProjectJobRequest(project_id=project, job_parameters=parameters)
    ).response.Unpack(answer)
    return answer.upload_files[0].url


def test_the_audit_log_tells_who_did_what_from_where(desk: Desk, tmp_path: Path) -> None:
    token = desk.user("dan")
    client = desk.client(token)
    desk("project", "grant", client.project, "dan", "developer")
    folder = write_script(tmp_path / "job", "echo of dan")
    submit = ("project", "job", "execute", "-p", client.project, "-c", "config.yaml")
    wait_for(lambda: "of dan" in _run(client, *submit, cwd=folder), "the role counts")

    by_dan = desk.json("audit", "--subject", "dan", "--project", client.project)
    assert {r["action"] for r in by_dan} >= {"ProjectJobService/Create", "ProjectJobService/Execute"}
    assert all(r["origin"].startswith("127.0.0.1:") for r in by_dan)
    assert {r["result"] for r in by_dan} == {"OK"} or {r["result"] for r in by_dan} == {"OK", "NOT_FOUND"}
    (created,) = [r for r in desk.json("audit", "--action", "*user add") if "name=dan" in r["target"]]
    assert (created["origin"], created["result"]) == ("command line", "OK")
    desk("project", "grant", "no-such-project", "dan", "viewer", code=1)
    assert desk.json("audit", "--action", "jobsphere project grant", "--limit", "1")[0]["result"] == "NOT_FOUND"
    assert desk.json("audit", "--since", "2099-01-01") == []
    assert "no time" in desk("audit", "--since", "yesterday", code=1)
    assert "ProjectJobService/Create" in desk("audit", "--subject", "dan")
    assert token not in desk("audit", "--limit", "1000", "--json")


def test_no_token_is_anywhere_in_clear(desk: Desk) -> None:
    token = desk.user("eve")
    assert token.startswith("jsp_")
    found = [
        path
        for path in (desk.server.data_dir, desk.server.data_dir.parent)
        for path in path.rglob("*")
        if path.is_file() and token.encode() in path.read_bytes()
    ]
    assert found == []
