"""A tiny bundle in a store, images, and what a worker needs around them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_store.store import Store
from service.host.child_process import Child
from service.host.private_redis import find_redis, redis_answers, redis_command, redis_url, socket_path
from service.queue.connection import connect
from service.worker.bundle_cache import BundleCache, LoadedBundle
from tests.support.nursery import Nursery
from tests.support.processes import eventually
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.worker_fleet import WorkerFleet


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Bit-equality and a shared machine both ask for it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with product "toy" that several tests share; read only."""
    folder = tmp_path_factory.mktemp("store")
    make_tiny_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def toy(store_folder: Path) -> LoadedBundle:
    """The toy product's bundle, loaded."""
    store = Store(store_folder)
    return BundleCache(store, "cpu", capacity=2).get("toy", "1", store.resolve("toy").hash)


def png(seed: int, width: int = 96, height: int = 64) -> bytes:
    """A picture of coloured noise blobs, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(target, "PNG")
    return target.getvalue()


@dataclass(frozen=True)
class RedisServer:
    """A real Redis that can be killed and started again on its data."""

    child: Child
    socket: Path

    @property
    def url(self) -> str:
        """Its URL."""
        return redis_url(self.socket)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.child.start()
        eventually(lambda: redis_answers(self.socket))


def redis_in(folder: Path) -> RedisServer:
    """A server with its data in this folder; not started yet."""
    path = socket_path(folder)
    return RedisServer(Child("Redis", redis_command(find_redis(), folder, path), log=folder / "redis.log"), path)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis that these tests share."""
    server = redis_in(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.child.kill()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks worker processes."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def fleet(redis_server: RedisServer, store_folder: Path, tmp_path: Path, nursery: Nursery) -> Iterator[WorkerFleet]:
    """An empty queue, the shared store, an own artifact folder, and workers for them."""
    if not redis_server.child.running:
        redis_server.start()
    with connect(redis_server.url) as client:
        client.flushall()
        yield WorkerFleet(redis_server.url, client, store_folder, tmp_path, nursery)
    nursery.end_all()
