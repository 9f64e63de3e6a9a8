"""Entry point: the commands and how their errors are told."""

from __future__ import annotations

import sys

from cyclopts import App

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
app.command("jobsphere.cli.up:up")
app.command("jobsphere.cli.client_env:client_env")
app.command("jobsphere.cli.demo:demo")
app.command("jobsphere.cli.project:app", name="project")
app.command("jobsphere.cli.environments:app", name="environments")


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
