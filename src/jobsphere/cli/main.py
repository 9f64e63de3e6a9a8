"""Entry point: the commands and how their errors are told.

The modules of the commands import the server only when they are called: ``--help`` and the small ones answer at once.
"""

from __future__ import annotations

import sys

from cyclopts import App

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
from jobsphere.cli.project import app as project
from jobsphere.cli.s3 import app as s3
from jobsphere.cli.secret import app as secret
from jobsphere.cli.token import app as token
from jobsphere.cli.up import up
from jobsphere.cli.user import app as user
from jobsphere.domain.errors import JobsphereError

app = App(
    name="jobsphere",
    help="""The DataSphere Jobs service in the open: run your config.yaml on your own machine.

Start a server with `jobsphere up`. In another terminal, point the vendor's client to it with
`eval "$(jobsphere client-env)"`, then use it as ever:
`datasphere project job execute -p "$JOBSPHERE_PROJECT" -c config.yaml`.

New here? `jobsphere demo` runs an example job and shows what happens.""",
    help_format="markdown",
)
app.command(up)
app.command(client_env)
app.command(demo)
app.command(project)
app.command(secret)
app.command(image)
app.command(dataset)
app.command(s3)
app.command(apply)
app.command(export)
app.command(community)
app.command(user)
app.command(token)
app.command(audit)
app.command(environments)
app.command(backup)
app.command(restore)
app.command(doctor)


def main() -> None:
    """Run a command. An expected error is one line on stderr and exit code 1; Ctrl-C is exit code 130."""
    try:
        app()
    except JobsphereError as e:
        sys.exit(f"jobsphere: {e.public}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
