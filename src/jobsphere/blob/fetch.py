"""Brings blobs from the bucket to this host: a program of its own, which a supervisor runs.

``python -m jobsphere.blob.fetch CACHE PROJECT SHA256…``, with the place of the bucket, keys and all, in the variable
``JOBSPHERE_BUCKET``. It writes what is wrong to stdout; the code says whether anything is.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from jobsphere.blob.bucket import BucketBlobStore
from jobsphere.blob.objects import Place
from jobsphere.blob.paths import BUCKET_VARIABLE
from jobsphere.domain.errors import JobsphereError, UnavailableError

PATIENCE = timedelta(minutes=5)
"""How long a job waits for a bucket that cannot be reached."""
_AT_ONCE = 4


async def fetch(place: Place, cache: Path, project_id: str, sha256s: Sequence[str]) -> None:
    """Bring them all, verified.

    Raises:
        NotFoundError, CorruptedError, ResourceExhaustedError, UnavailableError: one of them cannot be had.
    """
    store = BucketBlobStore(place.open(PATIENCE), cache, _nobody)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def bring(sha256: str) -> None:
        async with turns:
            await store.read(project_id, sha256)

    done = await asyncio.gather(*map(bring, sha256s), return_exceptions=True)
    for error in filter(None, done):
        raise error


async def _nobody() -> Sequence[str]:
    raise UnavailableError("a program that reads does not remove")


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    cache, project_id, *sha256s = argv
    place = Place.of(os.environ.pop(BUCKET_VARIABLE))
    try:
        asyncio.run(fetch(place, Path(cache), project_id, sha256s))
    except JobsphereError as error:
        print(error.public)  # noqa: T201
        return 1
    except OSError as error:
        print(error.strerror or error)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads of the library are not always through with their work: see objects.py
