"""The outbox process: one thread per sink, a health port, and a hold on the sinks."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from functools import partial

import redis
import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from service.host.child_process import EXIT_CONFIG
from service.host.health_server import HealthServer
from service.host.memory import freeze_startup_objects
from service.host.shutdown import Shutdown
from service.outbox.archive import FOLDER, Archive
from service.outbox.metrics import OutboxMetrics
from service.outbox.mqtt import Mqtt
from service.outbox.relay import Relay, Sink
from service.outbox.settings import OutboxSettings, describe
from service.outbox.sink_lease import SinkLeaseKeeper
from service.outbox.webhooks import Webhook
from service.queue.connection import connect
from service.queue.outbox import Holder, Subscribers, Subscription
from service.queue.schema import SchemaTooNew, check, refuse_newer
from service.storage.artifacts import ArtifactStore
from service.telemetry.logs import configure_logging

PAUSE_S = 1.0
DRAIN_S = 20.0
"""How long a delivery under way may take to end. One that is cut off is repeated at the next start."""

log = structlog.get_logger(__name__)


def run(settings: OutboxSettings, *, ready_fd: int | None = None) -> int:
    """Delivers until SIGTERM; returns the exit status. `ready_fd`: told the port once every sink has its place in the
    event stream."""
    configure_logging(settings)
    try:
        outbox = Outbox(settings)
        health_server = HealthServer(settings.host, settings.outbox_port, outbox)
        outbox.refuse_newer_schema()
    except (ValueError, OSError, SchemaTooNew) as error:
        print(f"glad outbox: {error}", file=sys.stderr)  # noqa: T201 - for the person who set it
        return EXIT_CONFIG
    with outbox.stop.on_signals(), health_server:
        outbox.take_places()
        freeze_startup_objects()
        if not outbox.stop.draining():
            _tell_ready(ready_fd, health_server.port)
            log.info("outbox ready", port=health_server.port, sinks=[sink.name for sink in outbox.sinks])
        status = outbox.work()
    log.info("outbox stopped")
    return status


class Outbox:
    """The sinks of one process, and how they are."""

    def __init__(self, settings: OutboxSettings) -> None:
        """ValueError or OSError if the settings cannot be used. Connects to nothing yet."""
        if settings.redis_url is None:
            raise ValueError("GLAD_REDIS_URL is not set: the outbox reads its events from a Redis")
        if not settings.delivers:
            raise ValueError(
                "there is nothing to deliver to: set GLAD_WEBHOOK_URLS and GLAD_WEBHOOK_SECRET, GLAD_MQTT_URL, or "
                "GLAD_ARCHIVE=on"
            )
        self.stop = Shutdown()
        self._redis_url, self._redis = settings.redis_url, connect(settings.redis_url)
        self._metrics = OutboxMetrics()
        self.sinks = make_sinks(settings, self._redis, self._metrics)
        self._stuck_after_s = settings.stuck_after_s
        names = [sink.name for sink in self.sinks]
        owner = f"{socket.gethostname()}-{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._keeper = SinkLeaseKeeper(Holder(self._redis, owner, settings.lease_ms), names, settings.lease_ms / 1000)
        self._places = [Subscription(self._redis, name) for name in names]
        self._relays = [
            Relay(sink, place, self._metrics, self.stop, lambda name=sink.name: self._keeper.is_holder(name))  # type: ignore[misc]
            for sink, place in zip(self.sinks, self._places, strict=True)
        ]
        self._ready = False

    @property
    def status(self) -> str:
        """What the health port says."""
        return "; ".join(f"{relay.sink.name} {_age_s(relay):.1f} s ago" for relay in self._relays)

    def alive(self) -> bool:
        """Every sink's loop took a turn lately; before there are loops, it waits for Redis, and is."""
        return not self._ready or all(_age_s(relay) < self._stuck_after_s for relay in self._relays)

    def ready(self) -> bool:
        """Every sink has its place in the event stream, and the end has not begun."""
        return self._ready and not self.stop.draining()

    def refuse_newer_schema(self) -> None:
        """SchemaTooNew if this Redis holds what only a newer version understands."""
        refuse_newer(self._redis_url)

    def take_places(self) -> None:
        """Makes the consumer groups that are missing, from now on; waits for Redis as long as it takes."""
        while not self.stop.draining():
            try:
                check(self._redis)
                for sink, place in zip(self.sinks, self._places, strict=True):
                    self._metrics.starts(sink.name)
                    if place.ensure():
                        log.info("new sink: gets what happens from now on", sink=sink.name)
                self._warn_of_others()
                self._ready = True
                return
            except RedisError as error:
                log.warning("Redis is away", error=str(error), kind=type(error).__name__)
                self.stop.wait(PAUSE_S)

    def _warn_of_others(self) -> None:
        for other in Subscribers(self._redis).all():
            if other.sink not in {sink.name for sink in self.sinks}:
                log.warning(
                    "a sink that this process does not deliver to keeps its place, and holds events back: if it is no "
                    "longer wanted, `glad outbox forget`",
                    sink=other.sink,
                )

    def work(self) -> int:
        """Runs every sink's loop until told to stop; 1 if one of them failed."""
        failures: list[str] = []
        threads = [
            threading.Thread(target=self._run, args=(relay, failures), name=relay.sink.name, daemon=True)
            for relay in self._relays
        ]
        self._keeper.start()
        for thread in threads:
            thread.start()
        while not self.stop.draining():
            self.stop.wait(3600)
        deadline = time.monotonic() + DRAIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._keeper.stop()
        return 1 if failures else 0

    def _run(self, relay: Relay, failures: list[str]) -> None:
        """A dead loop ends the process, which is then started again."""
        try:
            relay.run()
        except Exception:
            log.exception("sink's loop ends", sink=relay.sink.name)
            failures.append(relay.sink.name)
            self.stop.request()


def make_sinks(settings: OutboxSettings, client: redis.Redis, metrics: OutboxMetrics) -> tuple[Sink, ...]:
    """Every sink that is configured. ValueError or OSError if one cannot be made."""
    sinks: list[Sink] = [Webhook(url, settings) for url in dict.fromkeys(settings.webhook_urls)]
    if settings.mqtt_url is not None:
        sinks.append(Mqtt(settings))
    if settings.archive:
        folder = ArtifactStore(settings.artifacts).folder(FOLDER)
        sinks.append(Archive(folder, client, settings.archive_every_s, partial(metrics.days_left, "archive")))
    return tuple(sinks)


def _age_s(relay: Relay) -> float:
    return time.monotonic() - relay.last_turn


def _tell_ready(fd: int | None, port: int) -> None:
    if fd is not None:
        with os.fdopen(fd, "w") as pipe:
            pipe.write(json.dumps({"port": port, "pid": os.getpid(), "warm": True}) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m service.outbox.main`: an outbox with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="python -m service.outbox.main", description=__doc__)
    parser.add_argument("--ready-fd", type=int, help="descriptor to tell the port")
    given = parser.parse_args(arguments)
    try:
        settings = OutboxSettings()
    except ValidationError as error:
        print(f"glad outbox: {describe(error)}", file=sys.stderr)  # noqa: T201 - for the person who set it
        return EXIT_CONFIG
    return run(settings, ready_fd=given.ready_fd)


if __name__ == "__main__":
    sys.exit(main())
