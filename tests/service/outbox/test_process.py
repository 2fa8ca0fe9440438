"""`glad outbox` as a process: killed and started again, stopped, with a twin beside it, without a Redis."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.outbox.archive import FOLDER
from service.outbox.webhooks import sink_name
from service.queue import keys
from service.queue.outbox import Subscribers, Subscription
from service.storage.artifacts import ArtifactStore
from tests.service.outbox.conftest import SECRET
from tests.support.broker import Subscriber, broker, subscribed
from tests.support.ended import end
from tests.support.processes import eventually, free_port
from tests.support.receiver import Answer, Received, Receiver
from tests.support.redis_server import RedisServer


@dataclass
class Outbox:
    """A process."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text()

    @property
    def port(self) -> int:
        """Of metrics and health."""
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return int(next(line["port"] for line in lines if line["event"] == "outbox ready"))

    def wait_until_ready(self) -> None:
        """It has its places in the event stream."""
        eventually(lambda: '"outbox ready"' in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


Start = Callable[..., Outbox]


@pytest.fixture
def start(tmp_path: Path, ca_file: Path) -> Iterator[Start]:
    """Starts outbox processes."""
    started: list[Outbox] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}

    def begin(redis_url: str, **environment: str) -> Outbox:
        basis = {
            "GLAD_REDIS_URL": redis_url,
            "GLAD_DATA_DIR": str(tmp_path / "data"),
            "GLAD_WEBHOOK_SECRET": SECRET,
            "GLAD_WEBHOOK_ALLOW": "127.0.0.0/8",
            "GLAD_WEBHOOK_CA_FILE": str(ca_file),
            "GLAD_ARCHIVE_EVERY_S": "0.2",
            "GLAD_LEASE_MS": "1500",
        }
        log = tmp_path / f"outbox-{len(started)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.outbox.main"],
                env={**clean, **basis, **environment},
                stdout=file,
                stderr=file,
                text=True,
            )
        started.append(Outbox(process, log))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


def sent_to(receiver: Receiver) -> list[str]:
    return [json.loads(request.body)["inspection_id"] for request in receiver.requests]


def archived(folder: Path) -> list[str]:
    """As a reader finds them: every file in the order of its name."""
    store = ArtifactStore(folder / "data" / "artifacts").folder(FOLDER)
    lines = [line for name in store.names() for line in gzip.decompress(store.get(name)).splitlines()]
    return [json.loads(line)["inspection_id"] for line in lines]


def test_killed_and_started_again_it_loses_nothing_and_repeats_only_what_was_under_way(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    with broker(tmp_path / "broker", "allow_anonymous true") as found, subscribed(found.port, "glad/#") as subscriber:
        everything = {
            "GLAD_WEBHOOK_URLS": receiver.url,
            "GLAD_MQTT_URL": f"mqtt://127.0.0.1:{found.port}",
            "GLAD_ARCHIVE": "on",
        }
        outbox = start(shared_redis.url, **everything)
        outbox.wait_until_ready()  # from here on events count
        ended: list[str] = []
        for _ in range(3):
            seen = len(receiver.requests)
            ended += end(client, 20)
            eventually(lambda seen=seen: len(receiver.requests) > seen)  # type: ignore[misc]
            outbox.stop(signal.SIGKILL)
            outbox = start(shared_redis.url, **everything)
        sinks = ("archive", "mqtt", sink_name(receiver.url))
        eventually(lambda: all(nothing_waits(client, sink) for sink in sinks))
        eventually(lambda: set(published(subscriber)) == set(ended))
        assert set(sent_to(receiver)) == set(ended)
        assert archived(tmp_path) == ended  # each once, in order
        assert list(dict.fromkeys(published(subscriber))) == ended
        # Each kill repeats at most what one delivery holds: 8 posts.
        assert len(sent_to(receiver)) <= len(ended) + 3 * 8


def published(subscriber: Subscriber) -> list[str]:
    return [json.loads(one.payload)["inspection_id"] for one in subscriber.got]


def nothing_waits(client: redis.Redis, sink: str) -> bool:
    """The sink has taken the newest event, and delivered all that it took."""
    [place] = [one for one in Subscribers(client).all() if one.sink == sink]
    newest: Any = client.xrevrange(keys.EVENTS, count=1)
    return place.pending == 0 and place.last_taken == newest[0][0]


def test_metrics_and_health_are_told(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver
) -> None:
    outbox = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url)
    outbox.wait_until_ready()
    ended = end(client, 3)
    eventually(lambda: set(sent_to(receiver)) == set(ended))
    url, sink = f"http://127.0.0.1:{outbox.port}", sink_name(receiver.url)
    eventually(lambda: f'glad_outbox_delivered_total{{sink="{sink}"}} 3.0' in httpx.get(f"{url}/metrics").text)
    told = httpx.get(f"{url}/metrics").text
    for name in ("failed_total", "dead_lettered_total", "lost_total", "pending", "lag_seconds"):
        assert f'glad_outbox_{name}{{sink="{sink}"}} 0.0' in told
    assert "glad_events_kept 3.0" in told
    assert httpx.get(f"{url}/health/live").status_code == 200
    assert httpx.get(f"{url}/health/ready").status_code == 200
    assert outbox.stop() == 0


def test_a_day_of_the_archive_that_is_left_in_parts_is_told(
    client: redis.Redis, shared_redis: RedisServer, start: Start, tmp_path: Path
) -> None:
    damaged = "2026-11-23.1795392000000-0_1795392000001-0.jsonl.gz"
    ArtifactStore(tmp_path / "data" / "artifacts").folder(FOLDER).put(damaged, b"not gzip")
    outbox = start(shared_redis.url, GLAD_ARCHIVE="on")
    outbox.wait_until_ready()
    metrics = f"http://127.0.0.1:{outbox.port}/metrics"
    eventually(lambda: 'glad_outbox_days_in_parts{sink="archive"} 1.0' in httpx.get(metrics).text)
    assert '"day": "2026-11-23"' in outbox.text
    assert outbox.stop() == 0


def test_no_secret_comes_into_the_log(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver
) -> None:
    receiver.answer = lambda request: Answer(500)
    outbox = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url, GLAD_LOG_LEVEL="debug")
    outbox.wait_until_ready()
    end(client, 1)
    eventually(lambda: "events not delivered" in outbox.text)
    assert outbox.stop() == 0
    assert "t0ken" not in outbox.text
    assert SECRET.removeprefix("whsec_") not in outbox.text


def test_of_two_one_delivers_and_the_other_takes_over(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver
) -> None:
    # Longer than a machine may stand still: the second takes over once the first has not renewed it.
    lease = {"GLAD_LEASE_MS": "6000"}
    first = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url, **lease)
    first.wait_until_ready()
    eventually(lambda: '"delivers to"' in first.text)
    second = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url, **lease)
    second.wait_until_ready()
    ended = end(client, 5)
    sink = sink_name(receiver.url)
    eventually(lambda: nothing_waits(client, sink))
    assert '"delivers to"' not in second.text
    first.stop(signal.SIGKILL)
    ended += end(client, 5)
    eventually(lambda: nothing_waits(client, sink))
    assert sorted(sent_to(receiver)) == sorted(ended)
    assert second.stop() == 0


def test_a_stop_ends_what_is_under_way_and_repeats_nothing(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver
) -> None:
    def slowly(request: Received) -> Answer:
        time.sleep(0.5)
        return Answer()

    receiver.answer = slowly
    outbox = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url)
    outbox.wait_until_ready()
    [ended] = end(client, 1)
    eventually(lambda: len(receiver.requests) == 1)
    assert outbox.stop() == 0
    assert nothing_waits(client, sink_name(receiver.url))
    again = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url)  # not after a lease: it was let go
    again.wait_until_ready()
    other = end(client, 1)
    eventually(lambda: len(receiver.requests) == 2)
    assert sent_to(receiver) == [ended, *other]


def test_it_outlives_a_killed_and_restarted_redis(own_redis: RedisServer, start: Start, receiver: Receiver) -> None:
    outbox = start(own_redis.url, GLAD_WEBHOOK_URLS=receiver.url)
    outbox.wait_until_ready()
    with own_redis.connect() as client:
        ended = end(client, 1)
    eventually(lambda: len(receiver.requests) == 1)
    own_redis.kill()
    time.sleep(0.3)
    own_redis.start()
    with own_redis.connect() as client:
        ended += end(client, 1)
    eventually(lambda: set(sent_to(receiver)) == set(ended))
    assert outbox.stop() == 0


def test_it_lives_through_a_redis_that_is_stopped_and_goes_on(
    own_redis: RedisServer, start: Start, receiver: Receiver
) -> None:
    outbox = start(own_redis.url, GLAD_WEBHOOK_URLS=receiver.url, GLAD_REDIS_ANSWER_S="3", GLAD_STUCK_AFTER_S="10")
    outbox.wait_until_ready()
    with own_redis.connect() as client:
        ended = end(client, 1)
        eventually(lambda: sent_to(receiver) == ended)
        own_redis.signal(signal.SIGSTOP)
        until = time.monotonic() + 12  # longer than the limit: what counts is that each command ends before it
        while time.monotonic() < until:
            assert httpx.get(f"http://127.0.0.1:{outbox.port}/health/live").status_code == 200
            time.sleep(0.5)
        own_redis.signal(signal.SIGCONT)
        ended += end(client, 1)
        eventually(lambda: set(sent_to(receiver)) == set(ended))
    assert outbox.process.poll() is None


def test_a_receiver_and_a_broker_that_hang_delay_no_other_sink(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    # Both take the connection, and never answer: the time of an attempt is thirty seconds, and of an MQTT answer ten.
    with socket.create_server(("127.0.0.1", 0)) as webhook, socket.create_server(("127.0.0.1", 0)) as hung_broker:
        hung = f"https://127.0.0.1:{webhook.getsockname()[1]}/hook"
        outbox = start(
            shared_redis.url,
            GLAD_WEBHOOK_URLS=f"{hung},{receiver.url}",
            GLAD_MQTT_URL=f"mqtt://127.0.0.1:{hung_broker.getsockname()[1]}",
            GLAD_ARCHIVE="on",
        )
        outbox.wait_until_ready()
        ended = end(client, 1)  # makes both hang
        eventually(lambda: sent_to(receiver) == ended)
        ended += end(client, 20)
        eventually(lambda: set(sent_to(receiver)) == set(ended))
        eventually(lambda: archived(tmp_path) == ended)
        for sink in ("mqtt", sink_name(hung)):
            assert Subscription(client, sink).progress().pending  # nothing of it has arrived there


def test_it_waits_for_a_redis_that_comes_later(own_redis: RedisServer, start: Start, receiver: Receiver) -> None:
    own_redis.kill()
    port = free_port()
    outbox = start(own_redis.url, GLAD_WEBHOOK_URLS=receiver.url, GLAD_OUTBOX_PORT=str(port), GLAD_STUCK_AFTER_S="0.5")
    eventually(lambda: outbox.text.count("Redis is away") > 1)  # a second between them
    asked = {what: httpx.get(f"http://127.0.0.1:{port}/health/{what}").status_code for what in ("live", "ready")}
    assert asked == {"live": 200, "ready": 503}, "it waits, and a restart would not help it"
    own_redis.start()
    outbox.wait_until_ready()
    with own_redis.connect() as client:
        assert [one.sink for one in Subscribers(client).all()] == [sink_name(receiver.url)]


def test_a_sink_that_is_no_longer_configured_is_named(
    client: redis.Redis, shared_redis: RedisServer, start: Start, receiver: Receiver
) -> None:
    first = start(shared_redis.url, GLAD_ARCHIVE="on")
    first.wait_until_ready()
    assert first.stop() == 0
    second = start(shared_redis.url, GLAD_WEBHOOK_URLS=receiver.url)
    second.wait_until_ready()
    [warning] = [json.loads(line) for line in second.text.splitlines() if "glad outbox forget" in line]
    assert (warning["sink"], warning["level"]) == ("archive", "warning")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "there is nothing to deliver to: set GLAD_WEBHOOK_URLS"),
        ({"GLAD_WEBHOOK_URLS": "http://a.example"}, "GLAD_WEBHOOK_URLS: a webhook's scheme is 'http'"),
        ({"GLAD_REDIS_URL": "", "GLAD_ARCHIVE": "on"}, "GLAD_REDIS_URL is not set"),
    ],
)
def test_wrong_settings_end_it_with_the_way_out(start: Start, environment: dict[str, str], said: str) -> None:
    outbox = start(environment.pop("GLAD_REDIS_URL", "redis://127.0.0.1:1/0"), **environment)
    assert outbox.process.wait(60) == 78
    assert outbox.text.startswith(f"glad outbox: {said}")
    assert "Traceback" not in outbox.text
