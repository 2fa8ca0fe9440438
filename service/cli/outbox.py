"""`glad outbox`: delivers events; lists, replays and discards undelivered ones; forgets a sink."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import give_up
from service.cli.common import AsJson, DataDir, service_redis

if TYPE_CHECKING:
    import redis

    from service.outbox.relay import Sink
    from service.outbox.settings import OutboxSettings
    from service.queue.outbox import DeadEvent

app = typer.Typer(
    name="outbox",
    help="Deliver events by webhooks, MQTT and a daily archive; without a subcommand, until stopped.\n\n"
    "Example: glad outbox",
    invoke_without_command=True,
    add_completion=False,
)

SinkOption = Annotated[str | None, typer.Option(help="Only events of this sink.")]
Entries = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids as `glad outbox dead` lists them.")]
AllOfThem = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@app.callback()
def deliver(context: typer.Context) -> None:
    """Deliver the events of GLAD_REDIS_URL until stopped; after SIGTERM deliveries under way are finished."""
    if context.invoked_subcommand is None:
        from service.outbox.main import run

        raise SystemExit(run(_settings()))


@app.command()
def sinks(data_dir: DataDir = None) -> None:
    """List the sinks that have a position in the event stream, whether they are configured now or not.

    Example: glad outbox sinks
    """
    from service.queue.outbox import Subscribers

    with service_redis(_settings(data_dir)) as client:
        subscribers = Subscribers(client).all()
    for subscriber in subscribers:
        print(f"{subscriber.sink:<40}  {subscriber.pending:>6} under way  read up to {subscriber.last_taken}")
    if not subscribers:
        print("no sink has ever been set up", file=sys.stderr)


@app.command()
def forget(
    sink: Annotated[str, typer.Argument(help="Name as `glad outbox sinks` lists it.")], data_dir: DataDir = None
) -> None:
    """Remove a sink's position in the event stream: its undelivered events are dropped, and none is kept for it.

    Example: glad outbox forget mqtt
    """
    from service.queue.outbox import Subscribers

    with service_redis(_settings(data_dir)) as client:
        if not Subscribers(client).remove(sink):
            give_up(f"no sink {sink!r} has a position in the event stream: `glad outbox sinks` lists those that have")
    print(f"forgot {sink}; if it is still configured, it starts again with the events from now on")


@app.command()
def dead(
    sink: SinkOption = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the events that could not be delivered (dead letters), oldest first, with the reason.

    Example: glad outbox dead --sink mqtt
    """
    from service.queue.outbox import DeadEvents

    with service_redis(_settings(data_dir)) as client:
        letters = DeadEvents(client).all(sink)
    if as_json:
        print(json.dumps([_as_json(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        event = _event(letter)
        subject = f"{event.get('type')} {event.get('inspection_id')}" if isinstance(event, dict) else "(unreadable)"
        print(f"{letter.entry}  {letter.sink}  {subject}  {letter.attempts} attempts: {letter.reason}")
    if not letters:
        print("no event was given up", file=sys.stderr)


@app.command()
def replay(
    entries: Entries = None, every: AllOfThem = False, sink: SinkOption = None, data_dir: DataDir = None
) -> None:
    """Deliver dead letters now, from this process; those that arrive are removed. Needs the outbox's settings.

    Example: glad outbox replay --all
    """
    from service.queue.outbox import DeadEvents

    settings = _settings(data_dir)
    sinks = _sinks(settings)
    failed = 0
    with service_redis(settings) as client:
        for letter in _select(client, entries, every, sink):
            destination = sinks.get(letter.sink)
            undelivered = destination.deliver([letter.event]) if destination else []
            if destination is None:
                setting = "GLAD_MQTT_URL" if letter.sink == "mqtt" else "GLAD_WEBHOOK_URLS"
                print(f"{letter.entry}  {letter.sink} is not among the {setting} of this environment")
            elif undelivered:
                print(f"{letter.entry}  {undelivered[0].reason}")
            else:
                DeadEvents(client).remove(letter)
                print(f"{letter.entry}  delivered")
            failed += destination is None or bool(undelivered)
    for each in sinks.values():
        each.close()
    if failed:
        raise SystemExit(1)


@app.command()
def discard(
    entries: Entries = None, every: AllOfThem = False, sink: SinkOption = None, data_dir: DataDir = None
) -> None:
    """Remove dead letters for good.

    Example: glad outbox discard --all --sink mqtt
    """
    from service.queue.outbox import DeadEvents

    with service_redis(_settings(data_dir)) as client:
        letters = _select(client, entries, every, sink)
        for letter in letters:
            DeadEvents(client).remove(letter)
    print(f"discarded {len(letters)}")


def _sinks(settings: OutboxSettings) -> dict[str, Sink]:
    """Return the destinations that give events up, by their names: webhooks and the MQTT broker."""
    from service.outbox.mqtt import MqttSink
    from service.outbox.webhooks import WebhookSink

    made: list[Sink] = [WebhookSink(url, settings) for url in settings.webhook_urls]
    if settings.mqtt_url is not None:
        made.append(MqttSink(settings))
    return {sink.name: sink for sink in made}


def _select(client: redis.Redis, entries: list[str] | None, every: bool, sink: str | None) -> list[DeadEvent]:
    from service.queue.outbox import DeadEvents

    if bool(entries) == every:
        give_up("name the events by their ids, or give --all")
    letters = DeadEvents(client).all(sink)
    if every or not entries:
        return letters
    if unknown := set(entries) - {letter.entry for letter in letters}:
        give_up(f"not among the dead letters: {', '.join(sorted(unknown))}; `glad outbox dead` lists them")
    return [letter for letter in letters if letter.entry in entries]


def _as_json(letter: DeadEvent) -> dict[str, object]:
    return {
        "id": letter.entry,
        "sink": letter.sink,
        "event_id": letter.event.id,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "event": _event(letter),
    }


def _event(letter: DeadEvent) -> object:
    """Return the event's fields, or its text where it cannot be read: that may be why it was given up."""
    try:
        return letter.event.fields
    except ValueError:
        return letter.event.text


def _settings(data_dir: Path | None = None) -> OutboxSettings:
    from pydantic import ValidationError

    from service.outbox.settings import OutboxSettings

    try:
        return OutboxSettings() if data_dir is None else OutboxSettings(data_dir=data_dir)
    except ValidationError as error:
        give_up(OutboxSettings.describe_errors(error))
