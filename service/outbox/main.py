"""The outbox process: one thread per sink, a health port, and the leases on its sinks."""

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
from redis.exceptions import RedisError

from service.auth.metrics_access import MetricsAccess
from service.host.child_process import EXIT_CONFIG, read_settings
from service.host.health_server import HealthServer
from service.host.memory import freeze_startup_objects
from service.host.shutdown import Shutdown
from service.outbox.archive import FOLDER, ArchiveSink
from service.outbox.metrics import OutboxMetrics
from service.outbox.mqtt import MqttSink
from service.outbox.relay import Relay, Sink
from service.outbox.settings import OutboxSettings
from service.outbox.sink_lease import SinkLeaseKeeper
from service.outbox.webhooks import WebhookSink
from service.queue.artifact_home import ArtifactHome
from service.queue.connection import SchemaTooNew, check_schema, connect, refuse_newer_schema
from service.queue.outbox import SinkLeases, Subscribers, Subscription
from service.storage.artifacts import ArtifactStore
from service.telemetry.logs import configure_logging

PAUSE_S = 1.0
DRAIN_S = 20.0
"""How long a delivery under way may take to end. One that is cut off is repeated at the next start."""

log = structlog.get_logger(__name__)


def run(settings: OutboxSettings, *, ready_fd: int | None = None) -> int:
    """Deliver events until SIGTERM; return the exit status.

    Args:
        ready_fd: a descriptor that the port is written to once every sink has its position in the event stream.
    """
    configure_logging(settings)
    try:
        outbox = Outbox(settings)
        health_server = HealthServer(settings.health_host, settings.outbox_port, outbox, MetricsAccess(settings).check)
        outbox.refuse_newer_schema()
    except (ValueError, OSError, SchemaTooNew) as error:
        print(f"glad outbox: {error}", file=sys.stderr)  # noqa: T201 - for the person who set it
        return EXIT_CONFIG
    with outbox.stop.on_signals(), health_server:
        outbox.ensure_positions()
        freeze_startup_objects()
        if not outbox.stop.draining():
            _report_ready(ready_fd, health_server.port)
            log.info("outbox ready", port=health_server.port, sinks=[sink.name for sink in outbox.sinks])
        status = outbox.work()
    log.info("outbox stopped")
    return status


class Outbox:
    """The sinks of one process, their loops, and their health."""

    def __init__(self, settings: OutboxSettings) -> None:
        """Make the sinks; nothing is connected yet.

        Raises:
            ValueError: if the settings name no Redis, or nothing to deliver to.
            OSError: if a certificate cannot be read.
        """
        if settings.redis_url is None:
            raise ValueError("GLAD_REDIS_URL is not set: the outbox reads its events from a Redis")
        if not settings.delivers:
            raise ValueError(
                "there is nothing to deliver to: set GLAD_WEBHOOK_URLS and GLAD_WEBHOOK_SECRET, GLAD_MQTT_URL, or "
                "GLAD_ARCHIVE=on"
            )
        self.stop = Shutdown()
        self._redis_url = settings.redis_url
        self._redis = connect(settings.redis_url, settings.redis_answer_s)
        self._metrics = OutboxMetrics()
        self.sinks = make_sinks(settings, self._redis, self._metrics)
        self._stuck_after_s = settings.stuck_after_s
        names = [sink.name for sink in self.sinks]
        owner = f"{socket.gethostname()}-{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._keeper = SinkLeaseKeeper(
            SinkLeases(self._redis, owner, settings.lease_ms), names, settings.lease_ms / 1000
        )
        self._subscriptions = [Subscription(self._redis, name) for name in names]
        self._relays = [
            Relay(sink, subscription, self._metrics, self.stop, partial(self._keeper.is_holder, sink.name))
            for sink, subscription in zip(self.sinks, self._subscriptions, strict=True)
        ]
        self._ready = False

    @property
    def status(self) -> str:
        """When each sink's loop took its last turn."""
        return "; ".join(f"{relay.sink.name} {_age_s(relay):.1f} s ago" for relay in self._relays)

    def alive(self) -> bool:
        """Return whether every sink's loop took a turn lately; True while the process still waits for Redis."""
        return not self._ready or all(_age_s(relay) < self._stuck_after_s for relay in self._relays)

    def ready(self) -> bool:
        """Return whether every sink has its position in the event stream and no stop was requested."""
        return self._ready and not self.stop.draining()

    def refuse_newer_schema(self) -> None:
        """Raise SchemaTooNew if this Redis holds data that only a newer version understands."""
        refuse_newer_schema(self._redis_url)

    def ensure_positions(self) -> None:
        """Make the consumer groups that are missing; they begin with new events. Wait for Redis as long as needed."""
        while not self.stop.draining():
            try:
                check_schema(self._redis)
                for sink, subscription in zip(self.sinks, self._subscriptions, strict=True):
                    self._metrics.add_sink(sink.name)
                    if subscription.ensure():
                        log.info("new sink: gets the events from now on", sink=sink.name)
                self._warn_of_unserved_sinks()
                self._ready = True
                return
            except RedisError as error:
                log.warning("Redis is away", error=str(error), kind=type(error).__name__)
                self.stop.wait(PAUSE_S)

    def _warn_of_unserved_sinks(self) -> None:
        for other in Subscribers(self._redis).all():
            if other.sink not in {sink.name for sink in self.sinks}:
                log.warning(
                    "a sink that this process does not serve keeps its position, so the event stream grows: "
                    "if the sink is no longer needed, remove it with `glad outbox forget`",
                    sink=other.sink,
                )

    def work(self) -> int:
        """Run every sink's loop until a stop is requested; return 1 if one of them failed, else 0."""
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
        """Run one sink's loop; if it fails, end the process, which is then started again."""
        try:
            relay.run()
        except Exception:
            log.exception("sink's loop ends", sink=relay.sink.name)
            failures.append(relay.sink.name)
            self.stop.request()


def make_sinks(settings: OutboxSettings, client: redis.Redis, metrics: OutboxMetrics) -> tuple[Sink, ...]:
    """Return every sink that is configured.

    Raises:
        ValueError: if a sink cannot be made of its settings.
        OSError: if its certificates cannot be read.
    """
    sinks: list[Sink] = [WebhookSink(url, settings) for url in dict.fromkeys(settings.webhook_urls)]
    if settings.mqtt_url is not None:
        sinks.append(MqttSink(settings))
    if settings.archive:
        artifacts = ArtifactStore(settings.artifacts)
        home = ArtifactHome(client, artifacts)
        report = partial(metrics.set_days_left, "archive")
        sinks.append(
            ArchiveSink(artifacts.folder(FOLDER), client, settings.archive_every_s, report, check_place=home.check)
        )
    return tuple(sinks)


def _age_s(relay: Relay) -> float:
    return time.monotonic() - relay.last_turn


def _report_ready(fd: int | None, port: int) -> None:
    if fd is not None:
        with os.fdopen(fd, "w") as pipe:
            pipe.write(json.dumps({"port": port, "pid": os.getpid(), "warm": True}) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an outbox with the settings of the environment: `python -m service.outbox.main`."""
    parser = argparse.ArgumentParser(prog="python -m service.outbox.main", description=__doc__)
    parser.add_argument("--ready-fd", type=int, help="descriptor that the port is written to")
    given = parser.parse_args(arguments)
    return run(read_settings(OutboxSettings, "glad outbox"), ready_fd=given.ready_fd)


if __name__ == "__main__":
    sys.exit(main())
