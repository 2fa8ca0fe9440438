"""`glad serve` runs an outbox where there is something to deliver."""

from __future__ import annotations

import gzip
import os
import signal
from pathlib import Path

from service.artifacts import ArtifactStore
from service.client import Client
from service.contract import State
from service.outbox.archive import FOLDER
from tests.service.test_supervisor import serve
from tests.service.worker.conftest import png
from tests.support.processes import children_of, eventually, is_running
from tests.support.tiny_bundle import make_tiny_bundle


def outbox_of(pid: int) -> int | None:
    """The outbox among the children of a supervisor."""
    commands = {child: Path(f"/proc/{child}/cmdline") for child in children_of(pid)}
    found = (child for child, file in commands.items() if file.exists() and "service.outbox" in file.read_text())
    return next(found, None)


def test_an_outbox_runs_is_replaced_and_drained_with_the_rest(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "data" / "store")
    served = serve(tmp_path, GLAD_ARCHIVE="on", GLAD_ARCHIVE_EVERY_S="0.2", GLAD_LEASE_MS="1500")
    try:
        served.wait_for_banner()
        assert "starting the outbox" in served.text
        first = outbox_of(served.process.pid)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with Client(served.url) as client:
            result = client.submit("toy", png(1), wait_s=30)
        assert result.state is State.DONE
        folder = ArtifactStore(tmp_path / "data" / "artifacts").folder(FOLDER)
        eventually(lambda: result.id in "".join(gzip.decompress(folder.get(name)).decode() for name in folder.names()))
        known = children_of(served.process.pid)
        assert len(known) == 4
        assert first not in known
        assert served.stop() == 0, served.text
        assert not any(map(is_running, known))
    finally:
        served.process.kill()
        served.process.wait()


def test_wrong_settings_of_the_outbox_stop_the_start(tmp_path: Path) -> None:
    served = serve(tmp_path, GLAD_WEBHOOK_URLS="https://mes.example/t0ken")
    assert served.process.wait(60) == 1
    assert "GLAD_WEBHOOK_SECRET is not" in served.text
    assert "t0ken" not in served.text
    assert "Traceback" not in served.text
