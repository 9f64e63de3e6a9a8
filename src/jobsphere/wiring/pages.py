"""What the pages of a server are put together from."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from jobsphere.api.registrar import Registrar
from jobsphere.config import Settings
from jobsphere.domain.capacity import GIB
from jobsphere.domain.resource import Subject
from jobsphere.environments.eviction import stored_environments
from jobsphere.runner.image_eviction import pulled_images
from jobsphere.service.board import Board
from jobsphere.service.connectors import Connectors
from jobsphere.service.images import ImageResources
from jobsphere.service.resources import Backing
from jobsphere.service.secrets import Secrets
from jobsphere.service.sparks import Sparks
from jobsphere.store.finding import SqlJobFinder
from jobsphere.web.pages import Behind, Leader, PagesMount
from jobsphere.wiring.adapters import Adapters
from jobsphere.wiring.desk import audited
from jobsphere.wiring.usecases import UseCases


def pages_of(
    settings: Settings,
    data_dir: Path,
    adapters: Adapters,
    cases: UseCases,
    registrar: Registrar,
    leader: Callable[[], Awaitable[Leader | None]],
) -> PagesMount:
    """The pages over a server's use cases; what they change goes through the handlers of ``registrar``."""
    store, desk, services, keys = adapters.store, cases.desk, cases.services, adapters.keys
    backing = Backing(store.resources, store, desk.access, adapters.clock, adapters.ids)

    async def call(
        name: str, request: Mapping[str, Any], token: str | None, peername: Sequence[Any] | None
    ) -> dict[str, Any]:
        from jobsphere.api.rest.inside import call_inside

        return await call_inside(registrar, name, request, token, peername)

    def audit(
        who: Subject, action: str, ids: Sequence[tuple[str, str]], origin: str
    ) -> AbstractAsyncContextManager[None]:
        return audited(desk, action, ids, who, origin)

    return PagesMount(
        Behind(
            services.identity,
            Board(store, store.beside(SqlJobFinder), desk.access, desk.account_store, adapters.types),
            services.logs,
            desk.communities,
            Secrets(backing, keys),
            ImageResources(backing, keys),
            services.datasets,
            Connectors(backing),
            Sparks(backing),
            desk.audit,
            call,
            audit,
            lambda: stored_environments(data_dir),
            int(settings.environment_cache_gb * GIB),
            lambda: pulled_images(data_dir),
            int(settings.image_cache_gb * GIB),
            leader,
            hmac.new(adapters.key, b"pages", hashlib.sha256).digest(),
            settings.tokens_required,
        )
    )
