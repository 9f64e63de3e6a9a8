"""Entry point: the commands and how their errors are told.

The modules of the commands import the server only when they are called: ``--help`` and the small ones answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from cyclopts import App

from jobsphere.cli.agent import agent
from jobsphere.cli.apply import apply, export
from jobsphere.cli.audit import audit
from jobsphere.cli.backup import backup, restore
from jobsphere.cli.client_env import client_env
from jobsphere.cli.community import app as community
from jobsphere.cli.dataset import app as dataset
from jobsphere.cli.demo import demo
from jobsphere.cli.doctor import doctor
from jobsphere.cli.environments import app as environments
from jobsphere.cli.image import app as image
from jobsphere.cli.jobs import app as jobs
from jobsphere.cli.jobs import cancel, files, logs
from jobsphere.cli.node import app as node
from jobsphere.cli.project import app as project
from jobsphere.cli.run import fork, run
from jobsphere.cli.s3 import app as s3
from jobsphere.cli.secret import app as secret
from jobsphere.cli.spark import app as spark
from jobsphere.cli.token import app as token
from jobsphere.cli.up import up
from jobsphere.cli.user import app as user
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.text import readable

app = App(
    name="jobsphere",
    help="""The DataSphere Jobs service in the open: run your config.yaml on your own machine.

Start a server with `jobsphere up`. In another terminal, run a job with `jobsphere run config.yaml`; or point the
vendor's client to the server with `eval "$(jobsphere client-env)"`, then use it as ever:
`datasphere project job execute -p "$JOBSPHERE_PROJECT" -c config.yaml`.

New here? `jobsphere demo` runs an example job and shows what happens.""",
    help_format="markdown",
)
_GROUPS: dict[str, tuple[App | Callable[..., None], ...]] = {
    "Server": (up, demo, client_env, apply, export, audit, backup, restore, doctor, agent, node),
    "Jobs": (run, jobs, logs, cancel, fork, files),
    "Resources and people": (project, secret, image, dataset, s3, spark, environments, community, user, token),
}
for group, commands in _GROUPS.items():
    for command in commands:
        if isinstance(command, App):
            command.group = group
            app.command(command)
        else:
            app.command(command, group=group)
app.register_install_completion_command()


def main() -> None:
    """Run a command. An expected error is one line on stderr and exit code 1; Ctrl-C is exit code 130."""
    try:
        app()
    except JobsphereError as e:
        sys.exit(f"jobsphere: {readable(e.public)}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
