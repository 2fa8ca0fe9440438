"""A real Redis, a store with one product, the real application."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
import pytest_asyncio
import redis
import redis.asyncio

from glad.quality_gate.limits import QualityGate
from model_store.files import hash_file
from model_store.manifest import REPORT_PAGE, Calibration, Component, FileEntry, Manifest, Provenance
from service.api.app import create_app
from service.api.dependencies import Services
from service.auth.api_keys import KeyCache
from service.queue.connection import connect, connect_async
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.storage.local import MARKER
from tests.support.line import AT, THRESHOLDS
from tests.support.object_store import ObjectStore, credentials
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that do not hurt it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    """A client of the shared server, emptied before."""
    with connect(shared_redis.url) as client:
        client.flushall()
        yield client


@pytest_asyncio.fixture
async def async_client(client: redis.Redis, shared_redis: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """The same server for asyncio."""
    async with connect_async(shared_redis.url) as found:
        yield found


@pytest.fixture
def submitter(async_client: redis.asyncio.Redis) -> JobSubmitter:
    """The API's side of an empty queue."""
    return JobSubmitter(async_client, max_backlog=1000)


@pytest.fixture
def make_queue(client: redis.Redis) -> Callable[..., JobQueue]:
    """Makes worker's sides of the queue; a lease is so long that it ends only when a test says so."""

    def make(name: str = "w", lease_ms: int = 60_000, **options: Any) -> JobQueue:
        return JobQueue(client, worker_id=name, lease_ms=lease_ms, **options)

    return make


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with product "toy" whose weights are empty files: the API reads manifests only."""
    root = tmp_path_factory.mktemp("store")
    write_toy(root / "toy" / "1")
    return root


def write_toy(
    folder: Path,
    *,
    calibrated: bool = True,
    gate: QualityGate | None = None,
    report: bytes | None = None,
    created_at: datetime = AT,
) -> None:
    """A bundle as far as the API looks at one."""
    pages = {} if report is None else {REPORT_PAGE: report}
    for page, content in pages.items():
        (folder / page).parent.mkdir(parents=True)
        (folder / page).write_bytes(content)
    empty = FileEntry(sha256="00" * 32, bytes=0)
    components: dict[Any, Component] = {}
    for name, kind in (("autoencoder", "autoencoder_kl"), ("unet", "unet2d"), ("features", "vit")):
        files = {f"{name}/{file}": empty for file in ("config.json", "model.safetensors")}
        components[name] = Component.model_validate(
            {"kind": kind, "dtype": "float16", "files": files, "licence": "none"}
        )
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / file).touch()
    calibration = Calibration(**THRESHOLDS.model_dump(), pixel_quantile=0.99, good_images=2, good_scores=(0.1, 0.2))
    manifest = Manifest.model_validate(
        {
            "product": folder.parent.name,
            "version": folder.name,
            "title": "Toy",
            "settings": {"trigger": {"delta": 0.3}},
            "components": components,
            "calibration": calibration if calibrated else None,
            "gate": gate,
            "report": {page: hash_file(folder / page) for page in pages},
            "provenance": Provenance(created_at=created_at, command="test", recipe={}, data={}, software={}, seed=0),
        }
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())


@dataclass(frozen=True)
class Running:
    """A started application and a client of it."""

    http: httpx.AsyncClient
    services: Services
    settings: Settings

    def stored(self) -> list[Path]:
        """Every file in the artifact folder, but for its marker."""
        return [path for path in Path(self.settings.artifacts).rglob("*") if path.is_file() and path.name != MARKER]


StartApp = Callable[..., Any]


@pytest.fixture
def keys_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """API keys are read at every request, so that no test waits for the next reading."""
    monkeypatch.setattr(KeyCache.__init__, "__kwdefaults__", {"refresh_s": 0.0})


@pytest_asyncio.fixture
async def start_app(tmp_path: Path, toy_store: Path) -> AsyncIterator[StartApp]:
    """Starts the real application in this process, with the settings given."""
    async with AsyncExitStack() as stack:

        async def start(redis_url: str, **settings: Any) -> Running:
            given: dict[str, Any] = {"redis_url": redis_url, "store": str(toy_store), "data_dir": tmp_path / "data"}
            made = Settings(**(given | settings))
            app = create_app(made)
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app)
            http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
            return Running(http, app.state.services, made)

        yield start


@pytest_asyncio.fixture
async def api(client: redis.Redis, shared_redis: RedisServer, start_app: StartApp) -> Running:
    """The application on the shared, emptied Redis."""
    running: Running = await start_app(shared_redis.url)
    return running


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A server that speaks S3."""
    pytest.importorskip("s3fs", reason="pip install 'glad-inspect[s3]'")
    pytest.importorskip("moto.server", reason="pip install 'glad-inspect[dev]'")
    server = ObjectStore(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.kill()


@pytest.fixture
def s3_wire(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The wire to it, whose other end the environment names, as a deployment names its endpoint."""
    with Wire(object_store.url) as wire:
        for name, value in credentials(wire.url).items():
            monkeypatch.setenv(name, value)
        # As a deployment would say it: on a busy machine a connection to itself has taken more than two seconds.
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"connect_timeout": 20}})
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield wire
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(s3_wire: Wire) -> ArtifactStore:
    """Artifacts in a bucket of their own."""
    name = f"glad-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(name)
    return ArtifactStore(f"s3://{name}/line")
