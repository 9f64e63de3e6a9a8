"""Which nodes are to have an agent: stored before Ray is asked for it, in ``ray/`` of the shared folder.

::

    ray/ID.node       the name of the node that Ray knows by this id
    ray/marked        there was a node with the custom resource: from then on only such nodes get agents
    ray/agent.toml    the settings of all agents

Whatever crashes after that, the agent is looked for under this id, and there is one at most.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from jobsphere.durable import Point, durable, locked, sync_directory, write_private

FOLDER = "ray"
"""In the shared folder."""
SETTINGS = "agent.toml"
_MARKED = "marked"
_END = ".node"


class Intentions:
    """See above. Everything here blocks."""

    def __init__(self, shared: Path) -> None:
        self._folder = shared / FOLDER
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def settings(self) -> Path:
        """The file with the settings of all agents."""
        return self._folder / SETTINGS

    @property
    def only_marked(self) -> bool:
        """Whether :meth:`mark` was ever called."""
        return (self._folder / _MARKED).exists()

    def mark(self) -> None:
        """Some nodes are meant for jobs and others are not, whether or not one of those is alive."""
        if not self.only_marked:
            self._write(_MARKED, "")

    def all(self) -> Mapping[str, str]:
        """Names by Ray's ids."""
        files = (self._folder / name for name in sorted(os.listdir(self._folder)) if name.endswith(_END))
        return {file.name.removesuffix(_END): file.read_text().strip() for file in files}

    def intend(self, ray_id: str, name: str) -> None:
        """From now on an agent may be there."""
        self._write(f"{ray_id}{_END}", f"{name}\n")

    def drop(self, ray_id: str) -> None:
        """No agent is there any more, and what is to be said of it was said."""
        with durable(Point.RAY_INTENDED):
            (self._folder / f"{ray_id}{_END}").unlink(missing_ok=True)
        sync_directory(self._folder, Point.RAY_INTENDED)

    def configure(self, settings: str) -> None:
        """Give all agents these settings, as TOML: each reads them when it starts."""
        if not self.settings.exists() or self.settings.read_text() != settings:
            self._write(SETTINGS, settings)

    def _write(self, name: str, text: str) -> None:
        with locked(self._folder):
            write_private(self._folder / name, text.encode(), Point.RAY_INTENDED)
