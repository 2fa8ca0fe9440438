"""`glad outbox`: delivers events; lists, replays and discards what was given up; forgets a sink."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import give_up

if TYPE_CHECKING:
    import redis

    from service.outbox.settings import OutboxSettings
    from service.queue.outbox import DeadLetter

app = typer.Typer(
    name="outbox",
    help="Deliver events by webhooks, MQTT and a daily archive; without a subcommand, until stopped.",
    invoke_without_command=True,
    add_completion=False,
)

DataDir = Annotated[Path | None, typer.Option(help="The service's data folder. [GLAD_DATA_DIR, ~/.local/state/glad]")]
SinkOption = Annotated[str | None, typer.Option(help="Only of this sink.")]
Entries = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `glad outbox dead` lists them.")]
AllOfThem = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.callback()
def deliver(context: typer.Context) -> None:
    """Deliver what happens at GLAD_REDIS_URL until stopped: SIGTERM finishes what has begun."""
    if context.invoked_subcommand is None:
        from service.outbox.main import run

        raise SystemExit(run(_settings()))


@app.command()
def sinks(data_dir: DataDir = None) -> None:
    """Every sink with a place in the event stream, configured or not."""
    from service.queue.outbox import Subscribers

    with _redis(_settings(data_dir)) as client:
        found = Subscribers(client).all()
    for one in found:
        print(f"{one.sink:<40}  {one.pending:>6} under way  read up to {one.last_taken}")
    if not found:
        print("no sink has ever been set up", file=sys.stderr)


@app.command()
def forget(
    sink: Annotated[str, typer.Argument(help="As `glad outbox sinks` lists it.")], data_dir: DataDir = None
) -> None:
    """Give up a sink's place in the event stream: what it has not delivered is dropped, and nothing waits for it."""
    from service.queue.outbox import Subscribers

    with _redis(_settings(data_dir)) as client:
        if not Subscribers(client).remove(sink):
            give_up(f"no sink {sink!r} has a place in the event stream: `glad outbox sinks` lists those that have")
    print(f"forgot {sink}; where it is still configured, it begins anew with what happens from now on")


@app.command()
def dead(
    sink: SinkOption = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """What was given up, oldest first, and why."""
    from service.queue.outbox import DeadLetters

    with _redis(_settings(data_dir)) as client:
        letters = DeadLetters(client).all(sink)
    if as_json:
        print(json.dumps([_as_json(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        fields = letter.event.fields
        print(
            f"{letter.entry}  {letter.sink}  {fields['type']} {fields['inspection_id']}  "
            f"{letter.attempts} attempts: {letter.reason}"
        )
    if not letters:
        print("no event was given up", file=sys.stderr)


@app.command()
def replay(
    entries: Entries = None, every: AllOfThem = False, sink: SinkOption = None, data_dir: DataDir = None
) -> None:
    """Deliver now, from here, what was given up; what arrives is no longer dead. Needs the webhooks' settings."""
    from service.outbox.webhooks import Webhook
    from service.queue.outbox import DeadLetters

    settings = _settings(data_dir)
    webhooks = {webhook.name: webhook for webhook in (Webhook(url, settings) for url in settings.webhook_urls)}
    failed = 0
    with _redis(settings) as client:
        for letter in _chosen(client, entries, every, sink):
            webhook = webhooks.get(letter.sink)
            undelivered = webhook.deliver([letter.event]) if webhook else []
            if webhook is None:
                print(f"{letter.entry}  {letter.sink} is not among the GLAD_WEBHOOK_URLS of this environment")
            elif undelivered:
                print(f"{letter.entry}  {undelivered[0].reason}")
            else:
                DeadLetters(client).remove(letter)
                print(f"{letter.entry}  delivered")
            failed += webhook is None or bool(undelivered)
    for webhook in webhooks.values():
        webhook.close()
    if failed:
        raise SystemExit(1)


@app.command()
def discard(
    entries: Entries = None, every: AllOfThem = False, sink: SinkOption = None, data_dir: DataDir = None
) -> None:
    """Drop for good what was given up."""
    from service.queue.outbox import DeadLetters

    with _redis(_settings(data_dir)) as client:
        letters = _chosen(client, entries, every, sink)
        for letter in letters:
            DeadLetters(client).remove(letter)
    print(f"discarded {len(letters)}")


def _chosen(client: redis.Redis, entries: list[str] | None, every: bool, sink: str | None) -> list[DeadLetter]:
    from service.queue.outbox import DeadLetters

    if bool(entries) == every:
        give_up("name the events by their ids, or give --all")
    letters = DeadLetters(client).all(sink)
    if every or not entries:
        return letters
    if unknown := set(entries) - {letter.entry for letter in letters}:
        give_up(f"not among the dead: {', '.join(sorted(unknown))}; `glad outbox dead` lists them")
    return [letter for letter in letters if letter.entry in entries]


def _as_json(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.entry,
        "sink": letter.sink,
        "event_id": letter.event.id,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "event": letter.event.fields,
    }


def _settings(data_dir: Path | None = None) -> OutboxSettings:
    from pydantic import ValidationError

    from service.outbox.settings import OutboxSettings, describe

    try:
        return OutboxSettings() if data_dir is None else OutboxSettings(data_dir=data_dir)
    except ValidationError as error:
        give_up(describe(error))


@contextmanager
def _redis(settings: OutboxSettings) -> Iterator[redis.Redis]:
    from service.errors import StartError
    from service.host.private_redis import connect_for_command

    try:
        with connect_for_command(settings) as client:
            yield client
    except StartError as error:
        give_up(error)
