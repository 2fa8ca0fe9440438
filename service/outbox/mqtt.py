"""MQTT: each event is published with QoS 1 on its station's topic, in order, until the broker has acknowledged it.

A connection that failed is closed together with the messages that it still held, so that the library sends nothing
later by itself. Events that the broker did not acknowledge are published again on a new connection.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import structlog
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from service.host.child_process import Backoff
from service.outbox.relay import DeliveryPolicy, Undelivered, event_message
from service.outbox.settings import OutboxSettings
from service.queue.events import StoredEvent

ANSWER_S = 10.0
"""How long the broker may take to accept a connection, and to acknowledge a batch, in seconds."""
KEEPALIVE_S = 30
PORTS = {"mqtt": 1883, "mqtts": 8883}
_ESCAPED = {ord(letter): f"%{ord(letter):02X}" for letter in "%/+#"}

log = structlog.get_logger(__name__)


class BrokerRefused(Exception):
    """The broker refused the connection, or did not answer in time."""


def station_topic(prefix: str, station: str | None) -> str:
    """Return the topic of a station. Characters of MQTT's own in its name are written as %2F, %2B and %23."""
    return prefix if station is None else f"{prefix}/{station.translate(_ESCAPED)}"


class MqttSink:
    """The sink that publishes every event to an MQTT broker."""

    def __init__(self, settings: OutboxSettings) -> None:
        """Make the sink; it connects with the first event.

        Raises:
            ValueError: if the certificates cannot be used.
            OSError: if they cannot be read.
        """
        self.name = "mqtt"
        self.policy = DeliveryPolicy(batch=100, backoff=Backoff(first_s=1.0, most_s=60.0))
        self._settings, self._tls = settings, _tls(settings)
        self._connection: _Connection | None = None

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Publish these events; return those that the broker did not acknowledge."""
        try:
            connection = self._connected()
        except (BrokerRefused, OSError) as error:
            reason = f"no connection to the broker: {error}"[:300]
            return [Undelivered(event.id, reason) for event in events]
        failed = connection.publish(events, self._settings.mqtt_topic)
        if failed:
            self.close()
        return failed

    def idle(self, now_ms: int) -> None:
        """Do nothing: no work is postponed."""

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> _Connection:
        if self._connection is None or not self._connection.is_open:
            self.close()
            self._connection = _Connection(self._settings, self._tls)
        return self._connection


def _tls(settings: OutboxSettings) -> ssl.SSLContext | None:
    if settings.mqtt_url is None or urlsplit(settings.mqtt_url).scheme != "mqtts":
        return None
    context = ssl.create_default_context(cafile=settings.mqtt_ca_file)
    if settings.mqtt_cert_file is not None:
        context.load_cert_chain(settings.mqtt_cert_file, settings.mqtt_key_file)
    return context


class _Connection:
    """One connection, from CONNECT to the first failure. The library's own thread reads and sends keep-alives."""

    def __init__(self, settings: OutboxSettings, tls: ssl.SSLContext | None) -> None:
        """Connect and wait until the broker has accepted.

        Raises:
            BrokerRefused: if the broker refuses or does not answer in time.
            OSError: if it cannot be reached.
        """
        self._changed = threading.Condition()
        self._accepted: ReasonCode | None = None
        self._ended = False
        self._acknowledged: dict[int, ReasonCode] = {}
        self._client = self._make_client(settings, tls)
        try:
            url = urlsplit(settings.mqtt_url or "")
            self._client.connect(str(url.hostname), url.port or PORTS[url.scheme], KEEPALIVE_S)
            self._client.loop_start()
            self._wait_for_acceptance()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as is known."""
        with self._changed:
            return not self._ended

    def publish(self, events: Sequence[StoredEvent], topic: str) -> list[Undelivered]:
        """Publish these events and wait for the acknowledgements; return the events without one."""
        sent = {
            event.id: self._client.publish(
                station_topic(topic, event.fields.get("station")), event_message(event).encode(), qos=1
            ).mid
            for event in events
        }
        deadline = time.monotonic() + ANSWER_S
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or self._acknowledged.keys() >= set(sent.values()), deadline - time.monotonic()
            )
            answers = {event_id: self._acknowledged.get(mid) for event_id, mid in sent.items()}
            self._acknowledged = {}  # message ids are used again after 65,535 messages
        return [Undelivered(name, _why_not(answer)) for name, answer in answers.items() if _is_refusal(answer)]

    def close(self) -> None:
        """Disconnect, and wait at most a second for the broker."""
        connected = self._client.socket()
        if self._client.disconnect() == MQTT_ERR_SUCCESS:
            with self._changed:
                self._changed.wait_for(lambda: self._ended, 1.0)
        if isinstance(connected, socket.socket):
            with suppress(OSError):  # else loop_stop() would wait for a broker that does not answer
                connected.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def _make_client(self, settings: OutboxSettings, tls: ssl.SSLContext | None) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.mqtt_client_id,
            protocol=MQTTv5 if settings.mqtt_version == "5" else MQTTv311,
            reconnect_on_failure=False,  # the library would also send again what the relay repeats
        )
        client.connect_timeout = ANSWER_S
        if tls is not None:
            client.tls_set_context(tls)
        if settings.mqtt_username is not None:
            password = settings.mqtt_password.get_secret_value() if settings.mqtt_password else None
            client.username_pw_set(settings.mqtt_username, password)
        client.on_connect, client.on_disconnect, client.on_publish = self._on_connect, self._on_end, self._on_publish
        return client

    def _wait_for_acceptance(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._accepted is not None or self._ended, ANSWER_S)
            answer = self._accepted
        if answer is None or answer.is_failure:
            raise BrokerRefused(f"refused: {answer}" if answer else "it did not accept the connection in time")

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        with self._changed:
            self._accepted = reason
            self._changed.notify_all()

    def _on_end(self, client: Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _on_publish(self, client: Client, data: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        with self._changed:
            self._acknowledged[mid] = reason
            self._changed.notify_all()


def _is_refusal(answer: ReasonCode | None) -> bool:
    return answer is None or answer.is_failure


def _why_not(answer: ReasonCode | None) -> str:
    return "the broker did not acknowledge it" if answer is None else f"the broker refused it: {answer}"
