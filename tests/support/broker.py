"""A real MQTT broker: Debian's mosquitto on a free port, and a subscriber that remembers what it was sent."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import trustme
from paho.mqtt.enums import CallbackAPIVersion

from service.host.child_process import Child
from tests.support.processes import eventually, free_port


@dataclass(frozen=True)
class Published:
    """One message as a subscriber got it."""

    topic: str
    payload: bytes
    qos: int


class Broker:
    """A broker that a test may kill, pause and start again."""

    def __init__(self, folder: Path, *lines: str, port: int) -> None:
        binary = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
        if binary is None:
            pytest.skip("no MQTT broker is installed: apt-get install mosquitto")
        self.port = port
        folder.mkdir(parents=True, exist_ok=True)
        config, self.log = folder / "mosquitto.conf", folder / "mosquitto.log"
        # As root it would else give its rights up, and then not read the test's files.
        basis = (f"listener {port} 127.0.0.1", "persistence false", "user root")
        config.write_text("\n".join((*basis, *lines, "")))
        self.child = Child("mosquitto", [binary, "-c", str(config)], log=self.log)

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self.child.start()
        eventually(self._listens)

    def _listens(self) -> bool:
        assert self.child.running, self.log.read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


@contextmanager
def broker(folder: Path, *lines: str, port: int | None = None) -> Iterator[Broker]:
    """A running broker with these lines in its configuration."""
    made = Broker(folder, *lines, port=port or free_port())
    made.start()
    try:
        yield made
    finally:
        made.child.kill()


class Subscriber:
    """Gets everything on some topics with QoS 1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._got: list[Published] = []

    @property
    def got(self) -> list[Published]:
        """All so far."""
        with self._lock:
            return list(self._got)

    def take(self, topic: str, payload: bytes, qos: int) -> None:
        """One comes in."""
        with self._lock:
            self._got.append(Published(topic, payload, qos))


@contextmanager
def subscribed(
    port: int, topic: str, *, authority: trustme.CA | None = None, user: tuple[str, str] | None = None
) -> Iterator[Subscriber]:
    """A subscriber whose subscription the broker has confirmed."""
    subscriber, confirmed = Subscriber(), threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: subscriber.take(
        message.topic, bytes(message.payload), message.qos
    )

    def subscribe(made: paho.Client, *_rest: object) -> None:
        made.subscribe(topic, qos=1)

    client.on_connect, client.on_subscribe = subscribe, lambda *_all: confirmed.set()
    if authority is not None:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        client.tls_set_context(context)
    if user is not None:
        client.username_pw_set(*user)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert confirmed.wait(30)
        yield subscriber
    finally:
        client.disconnect()
        client.loop_stop()
