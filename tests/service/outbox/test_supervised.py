"""`glad serve` runs an outbox where there is something to deliver."""

from __future__ import annotations

import base64
import gzip
import os
import signal
from pathlib import Path

import pytest

from glad_client.client import Client
from service.contract import State
from service.outbox.archive import FOLDER
from service.storage.artifacts import ArtifactStore
from tests.service.host.test_supervisor import serve
from tests.service.worker.conftest import png
from tests.support.processes import children_of, eventually, is_running
from tests.support.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def outbox_of(pid: int) -> int | None:
    """The outbox among the children of a supervisor."""
    return child_that_runs("service.outbox", pid)


def child_that_runs(module: str, pid: int) -> int | None:
    """The child of a supervisor whose command names this module; None before it has begun."""
    commands = {child: Path(f"/proc/{child}/cmdline") for child in children_of(pid)}
    return next((child for child, file in commands.items() if file.exists() and module in file.read_text()), None)


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


def test_only_the_outbox_gets_the_secrets_of_the_outbox(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "data" / "store")
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    served = serve(
        tmp_path,
        GLAD_WEBHOOK_URLS="https://mes.example/t0ken",
        GLAD_WEBHOOK_SECRET=secret,
        glad_mqtt_url="mqtt://127.0.0.1:1",  # settings are read in either case
        GLAD_MQTT_USERNAME="glad",
        GLAD_MQTT_PASSWORD="Sesame",
    )
    try:
        eventually(lambda: child_that_runs("service.worker", served.process.pid) is not None)
        outbox = outbox_of(served.process.pid)
        environments = {child: Path(f"/proc/{child}/environ").read_text() for child in children_of(served.process.pid)}
        for child, environment in environments.items():
            for word in (secret, "t0ken", "Sesame", "mqtt://"):
                assert (word in environment) == (child == outbox), Path(f"/proc/{child}/cmdline").read_text()
        # Outbox, API and worker have all the rest. Redis shows its title where its environment was.
        assert sum("GLAD_DEVICE" in environment for environment in environments.values()) == 3
        assert served.stop() == 0, served.text
    finally:
        served.process.kill()
        served.process.wait()


def test_wrong_settings_of_the_outbox_stop_the_start(tmp_path: Path) -> None:
    served = serve(tmp_path, GLAD_WEBHOOK_URLS="https://mes.example/t0ken")
    assert served.process.wait(60) == 1
    assert "GLAD_WEBHOOK_SECRET is not" in served.text
    assert "t0ken" not in served.text
    assert "Traceback" not in served.text
