"""A Spark Connect server on loopback, from the pyspark that the tests are installed with."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live import HANG_S, wait_for

_LISTENS = re.compile(r"SparkConnectService' on port (\d+)")


def lacking() -> str:
    """What is not installed here, and how it is; empty if all is there."""
    missing: list[str] = []
    if importlib.util.find_spec("pyspark") is None:
        missing.append("pyspark is not installed (tools/setup.sh --group spark)")
    if shutil.which("java") is None:
        missing.append("java is not installed (Debian: apt-get install openjdk-17-jre-headless)")
    return "; ".join(missing)


@contextmanager
def spark_connect(folder: Path) -> Iterator[str]:
    """A started server, as ``host:port``; its files and its log are in ``folder``."""
    spec = importlib.util.find_spec("pyspark")
    assert spec
    assert spec.origin
    folder.mkdir(parents=True)
    home, log = Path(spec.origin).parent, folder / "server.log"
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
    }
    command = [home / "sbin" / "start-connect-server.sh", "--master", "local[1]", "--driver-memory", "512m"]
    command += [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    environ = {"SPARK_HOME": str(home), "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": "127.0.0.1"}
    environ |= {"SPARK_LOG_DIR": str(folder), "SPARK_PID_DIR": str(folder)}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environ}, stdout=out, stderr=out, start_new_session=True
        )

    def listens() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return _LISTENS.search(log.read_text())

    try:
        yield f"127.0.0.1:{wait_for(listens, 'Spark Connect listens')[1]}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(HANG_S)
