"""IamTokenService: a short-lived token for a long-lived one."""

from __future__ import annotations

from yandex.cloud.iam.v1 import iam_token_service_pb2 as pb

from jobsphere.api.registrar import Implementation
from jobsphere.api.wire import timestamp
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.resource import Subject
from jobsphere.service.identity import Identity

_KINDS = {"yandex_passport_oauth_token": "oauth", "jwt": "jwt"}


class IamTokenService:
    """The part of the published service of tokens that clients need."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def implementation(self) -> Implementation:
        """Create, which brings its own proof of who calls."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["IamTokenService"],
            {"Create": self.create},
            public=True,
            without={
                "CreateForServiceAccount": "a service account has tokens of its own (`jobsphere token create`)",
                "Revoke": "a short-lived token ends with its long-lived one; the operator ends that one by "
                "`jobsphere token revoke`",
            },
        )

    async def create(self, who: Subject, request: pb.CreateIamTokenRequest) -> pb.CreateIamTokenResponse:  # noqa: ARG002
        """A token for whoever the identity names."""
        given = request.WhichOneof("identity")
        if given is None:
            raise InvalidArgumentError("identity: is missing; send yandex_passport_oauth_token or jwt")
        token, expires_at = await self._identity.issue(getattr(request, given), _KINDS[given])
        return pb.CreateIamTokenResponse(iam_token=token, expires_at=timestamp(expires_at))
