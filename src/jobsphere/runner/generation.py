"""Which code a node's attempts are carried by.

A supervisor reads the plan that the server of its own code wrote: an older one would pass over what it does not know, a
step that the job needs. So each generation of code has its own spawner. After an update the older spawner carries on
with its jobs and goes when they have ended; whatever is launched from then on is launched by the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

_DIGITS = 12
_PACKAGE = Path(__file__).parent.parent


def generation_of(options: Sequence[str], package: Path = _PACKAGE) -> str:
    """A name for the installed code together with these options of its spawner; it changes when either does."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        status = path.stat()
        digest.update(f"{path.relative_to(package)} {status.st_size} {status.st_mtime_ns}\n".encode())
    digest.update("\0".join(options).encode())
    return digest.hexdigest()[:_DIGITS]
