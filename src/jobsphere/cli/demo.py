"""``jobsphere demo``: a private server, one job through the vendor's own client, and what came of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobsphere.domain.errors import FailedPreconditionError

if TYPE_CHECKING:
    from rich.console import Console

_CONFIG = """\
name: jobsphere-demo
desc: Counts the words of a text
cmd: bash count.sh ${TEXT} ${COUNTS} ${TOP}
args:
  TOP: "3"
inputs:
  - count.sh
  - text.txt: TEXT
outputs:
  - counts.txt: COUNTS
env:
  vars:
    - GREETING: hello from the job
"""
_SCRIPT = """\
echo "$GREETING, running in $PWD"
tr -cs 'a-z' '\\n' < "$1" | sort | uniq -c | sort -rn | head -n "$3" > "$2"
echo "counted $(wc -w < "$1") words"
"""
_TEXT = "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs off\n"
_STOP_S = 30


def demo(*, keep: bool = False) -> None:
    """Run an example job on a private server with the vendor's CLI, and show its log and output.

    Nothing is left behind: the server, its data and the example live in a temporary folder.

    Parameters
    ----------
    keep
        Keep the folder, and say where it is.
    """
    from rich.console import Console

    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="jobsphere-demo-"))
    try:
        _run(console, folder)
    finally:
        if keep:
            console.print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder)


def _run(console: Console, folder: Path) -> None:
    example = folder / "example"
    example.mkdir()
    for name, text in (("config.yaml", _CONFIG), ("count.sh", _SCRIPT), ("text.txt", _TEXT)):
        (example / name).write_text(text)
    from rich.panel import Panel
    from rich.rule import Rule
    from rich.syntax import Syntax

    console.print(Rule("1. A job, as its config.yaml says it"))
    console.print(Panel(Syntax(_CONFIG.rstrip(), "yaml", background_color="default")))
    console.print(Rule("2. A private server"))
    with ExitStack() as stack:
        with console.status("starting …"):
            ready = stack.enter_context(_server(folder / "data"))
        console.print(ready, soft_wrap=True)
        environ = _client_env(folder / "data")
        command = ["datasphere", "project", "job", "execute", "-p", environ["JOBSPHERE_PROJECT"], "-c", "config.yaml"]
        console.print(Rule("3. The vendor's client runs it"))
        console.print(f"[bold]$ {' '.join(command)}[/]", soft_wrap=True)
        code = subprocess.run(
            [_beside("datasphere"), *command[1:]], cwd=example, env={**os.environ, **environ}, check=False
        ).returncode
        if code != 0:
            raise FailedPreconditionError(f"the client ended with exit code {code}; its words are above")
    console.print(Rule("4. Its output came back: counts.txt"))
    console.print((example / "counts.txt").read_text().rstrip())
    console.print(Rule("Done"))
    console.print('Your turn: `jobsphere up`, and in another terminal `eval "$(jobsphere client-env)"`.')


@contextmanager
def _server(data: Path) -> Generator[str]:
    """A server on free ports while the block runs; gives its ready line."""
    command = [sys.executable, "-m", "jobsphere.cli.main", "up", "--data-dir", str(data)]
    command += ["--grpc-port", "0", "--proxy-port", "0", "--http-port", "0"]
    with (data.parent / "server.log").open("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            line = process.stdout.readline().strip() if process.stdout else ""
            if not line:
                errors.seek(0)
                raise FailedPreconditionError(f"the server did not start:\n{errors.read()}")
            yield line
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _client_env(data: Path) -> Mapping[str, str]:
    command = [sys.executable, "-m", "jobsphere.cli.main", "client-env", "--offline", "--json", "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FailedPreconditionError(done.stderr.strip())
    return json.loads(done.stdout)


def _beside(program: str) -> str:
    """A program of the same installation as this Python."""
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        raise FailedPreconditionError(f"{program} is not installed; `pip install {program}` brings it")
    return path
