"""Attempts on this machine: run directories below the data directory, supervisors forked by a spawner."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from jobsphere.domain.attempt import AttemptPlan
from jobsphere.domain.errors import UnavailableError
from jobsphere.runner import spawner
from jobsphere.runner.directories import NODE_LOG, SERVERS_OWN, RunDirectories, Takers
from jobsphere.runner.rundir import COLLECTED
from jobsphere.runner.spares import Spares

START_TIMEOUT_S = 20.0
_RETRY_S = 0.02


class LocalRunner(RunDirectories):
    """The :class:`jobsphere.domain.ports.Runner` of this machine. Made on the running event loop.

    Args:
        data_dir: Holds ``attempts/`` (run directories of attempts under way), ``ended/`` (those of tidied ones, with
            records and log) and ``run/``; all are made if they are not there.
        node: The name of the node.
        takers: Where what attempts made goes to.
        spawner_argv: Starts a spawner of this data directory that goes on in the background, exit code 0 when it (or
            another) is ready.
        generation: Whose spawner it is; see :mod:`jobsphere.runner.generation`. The same as ``spawner_argv`` says.
        environ: Variables for every supervisor; they may be secret, and no program of a job gets them.
    """

    def __init__(
        self,
        data_dir: Path,
        node: str,
        spawner_argv: Sequence[str],
        takers: Takers,
        environ: Mapping[str, str] | None = None,
        generation: str = "",
    ) -> None:
        super().__init__(data_dir, node, takers)
        self._environ = dict(environ or {})
        self._argv = tuple(spawner_argv)
        self._generation = generation
        self._asking = asyncio.Lock()
        self._channel: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._spares = Spares(str(self._attempts))  # nobody else makes or clears run directories in this folder

    async def close(self) -> None:
        """Let go of the spawner and the watches; the attempts go on."""
        await super().close()
        await self._spares.close()
        self._hang_up()

    def _spare(self) -> str | None:
        return self._spares.take()

    async def launch(self, plan: AttemptPlan) -> None:
        """See :meth:`jobsphere.domain.ports.Runner.launch`."""
        run, made = await self._make(plan)
        if not made and (run.has(COLLECTED) or run.is_locked()):
            return
        self._watch.add(run.path)
        await self._ask({"launch": run.path, "environ": self._environ})

    async def _ask(self, request: Mapping[str, object]) -> None:
        """Have the spawner do it; one that is gone is replaced. A repeated launch is harmless."""
        line = json.dumps(request).encode() + b"\n"
        until = time.monotonic() + START_TIMEOUT_S
        async with self._asking:
            while True:
                answer = await self._try_asking(line)
                if answer is not None:
                    break
                if time.monotonic() > until:
                    raise UnavailableError(f"node {self.node} starts no jobs at the moment; see its {NODE_LOG}")
                await self._start_spawner()
        if "pid" not in answer:
            raise UnavailableError(f"node {self.node} starts no jobs at the moment", answer=str(answer))

    async def _try_asking(self, line: bytes) -> dict[str, object] | None:
        try:
            reader, writer = self._channel or await self._dial()
            writer.write(line)
            await writer.drain()
            answer = await reader.readline()
            if answer:
                return json.loads(answer)
        except OSError:  # nobody listens, or the spawner went away: another is started
            pass
        except asyncio.CancelledError:
            self._hang_up()  # an answer may come that is nobody's
            raise
        self._hang_up()
        return None

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._channel = await asyncio.open_unix_connection(
            sock=spawner.connect(str(self._run_folder), self._generation)
        )
        return self._channel

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel[1].close()
            self._channel = None

    async def _start_spawner(self) -> None:
        code = await asyncio.to_thread(self._run_spawner)
        if code:
            raise UnavailableError(f"node {self.node} cannot start its supervisors; see its {NODE_LOG}", code=code)
        with suppress(OSError):
            await self._dial()
            return
        await asyncio.sleep(_RETRY_S)  # another spawner is just going away

    def _run_spawner(self) -> int:
        with open(self._run_folder / NODE_LOG, "ab") as log:
            done = subprocess.run(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
                env={name: value for name, value in os.environ.items() if name not in SERVERS_OWN},
            )
        return done.returncode
