"""`glad outbox sinks | forget | dead | replay | discard`, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from service.cli.outbox import app
from service.outbox.webhooks import WebhookSink, sink_name
from service.queue.outbox import DeadEvent, DeadEvents, Subscribers
from tests.service.outbox.conftest import SECRET, MakeRelay, MakeSettings, turns
from tests.support.ended import end
from tests.support.receiver import Answer, Receiver
from tests.support.redis_server import RedisServer

Call = Callable[..., Any]
"""Gives exit status and output."""


@pytest.fixture
def call(shared_redis: RedisServer, receiver: Receiver, ca_file: Path, tmp_path: Path) -> Call:
    """Calls `glad outbox ...` with the settings of a service that posts to the receiver."""
    environment = {
        "GLAD_REDIS_URL": shared_redis.url,
        "GLAD_DATA_DIR": str(tmp_path),
        "GLAD_WEBHOOK_URLS": receiver.url,
        "GLAD_WEBHOOK_SECRET": SECRET,
        "GLAD_WEBHOOK_ALLOW": "127.0.0.0/8",
        "GLAD_WEBHOOK_CA_FILE": str(ca_file),
    }
    return lambda *words, **changes: CliRunner().invoke(app, words, env={**environment, **changes})


@pytest.fixture
def letters(
    client: redis.Redis, receiver: Receiver, make_settings: MakeSettings, make_relay: MakeRelay
) -> list[DeadEvent]:
    """Two events that the receiver refused, and that were given up at once."""
    receiver.answer = lambda request: Answer(500)
    sink = WebhookSink(receiver.url, make_settings(webhook_urls=receiver.url, webhook_give_up_after_s=0))
    relay = make_relay(sink)
    end(client, 2, serial="SN-1")
    turns(relay, 2)
    sink.close()
    receiver.answer = lambda request: Answer()
    return DeadEvents(client).all()


def test_the_dead_are_listed_with_what_they_were_and_why(call: Call, letters: list[DeadEvent]) -> None:
    done = call("dead")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    first = letters[0]
    assert first.entry in lines[0]
    assert first.event.fields["inspection_id"] in lines[0]
    assert "1 attempts: answered 500 Internal Server Error" in lines[0]
    assert "t0ken" not in done.output
    told = json.loads(call("dead", "--json").stdout)
    assert [one["event"]["serial"] for one in told] == ["SN-1", "SN-1"]
    assert call("dead", "--sink", "other").stdout == ""


def test_a_replay_delivers_with_the_same_id_and_the_dead_are_gone(
    call: Call, letters: list[DeadEvent], receiver: Receiver, client: redis.Redis
) -> None:
    before = len(receiver.requests)
    done = call("replay", letters[1].entry)
    assert (done.exit_code, done.stdout) == (0, f"{letters[1].entry}  delivered\n")
    [request] = receiver.requests[before:]
    assert request.headers["webhook-id"] == letters[1].event.id
    assert DeadEvents(client).all() == letters[:1]
    assert call("replay", "--all").exit_code == 0
    assert DeadEvents(client).all() == []


def test_what_still_fails_stays(call: Call, letters: list[DeadEvent], receiver: Receiver, client: redis.Redis) -> None:
    receiver.answer = lambda request: Answer(410)
    done = call("replay", "--all")
    assert done.exit_code == 1
    assert "answered 410 Gone" in done.stdout
    assert DeadEvents(client).all() == letters


def test_a_replay_without_the_webhooks_settings_says_so(call: Call, letters: list[DeadEvent]) -> None:
    done = call("replay", "--all", GLAD_WEBHOOK_URLS="")
    assert done.exit_code == 1
    assert f"{letters[0].sink} is not among the GLAD_WEBHOOK_URLS of this environment" in done.stdout


def test_the_dead_are_discarded_only_when_they_are_named(
    call: Call, letters: list[DeadEvent], client: redis.Redis
) -> None:
    assert "name the events by their ids, or give --all" in call("discard").output
    assert "not among the dead letters: 1-1" in call("discard", "1-1").output
    assert call("discard", letters[0].entry).stdout == "discarded 1\n"
    assert DeadEvents(client).all() == letters[1:]


def test_sinks_are_listed_and_one_is_forgotten(
    call: Call, letters: list[DeadEvent], receiver: Receiver, client: redis.Redis
) -> None:
    name = sink_name(receiver.url)
    assert letters[1].event.id in call("sinks").stdout
    assert name in call("sinks").stdout
    done = call("forget", name)
    assert (done.exit_code, done.stdout.startswith(f"forgot {name}")) == (0, True)
    assert Subscribers(client).all() == []
    again = call("forget", name)
    assert again.exit_code == 1
    assert "`glad outbox sinks` lists those that have" in again.output


def test_wrong_settings_are_told_without_the_secret(call: Call) -> None:
    done = call("dead", GLAD_WEBHOOK_SECRET="Sesame")
    assert done.exit_code == 1
    assert "24 to 64 random bytes" in done.output
    assert "Sesame" not in done.output


def test_a_redis_that_is_away_is_told(call: Call) -> None:
    done = call("sinks", GLAD_REDIS_URL="redis://127.0.0.1:1/0")
    assert done.exit_code == 1
    assert "Redis does not answer" in done.output


def test_without_a_subcommand_it_says_when_there_is_nothing_to_deliver(call: Call) -> None:
    done = call(GLAD_WEBHOOK_URLS="")
    assert done.exit_code == 78
    assert "there is nothing to deliver to" in done.output
