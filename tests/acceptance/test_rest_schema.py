"""What the OpenAPI document says, against a real server: requests made of it, and each answer held to it."""

from __future__ import annotations

import os

import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.live import LiveServer

SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
"""Not among them: that all that breaks the schema is refused (protobuf's JSON takes null, and numbers as text), and that
all that keeps it is accepted (limits of jobs are rules that no schema says)."""
NOT_HERE = 501


def test_every_operation_keeps_to_the_document(server: LiveServer) -> None:
    url = f"http://127.0.0.1:{server.ports['http']}/openapi.json"
    schema = schemathesis.openapi.from_url(url)
    failures: list[str] = []
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        count += 1

        @seed(8)
        @settings(
            max_examples=200 if SOAK else 4,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @schemathesis.pytest.given(case=operation.as_strategy()) if False else _given(operation)
        def check(case: schemathesis.Case) -> None:
            response = case.call()
            checks = [c for c in CHECKS if not (c is not_a_server_error and response.status_code == NOT_HERE)]
            case.validate_response(response, checks=checks)

        try:
            check()
        except Exception as error:  # noqa: BLE001
            failures.append(f"{operation.label}: {error}")
    assert not failures, "\n".join(failures)
    assert count > 40
