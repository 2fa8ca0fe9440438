"""docs/backup.md as a person follows it: a service under load is backed up, lost, and restored."""

from __future__ import annotations

import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glad_client.client import Client
from glad_client.errors import ApiError
from service.contract import State
from service.host.private_redis import redis_url, socket_path
from service.queue import keys
from service.queue.connection import connect
from tests.service.host.test_supervisor import serve
from tests.service.worker.conftest import png
from tests.support.processes import eventually, is_running
from tests.support.shell import shell, shell_blocks
from tests.support.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


class Load(threading.Thread):
    """A camera that posts without a pause until it is stopped or the service is gone; notes what was accepted."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._stopped = url, threading.Event()
        self.accepted: list[str] = []

    def run(self) -> None:
        with Client(self._url) as client:
            while not self._stopped.is_set():
                self.accepted.append(client.submit("toy", png(len(self.accepted))).id)
                self._stopped.wait(0.1)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def stored_events(data: Path) -> list[tuple[str, str]]:
    """Event id and inspection of every event."""
    with connect(redis_url(socket_path(data))) as client:
        rows: Any = client.xrange(keys.EVENTS)
    return [(event, fields["id"]) for event, fields in rows]


def test_what_was_accepted_before_a_backup_under_load_ends_once_after_the_restore(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    backup, check, restore = shell_blocks("backup.md")
    data, lost = tmp_path / "data", tmp_path / "lost"
    env = {"BACKUPS": str(tmp_path / "backups"), "DATA": str(data)}
    make_tiny_bundle(data / "store")
    first = serve(tmp_path)
    request.addfinalizer(first.process.kill)
    first.wait_for_banner()
    load = Load(first.url)
    load.start()
    eventually(lambda: len(load.accepted) >= 12 and bool(stored_events(data)))
    before = list(load.accepted)
    shell(backup, tmp_path, GLAD_DATA_DIR=str(data), **env)
    after_first = len(load.accepted)
    eventually(lambda: len(load.accepted) > after_first)
    load.stop()
    last_seen = stored_events(data)[-1][0]
    first.stop(signal.SIGKILL)
    eventually(lambda: not any(map(is_running, first.known)))
    shutil.move(data, lost)

    shell(check, tmp_path, **env)
    shell(restore, tmp_path, **env)
    second = serve(tmp_path)
    request.addfinalizer(second.process.kill)
    second.wait_for_banner()
    with Client(second.url) as client:
        for number, name in enumerate(before):
            result = client.wait(name, 120)
            assert result.state is State.DONE
            assert client.artifact(name, "image") == png(number)
            assert client.artifact(name, "overlay.png").startswith(b"\x89PNG")
        with pytest.raises(ApiError, match="no inspection"):
            client.get(load.accepted[-1])
        new = client.submit("toy", png(1000), wait_s=30)
        history = [one.id for one in client.history()]
        told = client.events(last_event_id=last_seen)  # of a reader that followed until the end of the first service
        assert any(event.data.get("inspection_id") == new.id for event in told)
    assert set(before) | {new.id} <= set(history)
    assert len(history) == len(set(history))
    assert set(Counter(name for _, name in stored_events(data)).values()) == {1}
    assert second.stop() == 0, second.text
