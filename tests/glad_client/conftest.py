"""A real service, a client of it, and a folder that a camera writes into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from glad_client.client import Client
from service.settings import Settings
from tests.service.conftest import client, make_queue, own_redis, shared_redis, toy_store
from tests.support.http_server import server_on
from tests.support.redis_server import RedisServer

__all__ = ["client", "make_queue", "own_redis", "shared_redis", "toy_store"]


@pytest.fixture
def settings(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Settings:
    return Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path / "data")


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with server_on(settings) as url:
        yield url


@pytest.fixture
def service(url: str) -> Iterator[Client]:
    with Client(url, patience_s=1) as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made
