"""An event stream ends with the right to read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from glad_client.client import Client
from glad_client.errors import ApiError
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.settings import Settings
from tests.support.ended import end
from tests.support.http_server import server_on
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("keys_read_at_once")

URL = "/v1/events"


@pytest.fixture
def settings(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Settings:
    """A service whose silent streams show at once that they live."""
    return Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path, heartbeat_s=0.05)


@contextmanager
def stream(settings: Settings, headers: dict[str, str]) -> Iterator[Iterator[str]]:
    """The lines of an event stream whose head has come."""
    with (
        server_on(settings) as url,
        httpx.Client(base_url=url, timeout=30, headers=headers) as http,
        http.stream("GET", URL) as found,
    ):
        assert found.status_code == 200
        lines = found.iter_lines()
        assert next(lines) == "retry: 2000"
        yield lines


def test_a_stream_ends_when_its_key_is_revoked_and_tells_nothing_more(client: redis.Redis, settings: Settings) -> None:
    store = KeyStore(client)
    with stream(settings, {"X-API-Key": store.create("page", [Scope.READ])}) as lines:
        [told] = end(client)
        seen = next(line for line in lines if line.startswith("data: "))
        store.revoke("page")
        end(client)
        rest = list(lines)
    assert told in seen
    assert not [line for line in rest if line.startswith("data: ")]
    assert [line for line in rest if line][-1] == ": the API key of this stream is not in use any more: the stream ends"


def test_a_stream_without_a_key_ends_when_the_first_key_closes_the_door(
    client: redis.Redis, settings: Settings
) -> None:
    with stream(settings, {}) as lines:
        KeyStore(client).create("mes", [Scope.READ])
        assert [line for line in lines if line][-1].endswith("the stream ends")


def test_a_stream_goes_on_when_another_key_is_revoked(client: redis.Redis, settings: Settings) -> None:
    store = KeyStore(client)
    key = store.create("page", [Scope.READ])
    store.create("other", [Scope.READ])
    with stream(settings, {"X-API-Key": key}) as lines:
        store.revoke("other")
        [told] = end(client)
        assert told in next(line for line in lines if line.startswith("data: "))


def test_the_client_says_that_its_key_was_revoked(client: redis.Redis, settings: Settings) -> None:
    store = KeyStore(client)
    key = store.create("page", [Scope.READ])
    end(client)
    with server_on(settings) as url, Client(url, api_key=key) as reader:
        events = reader.events(last_event_id="0")
        next(events)
        store.revoke("page")
        with pytest.raises(ApiError, match="not in use"):
            list(events)
