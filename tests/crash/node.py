"""The node's process whose supervisors can be killed at a durable step: ``python -m tests.crash.node FOLDER …``."""

from __future__ import annotations

import sys
from pathlib import Path

from jobsphere import durable, node
from tests.crash.killing import Killer

if __name__ == "__main__":
    durable.observe(Killer(Path(sys.argv[1]), "supervisor"))
    node.main(sys.argv[2:])
