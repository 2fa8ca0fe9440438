"""A certificate authority, an HTTPS receiver, and relays on a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from prometheus_client import CollectorRegistry

from service.host.shutdown import Shutdown
from service.outbox.metrics import OutboxMetrics
from service.outbox.relay import Relay, Sink
from service.outbox.settings import OutboxSettings
from service.queue.outbox import Subscription
from tests.support.receiver import Receiver, receiving

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""Of the 32 bytes 0123456789abcdef0123456789abcdef."""


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs the certificates of the tests' servers."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a client has to trust."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def receiver(authority: trustme.CA) -> Iterator[Receiver]:
    """A webhook receiver on 127.0.0.1."""
    with receiving(authority) as found:
        yield found


MakeSettings = Callable[..., OutboxSettings]


@pytest.fixture
def make_settings(shared_redis: Any, ca_file: Path, tmp_path: Path) -> MakeSettings:
    """Settings that may deliver to this machine."""

    def make(**given: Any) -> OutboxSettings:
        basis: dict[str, Any] = {
            "redis_url": shared_redis.url,
            "data_dir": tmp_path / "data",
            "webhook_secret": SECRET,
            "webhook_allow": "127.0.0.0/8",
            "webhook_ca_file": ca_file,
        }
        return OutboxSettings(**(basis | given))

    return make


MakeRelay = Callable[..., Relay]


@pytest.fixture
def registry() -> CollectorRegistry:
    """Of the relays' metrics."""
    return CollectorRegistry()


@pytest.fixture
def make_relay(client: redis.Redis, registry: CollectorRegistry) -> MakeRelay:
    """A sink's relay, with its position in the event stream."""
    metrics = OutboxMetrics(registry)

    def make(sink: Sink, stop: Shutdown | None = None) -> Relay:
        place = Subscription(client, sink.name)
        place.ensure()
        return Relay(sink, place, metrics, stop or Shutdown(), lambda: True)

    return make


@contextmanager
def running(relay: Relay, stop: Shutdown) -> Iterator[None]:
    """The relay's loop in a thread, as a process runs it."""
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield
    finally:
        stop.request()
        thread.join()


def turns(relay: Relay, count: int) -> None:
    """So many turns of a relay's loop."""
    for _ in range(count):
        relay.turn()
