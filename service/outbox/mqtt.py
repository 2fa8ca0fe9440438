"""MQTT: each event is published with QoS 1 on its station's topic, in order, until the broker has acknowledged it.

A connection that failed is closed together with the messages that it still held, so that the library sends nothing
later by itself. Events that the broker did not acknowledge are published again on a new connection.

A broker that dislikes one message may end the connection, and with it the whole batch, or say nothing. So what was not
acknowledged is then published one by one: the event at which the broker hangs up again, or which alone it does not
answer, is the one that it refuses, and the others wait behind it. An event that is refused too often, there or by the
broker's answer, is given up: it must not hold up all others for ever. A broker that is away, or answers nothing,
refuses nothing.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from service.host.child_process import Backoff
from service.outbox.relay import FAULTS_OF_EVENTS, DeliveryPolicy, Undelivered, event_message
from service.outbox.settings import OutboxSettings
from service.queue.events import StoredEvent

ANSWER_S = 10.0
"""How long the broker may take to accept a connection, and to acknowledge a batch, in seconds."""
KEEPALIVE_S = 30
PORTS = {"mqtt": 1883, "mqtts": 8883}
_TEMPORARY = {0x91, 0x97}
"""Reason codes that blame no message: packet identifier in use, quota exceeded."""
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr((plane << 16) + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_ESCAPED = re.compile(f"[%/+#\0-\x1f\x7f-\x9f\ud800-\udfff{_NONCHARACTERS}]")
"""MQTT's own characters, and those at which a broker may end the connection (MQTT 5, 1.5.4)."""

log = structlog.get_logger(__name__)


class BrokerRefused(Exception):
    """The broker refused the connection, or did not answer in time."""


def station_topic(prefix: str, station: str | None) -> str:
    """Return the topic of a station. What a topic must not hold is written as in URLs, such as `/` as %2F."""
    return prefix if station is None else f"{prefix}/{_ESCAPED.sub(_percent_encoded, station)}"


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


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
        outcome = self._publish(events)
        if outcome.dislike is None:
            return outcome.failed
        unheard = {one.event_id for one in outcome.failed if not one.refused}
        refused = [one for one in outcome.failed if one.refused]
        return [*refused, *self._publish_one_by_one([event for event in events if event.id in unheard])]

    def _publish_one_by_one(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Publish events until the first failure, which is the event's own if the broker dislikes it."""
        for number, event in enumerate(events):
            outcome = self._publish([event])
            if not outcome.failed:
                continue
            (failed,) = outcome.failed
            if outcome.dislike is not None:
                failed = Undelivered(event.id, outcome.dislike, refused=True)
            waiting = f"waits for {event.id}: {failed.reason}"[:300]
            return [failed, *(Undelivered(one.id, waiting) for one in events[number + 1 :])]
        return []

    def _publish(self, events: Sequence[StoredEvent]) -> _Outcome:
        try:
            connection = self._connected()
        except (BrokerRefused, OSError) as error:
            reason = f"no connection to the broker: {error}"[:300]
            return _Outcome([Undelivered(event.id, reason) for event in events], dislike=None)
        outcome = connection.publish(events, self._settings.mqtt_topic)
        if outcome.failed:
            self.close()
        return outcome

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


@dataclass(frozen=True)
class _Outcome:
    """What became of some events on one connection."""

    failed: list[Undelivered]
    dislike: str | None
    """How a broker that lives shows that it dislikes one of them; None: it does not."""


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
        self._unsubscribed: set[int | None] = set()
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

    def publish(self, events: Sequence[StoredEvent], topic: str) -> _Outcome:
        """Publish these events and wait for the acknowledgements; tell the events without one."""
        sent: dict[str, int] = {}
        impossible: list[Undelivered] = []
        for event in events:
            try:
                sent[event.id] = self._send(event, topic)
            except FAULTS_OF_EVENTS as error:  # no broker could get it, such as one that is longer than MQTT allows
                impossible.append(Undelivered(event.id, f"cannot be sent by MQTT: {error}"[:300], refused=True))
        deadline = time.monotonic() + ANSWER_S
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or self._acknowledged.keys() >= set(sent.values()), deadline - time.monotonic()
            )
            answers = {event_id: self._acknowledged.get(mid) for event_id, mid in sent.items()}
            self._acknowledged = {}  # message ids are used again after 65,535 messages
            unheard, ended = None in answers.values(), self._ended
        dislike = None
        if unheard and ended:
            dislike = "the broker ends the connection at it"
        elif unheard and self._answers_else(topic):
            dislike = "the broker does not acknowledge it, and answers all else"
        failed = [_undelivered(name, answer) for name, answer in answers.items() if answer is None or answer.is_failure]
        return _Outcome([*impossible, *failed], dislike)

    def _answers_else(self, topic: str) -> bool:
        """Return whether the broker answers a request that changes nothing: to end a subscription that never was."""
        _, asked = self._client.unsubscribe(topic)
        with self._changed:
            self._changed.wait_for(lambda: self._ended or asked in self._unsubscribed, ANSWER_S)
            return asked in self._unsubscribed

    def _send(self, event: StoredEvent, topic: str) -> int:
        message = event_message(event).encode()
        return self._client.publish(station_topic(topic, event.fields.get("station")), message, qos=1).mid

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
        client.on_unsubscribe = self._on_unsubscribe
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

    def _on_unsubscribe(self, client: Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        with self._changed:
            self._unsubscribed.add(mid)
            self._changed.notify_all()


def _undelivered(event_id: str, answer: ReasonCode | None) -> Undelivered:
    if answer is None:
        return Undelivered(event_id, "the broker did not acknowledge it")
    return Undelivered(event_id, f"the broker refused it: {answer}", refused=answer.value not in _TEMPORARY)
