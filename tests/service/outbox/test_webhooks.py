"""Webhooks against a real HTTPS server: signed, retried, pinned, never redirected, never into a closed network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import redis
import trustme
from hypothesis import given
from hypothesis import strategies as st

from service.outbox import relay as relay_module
from service.outbox.relay import MOST_REFUSALS
from service.outbox.webhooks import (
    CONCURRENT_POSTS,
    MOST_FAILED,
    AddressRefused,
    WebhookSink,
    is_allowed,
    resolve,
    signature_headers,
    sink_name,
)
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import DeadEvents, Subscription
from tests.service.outbox.conftest import SECRET, MakeRelay, MakeSettings, turns
from tests.support.ended import end, hold_station
from tests.support.receiver import Answer, Received, Receiver, receiving

EVENT = StoredEvent("1795421731432-0", '{"type":"inspection.done","inspection_id":"019a","station":"line-3"}')


def verified(request: Received, secret: str = SECRET) -> dict[str, Any]:
    """The body, after the checks of the Standard Webhooks specification, written from its text."""
    key = base64.b64decode(secret.split("_")[1])
    message_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert abs(time.time() - int(timestamp)) < 300
    mac = hmac.new(key, b".".join((message_id.encode(), timestamp.encode(), request.body)), hashlib.sha256)
    good = base64.b64encode(mac.digest()).decode()
    sent = [part.split(",") for part in request.headers["webhook-signature"].split(" ")]
    assert any(version == "v1" and hmac.compare_digest(mine, good) for version, mine in sent)
    body: dict[str, Any] = json.loads(request.body)
    return body


MakeWebhook = Callable[..., WebhookSink]


@pytest.fixture
def webhook(make_settings: MakeSettings) -> Iterator[MakeWebhook]:
    """Makes a webhook sink of a URL."""
    with ExitStack() as stack:

        def make(url: str, **given: Any) -> WebhookSink:
            made = WebhookSink(url, make_settings(webhook_urls=url, **given))
            stack.callback(made.close)
            return made

        yield make


def test_the_signature_is_that_of_the_specifications_example() -> None:
    # Message, secret and signature stand in the Standard Webhooks reference implementations' tests.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [key])
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_is_one_signed_post(receiver: Receiver, webhook: MakeWebhook) -> None:
    assert webhook(receiver.url).deliver([EVENT]) == []
    [request] = receiver.requests
    assert verified(request) == {
        "event_id": EVENT.id,
        "type": "inspection.done",
        "inspection_id": "019a",
        "station": "line-3",
    }
    assert request.path == "/hooks/glad?token=t0ken"
    assert request.headers["webhook-id"] == EVENT.id
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == receiver.url.split("/")[2]


def test_the_event_of_a_station_is_posted_too(
    client: redis.Redis, receiver: Receiver, webhook: MakeWebhook, make_relay: MakeRelay
) -> None:
    relay = make_relay(webhook(receiver.url))
    hold_station(client)
    turns(relay, 2)
    [request] = receiver.requests
    body = verified(request)
    assert body.pop("event_id") == request.headers["webhook-id"]
    assert body == {
        "type": "station.held",
        "inspection_id": None,
        "product": "toy",
        "station": "line-3",
        "reason": "lens is dirty",
        "by": "a.meier",
        "at": "2026-11-23T08:15:30.120Z",
    }


def test_while_secrets_change_a_receiver_may_know_either(receiver: Receiver, webhook: MakeWebhook) -> None:
    other = "whsec_" + base64.b64encode(b"f" * 24).decode()
    assert webhook(receiver.url, webhook_secret=f"{SECRET}, {other}").deliver([EVENT]) == []
    [request] = receiver.requests
    assert verified(request) == verified(request, other)


@pytest.mark.parametrize("status", [301, 400, 404, 410, 429, 500, 503])
def test_anything_but_a_2xx_is_a_failure(receiver: Receiver, webhook: MakeWebhook, status: int) -> None:
    receiver.answer = lambda request: Answer(status)
    [failed] = webhook(receiver.url).deliver([EVENT])
    assert failed.event_id == EVENT.id
    assert failed.reason.startswith(f"answered {status} ")


def test_a_redirect_is_not_followed(receiver: Receiver, webhook: MakeWebhook) -> None:
    receiver.answer = lambda request: Answer(307, {"Location": receiver.url})
    [failed] = webhook(receiver.url).deliver([EVENT])
    assert failed.reason == "answered 307 Temporary Redirect, which is not followed: set the URL that it leads to"
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("told", "seconds"), [("7", 7.0), ("soon", 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("-1", 0.0)]
)
def test_retry_after_is_heard(receiver: Receiver, webhook: MakeWebhook, told: str, seconds: float) -> None:
    receiver.answer = lambda request: Answer(503, {"Retry-After": told})
    [failed] = webhook(receiver.url).deliver([EVENT])
    assert failed.wait_s == seconds


def test_a_receiver_that_hangs_is_given_up_on_after_the_timeout(receiver: Receiver, webhook: MakeWebhook) -> None:
    let_go = threading.Event()
    receiver.answer = lambda request: Answer() if let_go.wait(30) else Answer(500)
    [failed] = webhook(receiver.url, webhook_timeout_s=0.6).deliver([EVENT])
    assert "ReadTimeout" in failed.reason
    let_go.set()


def test_a_receiver_that_answers_a_byte_at_a_time_is_given_up_on_too(receiver: Receiver, webhook: MakeWebhook) -> None:
    receiver.answer = lambda request: Answer(pause_s=0.05)
    sink = webhook(receiver.url, webhook_timeout_s=0.6)
    [slow, other] = sink.deliver([EVENT, EVENT])
    assert (slow.reason, other.reason) == ("no whole answer within 1.8 s",) * 2
    receiver.answer = lambda request: Answer()
    assert sink.deliver([EVENT]) == []


def test_a_huge_answer_is_not_read_to_its_end(receiver: Receiver, webhook: MakeWebhook) -> None:
    receiver.answer = lambda request: Answer(200, body=b"x" * (4 << 20))
    assert webhook(receiver.url).deliver([EVENT, EVENT]) == []


def test_a_certificate_of_another_name_is_refused(authority: trustme.CA, webhook: MakeWebhook) -> None:
    with receiving(authority, "mes.example") as other:
        [failed] = webhook(other.url).deliver([EVENT])
        assert "certificate" in failed.reason.lower()
        assert other.requests == []


def test_a_certificate_of_an_authority_of_the_plant_is_refused_with_the_setting_that_names_it(
    receiver: Receiver, webhook: MakeWebhook
) -> None:
    [failed] = webhook(receiver.url, webhook_ca_file=None).deliver([EVENT])
    assert failed.reason.endswith(": name the PEM file of its authority by GLAD_WEBHOOK_CA_FILE")
    assert receiver.requests == []


def test_the_address_that_was_checked_is_called_in_the_hosts_name(
    authority: trustme.CA, webhook: MakeWebhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once: a second answer, as of a hostile DNS, is never asked for."""
    asked, real = [], socket.getaddrinfo

    def look_up(host: str, *given: Any, **named: Any) -> list[Any]:
        if host != "mes.example":  # the connection itself, to the address that was checked
            return real(host, *given, **named)
        asked.append(host)
        place = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, 0))]

    with receiving(authority, "mes.example") as receiver:
        sink = webhook(receiver.url.replace("127.0.0.1", "mes.example"))
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert sink.deliver([EVENT]) == []
        [request] = receiver.requests
        assert request.headers["host"].startswith("mes.example:")
        [failed] = sink.deliver([EVENT])
        assert "mes.example is 169.254.169.254, which is not public" in failed.reason
    assert asked == ["mes.example"] * 2
    assert len(receiver.requests) == 1


def test_this_machine_is_refused_unless_it_is_allowed(receiver: Receiver, webhook: MakeWebhook) -> None:
    [failed] = webhook(receiver.url, webhook_allow="10.0.0.0/8").deliver([EVENT])
    assert "127.0.0.1 is 127.0.0.1, which is not public: allow its network with GLAD_WEBHOOK_ALLOW" in failed.reason
    assert receiver.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
        "::ffff:10.1.2.3", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::ffff:127.0.0.1",
        "fec0::1", "feff::1", "::10.1.2.3", "::93.184.215.14", "::ffff:0:169.254.169.254", "::ffff:0:93.184.215.14",
        "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:ffff::1", "2001:0:5ef5:79fb::1", "2001:db8::1", "3fff::1", "5f00::1",
        "100::1", "4000::1", "ff0e::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(text: str) -> None:
    assert not is_allowed(ip_address(text), ())


@pytest.mark.parametrize(
    "text",
    ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14", "64:ff9b::93.184.215.14", "2002:5db8:d70e::1"],
)
def test_public_addresses_are_called(text: str) -> None:
    assert is_allowed(ip_address(text), ())


def test_a_network_of_ipv6_that_is_not_public_can_be_allowed() -> None:
    assert is_allowed(ip_address("fec0::1"), (ip_network("fec0::/10"),))
    assert not is_allowed(ip_address("fec0::1"), (ip_network("fc00::/7"),))


@given(st.ip_addresses(network="10.20.0.0/16"), st.ip_addresses(network="192.168.0.0/16"))
def test_only_the_allowed_networks_are_let_through(inside: Any, outside: Any) -> None:
    allowed = (ip_network("10.20.0.0/16"), ip_network("fd00::/8"))
    assert is_allowed(inside, allowed)
    assert not is_allowed(outside, allowed)
    assert is_allowed(ip_address(f"::ffff:{inside}"), allowed)
    assert is_allowed(ip_address("93.184.215.14"), allowed)


def test_a_name_that_leads_nowhere_says_so() -> None:
    with pytest.raises(AddressRefused, match=r"no-such-host\.invalid cannot be looked up"):
        resolve("no-such-host.invalid", 443, ())


def test_a_sinks_name_tells_urls_apart_and_shows_no_token() -> None:
    one, other = (sink_name(f"https://mes.example/hooks/{token}") for token in ("secret-a", "secret-b"))
    assert one != other
    assert one.startswith("webhook:mes.example-")
    assert "secret" not in one


def test_what_failed_is_sent_again_with_the_same_id(
    client: redis.Redis, receiver: Receiver, webhook: MakeWebhook, make_relay: MakeRelay
) -> None:
    sink = webhook(receiver.url)
    relay = make_relay(sink)
    first, second = end(client, 2, station="line-3")
    bad = [first]
    receiver.answer = lambda request: Answer(500 if json.loads(request.body)["inspection_id"] in bad else 204)
    turns(relay, 2)
    place = Subscription(client, sink.name)
    [waiting] = place.progress().pending
    assert waiting.retry is not None
    assert waiting.retry.reason == "answered 500 Internal Server Error"
    # 5 s, times 0.8 to 1.2
    assert 4_000 <= waiting.retry.due_ms - waiting.retry.since_ms <= 6_000
    bad.clear()
    place.settle([], {waiting.id: waiting.retry.model_copy(update={"due_ms": 0})})
    relay.turn()
    sent = [verified(request)["inspection_id"] for request in receiver.requests]
    assert sorted(sent[:2]) == sorted([first, second])
    assert sent[2:] == [first]
    again = [
        request.headers["webhook-id"] for request in receiver.requests if verified(request)["inspection_id"] == first
    ]
    assert again == [waiting.id] * 2
    assert place.progress().pending == ()


def patience_ends(place: Subscription) -> None:
    """What failed is due now."""
    waiting = {one.id: one.retry.model_copy(update={"due_ms": 0}) for one in place.progress().pending if one.retry}
    place.settle([], waiting)


def test_events_that_the_receiver_refuses_for_ever_hold_up_no_other_however_many(
    client: redis.Redis,
    receiver: Receiver,
    webhook: MakeWebhook,
    make_relay: MakeRelay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """120 are more than the hundred with which a receiver that answers nothing gets no further event."""
    monkeypatch.setattr(relay_module, "PROBE_S", 0.0)
    sink = webhook(receiver.url)
    relay, place = make_relay(sink), Subscription(client, sink.name)
    bad = end(client, 60, station="bad") + end(client, 60, station="worse")
    good = end(client, 20, station="good")
    statuses = {"bad": 422, "worse": 500, "good": 204}
    receiver.answer = lambda request: Answer(statuses[json.loads(request.body)["station"]])
    for _ in range(200):
        relay.turn()
        if {json.loads(request.body)["inspection_id"] for request in receiver.requests} >= set(good):
            break
    answered = {json.loads(request.body)["inspection_id"] for request in receiver.requests}
    assert answered >= set(good)
    waiting = place.progress().pending
    assert len(waiting) == len(bad)
    assert DeadEvents(client).all() == []


def test_a_receiver_that_is_away_gets_no_flood_when_a_further_event_is_tried(
    client: redis.Redis, receiver: Receiver, webhook: MakeWebhook, make_relay: MakeRelay
) -> None:
    sink = webhook(receiver.url)
    relay, place = make_relay(sink), Subscription(client, sink.name)
    end(client, 150)
    receiver.answer = lambda request: Answer(503)
    for _ in range(60):
        relay.turn()
        if len(place.progress().pending) >= MOST_FAILED:
            break
    turns(relay, 8)
    failed = [one for one in place.progress().pending if one.retry]
    # A delivery takes eight: the last one before the limit and one more that tries may go beyond it.
    assert MOST_FAILED <= len(failed) <= MOST_FAILED + 2 * CONCURRENT_POSTS


@pytest.mark.parametrize("text", ["no JSON", "[]", r'{"inspection_id":"\ud800"}'])
def test_an_event_that_cannot_be_read_becomes_a_dead_letter_alone(
    client: redis.Redis, receiver: Receiver, webhook: MakeWebhook, make_relay: MakeRelay, text: str
) -> None:
    sink = webhook(receiver.url)
    relay, place = make_relay(sink), Subscription(client, sink.name)
    client.xadd(keys.EVENTS, {"id": "x", "event": text})
    ended = end(client, 3)
    turns(relay, 2)
    assert sorted(verified(request)["inspection_id"] for request in receiver.requests) == sorted(ended)
    for _ in range(MOST_REFUSALS - 1):
        assert DeadEvents(client).all() == []
        patience_ends(place)
        relay.turn()
    assert [letter.event.text for letter in DeadEvents(client).all()] == [text]
    assert place.progress().pending == ()
