"""The process that owns this machine's supervisors: ``python -m jobsphere.node --data-dir DIR``.

Started by the local runner; goes on in the background when it is ready to launch attempts. Imports the standard library
and what a supervisor needs, and no more: every supervisor is a fork of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from jobsphere.blob.cache import used
from jobsphere.blob.durable import set_aside
from jobsphere.blob.paths import BLOBS, BUCKET_VARIABLE, CACHE, blob_path
from jobsphere.domain.errors import NotFoundError
from jobsphere.domain.ports import EnvironmentBuilder
from jobsphere.runner import spawner
from jobsphere.runner.bench import Bench
from jobsphere.runner.bringing import bring_inputs
from jobsphere.runner.supervisor import Supervisor


def main(argv: list[str] | None = None) -> None:
    """Serve launches for a data directory until there is nothing left to do."""
    parser = argparse.ArgumentParser(prog="python -m jobsphere.node", description="Carries the jobs of this machine.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--idle", type=float, default=spawner.IDLE_S, help="seconds to stay with nothing to do")
    parser.add_argument(
        "--python-search-path", action="append", default=[], help="a folder to look for interpreters in first"
    )
    parser.add_argument("--conda-channel-alias", default="", help="the URL that conda channels are folders of")
    parser.add_argument("--working-storage", type=Path, help="the folder of jobs with extended working storage")
    parser.add_argument("--generation", default="", help="the code that this is, by the server's name for it")
    parser.add_argument("--shared-dir", type=Path, help="the folder of keys and of blobs that are in no bucket")
    options = parser.parse_args(argv)
    data = options.data_dir.resolve()
    shared = (options.shared_dir or data).resolve()
    volume = options.working_storage or data / "storage"

    def blobs() -> Path:
        """Where they are for this supervisor: of a bucket, the copies that are here."""
        return data / CACHE if BUCKET_VARIABLE in os.environ else shared / BLOBS

    def source(project_id: str, sha256: str) -> Path:
        path = blob_path(blobs(), project_id, sha256)
        if not path.is_file():
            raise NotFoundError("its bytes are not stored any more; create the job again to upload them")
        return path

    def condemn(project_id: str, sha256: str) -> None:
        set_aside(blobs(), project_id, sha256)

    def bring(bench: Bench) -> None:
        if BUCKET_VARIABLE in os.environ:
            argv = [sys.executable, "-I", "-m", "jobsphere.blob.fetch", str(blobs())]
            bring_inputs(bench, lambda project_id, sha256: used(blob_path(blobs(), project_id, sha256)), argv)

    def builder() -> EnvironmentBuilder:
        # A plain job never pays for it.
        from jobsphere.environments.cache import DEFAULT_ALIAS, DEFAULT_SEARCH_PATH, open_builder

        search_path = [*options.python_search_path, *DEFAULT_SEARCH_PATH]
        return open_builder(data, search_path, options.conda_channel_alias or DEFAULT_ALIAS)

    def unseal(project_id: str, sealed: str) -> str:
        from jobsphere.secretbox import Keys  # only who has secrets pays for it

        return Keys.of_node(shared, os.environ).box().open(project_id, sealed)

    supervisor = Supervisor(source, builder, unseal, str(volume), condemn, bring)
    spawner.serve(str(data / "run"), supervisor.carry, options.idle, options.generation)


if __name__ == "__main__":
    main()
