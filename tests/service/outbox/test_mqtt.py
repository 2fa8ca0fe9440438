"""MQTT against a real mosquitto: QoS 1, TLS, one topic per station; a broker that dies or refuses loses nothing."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from typer.testing import CliRunner

from service.cli.outbox import app
from service.outbox import mqtt
from service.outbox.mqtt import MqttSink, station_topic
from service.outbox.relay import MOST_REFUSALS
from service.outbox.settings import OutboxSettings
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import DeadEvents, Subscription
from tests.service.outbox.conftest import MakeRelay, MakeSettings, turns
from tests.support.broker import Broker, Subscriber, broker, subscribed
from tests.support.ended import end, hold_station
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

MakeMqtt = Callable[..., MqttSink]


def event(number: int, station: str | None = "line-3") -> StoredEvent:
    fields = {"type": "inspection.done", "inspection_id": f"i{number}"}
    return StoredEvent(f"{number}-0", json.dumps(fields | ({"station": station} if station else {})))


@pytest.fixture
def make_mqtt(make_settings: MakeSettings) -> Iterator[MakeMqtt]:
    """Makes a sink of settings."""
    with ExitStack() as stack:

        def make(url: str, **given: Any) -> MqttSink:
            made = MqttSink(make_settings(mqtt_url=url, **given))
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Broker]:
    """A broker without TLS, open to all."""
    with broker(tmp_path / "broker", "allow_anonymous true") as found:
        yield found


def test_that_a_station_is_held_and_released_comes_on_its_topic(
    client: redis.Redis, plain: Broker, make_mqtt: MakeMqtt, make_relay: MakeRelay
) -> None:
    relay = make_relay(make_mqtt(f"mqtt://127.0.0.1:{plain.port}"))
    with subscribed(plain.port, "glad/#") as subscriber:
        hold_station(client, "line/3")
        hold_station(client, "line/3", None)
        turns(relay, 2)
        eventually(lambda: len(subscriber.got) == 2)
    told = [(one.topic, json.loads(one.payload)) for one in subscriber.got]
    assert [(topic, body["type"], body["inspection_id"]) for topic, body in told] == [
        ("glad/line%2F3", "station.held", None),
        ("glad/line%2F3", "station.released", None),
    ]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_each_stations_events_come_on_its_topic_in_order_with_qos_1(
    plain: Broker, make_mqtt: MakeMqtt, version: str
) -> None:
    sink = make_mqtt(f"mqtt://127.0.0.1:{plain.port}", mqtt_topic="plant/glad", mqtt_version=version)
    with subscribed(plain.port, "plant/glad/#") as subscriber:
        assert sink.deliver([event(1), event(2, "a/b+#"), event(3, None), event(4)]) == []
        eventually(lambda: len(subscriber.got) == 4)
        got = subscriber.got
    assert [one.topic for one in got] == [
        "plant/glad/line-3",
        "plant/glad/a%2Fb%2B%23",
        "plant/glad",
        "plant/glad/line-3",
    ]
    assert {one.qos for one in got} == {1}
    assert json.loads(got[0].payload) == {
        "event_id": "1-0",
        "type": "inspection.done",
        "inspection_id": "i1",
        "station": "line-3",
    }


def test_a_stations_topic_is_its_own() -> None:
    stations = ["a", "a/b", "a%2Fb", "a+b", "a#", "Linie 3 / Süd"]
    topics = {station_topic("glad", station) for station in stations}
    assert len(topics) == len(stations)
    assert all(topic.count("/") == 1 and not set(topic) & set("+#") for topic in topics)


def test_tls_with_a_client_certificate_and_a_password(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, make_mqtt: MakeMqtt
) -> None:
    files = certificates(authority, tmp_path)
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed: apt-get install mosquitto")
    subprocess.run([tool, "-b", "-c", str(passwords), "glad", "s3cret"], check=True, capture_output=True)
    lines = (
        f"cafile {ca_file}",
        f"certfile {files['server.pem']}",
        f"keyfile {files['server.key']}",
        "require_certificate true",
        "allow_anonymous false",
        f"password_file {passwords}",
    )
    given = {
        "mqtt_ca_file": ca_file,
        "mqtt_cert_file": files["client.pem"],
        "mqtt_key_file": files["client.key"],
        "mqtt_username": "glad",
        "mqtt_password": "s3cret",
    }
    with broker(tmp_path / "broker", *lines) as found:
        url = f"mqtts://127.0.0.1:{found.port}"
        assert make_mqtt(url, **given).deliver([event(1)]) == []
        [wrong] = make_mqtt(url, **given | {"mqtt_password": "other"}).deliver([event(1)])
        assert "Not authorized" in wrong.reason
        assert "other" not in wrong.reason
        [unproven] = make_mqtt(url, **given | {"mqtt_cert_file": None, "mqtt_key_file": None}).deliver([event(1)])
        assert "no connection to the broker" in unproven.reason


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves such a socket to the GC
def test_a_broker_whose_certificate_nobody_vouches_for_gets_nothing(
    authority: trustme.CA, tmp_path: Path, make_mqtt: MakeMqtt
) -> None:
    files = certificates(authority, tmp_path)
    lines = ("allow_anonymous true", f"certfile {files['server.pem']}", f"keyfile {files['server.key']}")
    with broker(tmp_path / "broker", *lines) as found:
        [failed] = make_mqtt(f"mqtts://127.0.0.1:{found.port}").deliver([event(1)])
        assert "certificate verify failed" in failed.reason
        gc.collect()


def certificates(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """PEM files of a server and a client."""
    files = {}
    for name in ("server", "client"):
        made = authority.issue_cert("127.0.0.1", common_name=name)
        files[f"{name}.pem"], files[f"{name}.key"] = folder / f"{name}.pem", folder / f"{name}.key"
        made.cert_chain_pems[0].write_to_path(files[f"{name}.pem"])
        made.private_key_pem.write_to_path(files[f"{name}.key"])
    return files


def test_what_the_broker_refuses_is_not_taken_for_delivered(tmp_path: Path, make_mqtt: MakeMqtt) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write glad/open\n")
    with broker(tmp_path / "broker", "allow_anonymous true", f"acl_file {rules}") as found:
        sink = make_mqtt(f"mqtt://127.0.0.1:{found.port}")
        [failed] = sink.deliver([event(1, "open"), event(2, "closed")])
        assert failed.event_id == "2-0"
        assert "refused it: Not authorized" in failed.reason


NONCHARACTERS = "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_station_of_characters_that_no_topic_may_hold_is_delivered(
    plain: Broker, make_mqtt: MakeMqtt, version: str
) -> None:
    sink = make_mqtt(f"mqtt://127.0.0.1:{plain.port}", mqtt_version=version)
    stations = [*NONCHARACTERS, "\x01", "\x7f", "line-3"]
    with subscribed(plain.port, "glad/#") as subscriber:
        assert sink.deliver([event(number, station) for number, station in enumerate(stations, start=1)]) == []
        eventually(lambda: len(subscriber.got) == len(stations))
    topics = [one.topic for one in subscriber.got]
    assert topics[3] == "glad/%EF%BF%BF"
    assert topics[-3:] == ["glad/%01", "glad/%7F", "glad/line-3"]
    assert [json.loads(one.payload)["station"] for one in subscriber.got] == stations


def patience_ends(place: Subscription) -> None:
    """What failed is due now."""
    waiting = {one.id: one.retry.model_copy(update={"due_ms": 0}) for one in place.progress().pending if one.retry}
    place.settle([], waiting)


def long_event(client: redis.Redis, characters: int) -> str:
    """The id of an event that is longer than what a test's broker takes."""
    fields = {"type": "inspection.done", "inspection_id": "long", "note": "x" * characters}
    return str(client.xadd(keys.EVENTS, {"event": json.dumps(fields)}))


def delivered(subscriber: Subscriber) -> list[str]:
    """The inspections that it has heard of, in order."""
    return [json.loads(one.payload)["inspection_id"] for one in list(subscriber.got)]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_one_event_at_which_the_broker_hangs_up_becomes_a_dead_letter_and_holds_up_no_other_for_ever(
    client: redis.Redis, make_mqtt: MakeMqtt, make_relay: MakeRelay, tmp_path: Path, version: str
) -> None:
    with broker(tmp_path / "broker", "allow_anonymous true", "max_packet_size 4000") as found:
        relay = make_relay(make_mqtt(f"mqtt://127.0.0.1:{found.port}", mqtt_version=version))
        place = Subscription(client, "mqtt")
        with subscribed(found.port, "glad/#") as subscriber:
            ended = end(client, 2, station="line-3")
            poison = long_event(client, 5000)
            ended += end(client, 2, station="line-3")
            turns(relay, 2)
            assert [one.retry.refusals for one in place.progress().pending if one.retry] == [1, 0, 0]
            while place.progress().pending:  # an attempt that finds no connection in time counts for nothing
                patience_ends(place)
                relay.turn()
            eventually(lambda: set(delivered(subscriber)) >= set(ended))
            got = delivered(subscriber)
    assert list(dict.fromkeys(got)) == ended  # at least once: what a cut connection had taken already may come again
    assert place.progress().pending == ()
    (letter,) = DeadEvents(client).all()
    assert (letter.sink, letter.event.id) == ("mqtt", poison)
    assert letter.attempts >= MOST_REFUSALS
    assert letter.reason == "the broker ends the connection at it"


def test_an_event_that_the_brokers_rules_forbid_becomes_a_dead_letter_that_can_be_replayed(
    client: redis.Redis,
    make_mqtt: MakeMqtt,
    make_relay: MakeRelay,
    tmp_path: Path,
    shared_redis: RedisServer,
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write glad/open\n")
    with broker(tmp_path / "broker", "allow_anonymous true", f"acl_file {rules}") as found:
        url = f"mqtt://127.0.0.1:{found.port}"
        relay, place = make_relay(make_mqtt(url)), Subscription(client, "mqtt")
        end(client, 1, station="closed")
        end(client, 1, station="open")
        turns(relay, 2)
        for _ in range(MOST_REFUSALS):
            patience_ends(place)
            relay.turn()
        (letter,) = DeadEvents(client).all()
        assert letter.event.fields["station"] == "closed"
        assert "Not authorized" in letter.reason
        assert place.progress().pending == ()
        end(client, 1, station="open")
        turns(relay, 2)
        assert place.progress().pending == ()
    with broker(tmp_path / "lenient", "allow_anonymous true") as lenient:
        environment = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_MQTT_URL": f"mqtt://127.0.0.1:{lenient.port}"}
        with subscribed(lenient.port, "glad/#") as subscriber:
            replayed = CliRunner().invoke(app, ["replay", "--all"], env=environment)
            assert replayed.exit_code == 0, replayed.output
            eventually(lambda: [one.topic for one in subscriber.got] == ["glad/closed"])
    assert DeadEvents(client).all() == []


def test_a_broker_that_is_away_refuses_nothing(
    client: redis.Redis, make_mqtt: MakeMqtt, make_relay: MakeRelay, tmp_path: Path
) -> None:
    with broker(tmp_path / "broker", "allow_anonymous true") as found:
        relay, place = make_relay(make_mqtt(f"mqtt://127.0.0.1:{found.port}")), Subscription(client, "mqtt")
        end(client, 2, station="line-3")
    turns(relay, 2)
    for _ in range(MOST_REFUSALS):
        patience_ends(place)
        relay.turn()
    assert [one.retry.refusals for one in place.progress().pending if one.retry] == [0, 0]
    assert DeadEvents(client).all() == []


def test_a_broker_that_is_away_loses_nothing(
    client: redis.Redis, make_mqtt: MakeMqtt, make_relay: MakeRelay, tmp_path: Path
) -> None:
    with broker(tmp_path / "broker", "allow_anonymous true") as found:
        relay = make_relay(make_mqtt(f"mqtt://127.0.0.1:{found.port}"))
        place = Subscription(client, "mqtt")
        with subscribed(found.port, "glad/#") as subscriber:
            ended = end(client, 2, station="line-3")
            turns(relay, 2)
            eventually(lambda: len(subscriber.got) == 2)
        found.child.kill()
        ended += end(client, 2, station="line-3")
        turns(relay, 2)
        waiting = place.progress().pending
        assert [one.retry is not None for one in waiting] == [True, True]
        found.start()
        with subscribed(found.port, "glad/#") as again:
            place.settle([], {one.id: one.retry.model_copy(update={"due_ms": 0}) for one in waiting if one.retry})
            relay.turn()
            eventually(lambda: len(again.got) == 2)
    got = [json.loads(one.payload)["inspection_id"] for one in (*subscriber.got, *again.got)]
    assert got == ended
    assert place.progress().pending == ()


def test_a_broker_that_stands_still_fails_the_delivery_and_closing_does_not_wait_for_it(
    plain: Broker, make_mqtt: MakeMqtt, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make_mqtt(f"mqtt://127.0.0.1:{plain.port}")
    assert sink.deliver([event(1)]) == []
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.2)
    plain.child.signal(signal.SIGSTOP)
    failed = sink.deliver([event(2), event(3)])
    assert [(one.event_id, one.reason) for one in failed] == [
        ("2-0", "the broker did not acknowledge it"),
        ("3-0", "the broker did not acknowledge it"),
    ]
    plain.child.signal(signal.SIGCONT)
    monkeypatch.setattr(mqtt, "ANSWER_S", 30.0)
    with subscribed(plain.port, "glad/#") as subscriber:
        assert sink.deliver([event(4)]) == []
        eventually(lambda: [json.loads(one.payload)["event_id"] for one in subscriber.got][-1:] == ["4-0"])


def test_more_than_the_broker_takes_at_a_time_is_delivered_all_the_same(plain: Broker, make_mqtt: MakeMqtt) -> None:
    sink = make_mqtt(f"mqtt://127.0.0.1:{plain.port}")
    with subscribed(plain.port, "glad/#") as subscriber:
        assert sink.deliver([event(number) for number in range(1, 101)]) == []
        eventually(lambda: len(subscriber.got) == 100)
        assert [json.loads(one.payload)["event_id"] for one in subscriber.got] == [f"{n}-0" for n in range(1, 101)]


def test_without_mqtts_no_certificate_is_looked_at(make_settings: MakeSettings) -> None:
    settings: OutboxSettings = make_settings(mqtt_url="mqtt://127.0.0.1:1")
    [failed] = MqttSink(settings).deliver([event(1)])
    assert "Connection refused" in failed.reason


@contextmanager
def deaf_to(word: bytes, broker_port: int) -> Iterator[int]:
    """The port of a way to the broker on which messages that hold a word are lost, and nothing else."""

    def pass_on(source: socket.socket, target: socket.socket, lost: bytes | None) -> None:
        with source, suppress(OSError), source.makefile("rb") as packets:
            while kind := packets.read(1):
                head, length, shift = kind, 0, 0
                while True:  # the length: seven bits a byte, the highest one says whether another follows
                    byte = packets.read(1)
                    head, length, shift = head + byte, length | (byte[0] & 127) << shift, shift + 7
                    if byte[0] < 128:
                        break
                body = packets.read(length)
                if lost is None or kind[0] >> 4 != 3 or lost not in body:
                    target.sendall(head + body)
            target.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                behind = socket.create_connection(("127.0.0.1", broker_port))
                for given in ((client, behind, word), (behind, client, None)):
                    threads.append(threading.Thread(target=pass_on, args=given))
                    threads[-1].start()

    threads: list[threading.Thread] = []

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        serving.join()
    for thread in threads:
        thread.join()


def test_one_event_that_the_broker_never_acknowledges_becomes_a_dead_letter_and_holds_up_no_other_for_ever(
    client: redis.Redis,
    make_mqtt: MakeMqtt,
    make_relay: MakeRelay,
    plain: Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 2.0)
    with deaf_to(b"poison", plain.port) as port, subscribed(plain.port, "glad/#") as subscriber:
        sink, place = make_mqtt(f"mqtt://127.0.0.1:{port}"), Subscription(client, "mqtt")
        relay = make_relay(sink)
        ended = end(client, 2, station="line-3")
        (poison,) = end(client, 1, station="line-3", serial="poison")
        ended += end(client, 2, station="line-3")
        turns(relay, 2)
        for _ in range(3 * MOST_REFUSALS):
            patience_ends(place)
            if not place.progress().pending:
                break
            relay.turn()
        eventually(lambda: set(delivered(subscriber)) >= set(ended))
        sink.close()
    assert place.progress().pending == ()
    (letter,) = DeadEvents(client).all()
    assert (letter.event.fields["inspection_id"], letter.attempts >= MOST_REFUSALS) == (poison, True)
    assert letter.reason == "the broker does not acknowledge it, and answers all else"


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"type":"x","inspection_id":"a","station":7}', r'{"a":"\ud800"}'])
def test_an_event_that_cannot_be_read_holds_up_no_other_for_ever(
    client: redis.Redis, make_mqtt: MakeMqtt, make_relay: MakeRelay, plain: Broker, text: str
) -> None:
    with subscribed(plain.port, "glad/#") as subscriber:
        relay, place = make_relay(make_mqtt(f"mqtt://127.0.0.1:{plain.port}")), Subscription(client, "mqtt")
        ended = end(client, 2, station="line-3")
        client.xadd(keys.EVENTS, {"id": "x", "event": text})
        ended += end(client, 2, station="line-3")
        turns(relay, 2)
        for _ in range(MOST_REFUSALS):
            patience_ends(place)
            relay.turn()
        turns(relay, 2)
        eventually(lambda: set(delivered(subscriber)) >= set(ended))
    assert place.progress().pending == ()
    assert [letter.event.text for letter in DeadEvents(client).all()] == [text]
