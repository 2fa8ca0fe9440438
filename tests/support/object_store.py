"""An object store that speaks S3: moto's server in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.processes import eventually, free_port


class ObjectStore:
    """The server, which keeps everything in memory and can be killed as a whole."""

    def __init__(self, log: Path) -> None:
        self.port, self._log = free_port(), log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=output, stderr=output,
            )  # fmt: skip
        eventually(self._answers)

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[str]:
        """Method and path of every request so far, in their order."""
        return [line.split('"')[1].rpartition(" ")[0] for line in self._log.read_text().splitlines() if '"' in line]

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def credentials(url: str) -> dict[str, str]:
    """The environment that names an endpoint, as a deployment names it."""
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
