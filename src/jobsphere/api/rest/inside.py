"""The API for this process's own pages: a call by the method's name, with JSON values, through the same handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobsphere.api.registrar import Registrar
from jobsphere.api.rest.call import Call
from jobsphere.api.rest.codec import Failed, message_of, values_of
from jobsphere.domain.errors import error_by_code


async def call_inside(
    registrar: Registrar, name: str, request: Mapping[str, Any], token: str | None, peername: Sequence[Any] | None
) -> dict[str, Any]:
    """Call ``Service/Method`` (it answers once) as whoever holds ``token``.

    Returns:
        The answer as JSON values.

    Raises:
        JobsphereError: as the method answers it.
    """
    service_name, _, method_name = name.partition("/")
    service = next(i.service for i in registrar.implementations if i.service.name == service_name)
    method = service.methods_by_name[method_name]
    call = Call(peername, f"Bearer {token}" if token else None)
    try:
        answer = await registrar.call(
            f"/{service.full_name}/{method_name}", message_of(method.input_type, dict(request)), call
        )
    except Failed as error:
        raise error_by_code(error.code.name, str(error)) from None
    assert answer is not None
    return values_of(method.output_type, answer)
