"""Which method a request is for: routes made of the descriptors' ``google.api.http`` options.

Some published methods have no such option, all of the jobs' among them: :data:`UNPUBLISHED` gives them one here, in the
manner of those that have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from urllib.parse import unquote

from google.api.annotations_pb2 import http
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

_JOBS = "/datasphere/v2/jobs/{job_id}"
_PROJECT = "/datasphere/v2/projects/{project_id}"
UNPUBLISHED: Mapping[str, HttpRule] = {
    "ProjectJobService/Create": HttpRule(post=f"{_PROJECT}/jobs", body="*"),
    "ProjectJobService/List": HttpRule(get=f"{_PROJECT}/jobs"),
    "ProjectJobService/DeleteAllData": HttpRule(post=f"{_PROJECT}/jobs:deleteData", body="*"),
    "ProjectJobService/Get": HttpRule(get=_JOBS),
    "ProjectJobService/Delete": HttpRule(delete=_JOBS),
    "ProjectJobService/Clone": HttpRule(post="/datasphere/v2/jobs/{source_job_id}:clone", body="*"),
    "ProjectJobService/Execute": HttpRule(post=f"{_JOBS}:execute", body="*"),
    "ProjectJobService/Cancel": HttpRule(post=f"{_JOBS}:cancel", body="*"),
    "ProjectJobService/DeleteData": HttpRule(post=f"{_JOBS}:deleteData", body="*"),
    "ProjectJobService/SetDataTtl": HttpRule(post=f"{_JOBS}:setDataTtl", body="*"),
    "ProjectJobService/DownloadJobFiles": HttpRule(post=f"{_JOBS}:downloadFiles", body="*"),
    "ProjectJobService/ReadLogs": HttpRule(get=f"{_JOBS}/logs"),
    "ProjectJobService/ReadStdLogs": HttpRule(get=f"{_JOBS}/stdLogs"),
    "DockerImageV2Service/SetActive": HttpRule(post="/datasphere/v2/docker/{image_id}:setActive", body="*"),
    "ProjectService/ResizeDisk": HttpRule(post=f"{_PROJECT}:resizeDisk", body="*"),
}
_PLACE = re.compile(r"\{([a-z_]+)\}")
_VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True)
class Route:
    """One way to call a method. ``template`` holds the names of fields in braces; ``body``: whether there is one."""

    method: MethodDescriptor
    verb: str
    template: str
    body: bool

    @cached_property
    def fields(self) -> list[str]:
        """The fields of the request that stand in the path."""
        return _PLACE.findall(self.template)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What paths it is for. A value in a path is never empty and holds no slash, nor a colon that is not quoted."""
        parts = _PLACE.split(self.template)
        return re.compile("".join(f"(?P<{p}>[^/:]+)" if i % 2 else re.escape(p) for i, p in enumerate(parts)))

    @property
    def path(self) -> str:
        """The method's path in gRPC."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


class Routes:
    """All routes of some services."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        found = [route for service in services for method in service.methods for route in _routes(method)]
        # A name that is written out goes before a place that would take it too.
        self.all = sorted(found, key=lambda route: len(route.fields))

    def find(self, verb: str, raw_path: str) -> tuple[Route | None, dict[str, str], list[str]]:
        """The route of a request and the values in its path; else the verbs that the path has.

        ``raw_path`` is as it travelled: a quoted slash is no slash.
        """
        verbs: list[str] = []
        for route in self.all:
            match = route.pattern.fullmatch(raw_path)
            if match and route.verb == verb:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}, []
            if match:
                verbs.append(route.verb)
        return None, {}, verbs


def _routes(method: MethodDescriptor) -> Iterator[Route]:
    published: HttpRule = cast(Any, method.GetOptions().Extensions)[http]
    name = f"{method.containing_service.name}/{method.name}"
    rule = published if published.WhichOneof("pattern") else UNPUBLISHED.get(name)
    for each in (rule, *rule.additional_bindings) if rule else ():
        verb = each.WhichOneof("pattern")
        if verb in _VERBS:
            yield Route(method, verb.upper(), getattr(each, verb), bool(each.body))
