"""The service's settings, GLAD_*: command line before environment before defaults; checked once, at start."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_store.engines.engine_spec import EngineSpec
from model_store.manifest import Name
from model_store.signing import TrustedKeys, check_keys, split_keys
from service.contract import DEFAULT_POOL, LONGEST_INFER_WAIT_S
from service.contract.shifts import ShiftTimes, ZoneName

FORM = "pool=product,product pool=product ..."


def split_pools(given: object) -> object:
    """Return the pools and their products from the text of GLAD_POOLS.

    Raises:
        ValueError: if the text has another form.
    """
    if not isinstance(given, str):
        return given
    found: dict[str, list[str]] = {}
    for word in given.split():
        pool, equals, products = word.partition("=")
        if not equals or not pool or not all(products.split(",")):
            raise ValueError(f"{word!r} is no pool with its products: write {FORM}, without spaces at = and ,")
        if pool in found:
            raise ValueError(f"pool {pool!r} stands there twice: name all its products at once")
        found[pool] = products.split(",")
    return found


def check_pools(given: dict[Name, tuple[Name, ...]]) -> dict[Name, tuple[Name, ...]]:
    """Return the pools unchanged.

    Raises:
        ValueError: if a pool has no product, or a product two pools.
    """
    pool_of: dict[str, str] = {}
    for pool, products in given.items():
        if not products:
            raise ValueError(f"pool {pool!r} has no product: name at least one, or leave the pool out")
        for product in products:
            if pool_of.setdefault(product, pool) != pool:
                raise ValueError(f"product {product!r} is in pools {pool_of[product]!r} and {pool!r}: choose one")
    return given


Pools = Annotated[dict[Name, tuple[Name, ...]], NoDecode, BeforeValidator(split_pools), AfterValidator(check_pools)]


def pool_of(product: str, pools: Mapping[str, tuple[str, ...]], rest: str) -> str:
    """Return the pool that inspects a product; `rest` inspects what no pool names."""
    return next((pool for pool, products in pools.items() if product in products), rest)


def default_data_dir() -> Path:
    """Return `~/.local/state/glad`."""
    return Path.home() / ".local" / "state" / "glad"


def check_engine(text: str) -> str:
    """Return the text of GLAD_ENGINE unchanged.

    Raises:
        ValueError: if it is no engine specification.
    """
    EngineSpec.parse(text)
    return text


def check_redis_url(text: str) -> str:
    """Return the text of GLAD_REDIS_URL unchanged.

    Raises:
        ValueError: if it is no address of a Redis; the message does not show it, for it may hold a password.
    """
    from redis.connection import parse_url

    try:
        parse_url(text)  # type: ignore[no-untyped-call]
        # It takes a database that is no number for number 0, and no path for the address "".
        sound = re.fullmatch(r"/.+" if text.startswith("unix://") else r"/?\d*", urlsplit(text).path) is not None
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(
            "it is no address of a Redis (not shown: it may hold a password): give redis://HOST:6379/0, rediss:// for "
            "TLS, or unix:///PATH, with / # ? @ of a password as %2F %23 %3F %40"
        )
    return text


def check_store(text: str) -> str:
    """Return the text of GLAD_STORE unchanged.

    Raises:
        ValueError: if it is neither a folder nor a file:// URL.
    """
    if "://" in text and not re.match(r"file://(localhost)?/", text):
        raise ValueError("a store is a local folder or file:// URL: mount it and give its path")
    return text


def check_artifacts_url(text: str) -> str:
    """Return the text of GLAD_ARTIFACTS_URL unchanged.

    Raises:
        ValueError: if no file system is known by its scheme; the message does not show it, for it may hold a password.
    """
    from fsspec import available_protocols
    from fsspec.utils import get_protocol

    if (protocol := get_protocol(text)) not in available_protocols():
        raise ValueError(
            f"{protocol!r} is no file system that fsspec knows: give a folder, or a URL such as s3://bucket/prefix"
        )
    return text


def split_origins(given: object) -> object:
    """Return the origins from the text of GLAD_CORS_ORIGINS."""
    return tuple(word.strip() for word in given.split(",") if word.strip()) if isinstance(given, str) else given


def check_origins(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the origins unchanged.

    Raises:
        ValueError: if one has not the form that browsers send.
    """
    for origin in given:
        if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", origin):
            raise ValueError(f"{origin!r} is no origin: name each, such as https://mes.example or http://10.0.0.7:8080")
    return given


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_origins), AfterValidator(check_origins)]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]
BundleKeys = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_keys), AfterValidator(check_keys)]
RedisUrl = Annotated[str, AfterValidator(check_redis_url)]
StoreFolder = Annotated[str, AfterValidator(check_store)]
ArtifactsUrl = Annotated[str, AfterValidator(check_artifacts_url)]
EngineChoice = Annotated[str, AfterValidator(check_engine)]


class Settings(BaseSettings):
    """Settings of one process. `GLAD_PORT=9000` in the environment sets `port`; keyword arguments win over it."""

    model_config = SettingsConfigDict(
        env_prefix="GLAD_", frozen=True, extra="ignore", env_ignore_empty=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address that the API listens on; 0.0.0.0: every one of this machine")
    port: int = Field(8000, ge=0, le=65535, description="port of the API; 0: any free one")
    data_dir: Folder = Field(
        default_factory=default_data_dir, description="folder of everything that one machine keeps"
    )
    store: StoreFolder | None = Field(
        None,
        description="folder, or its file:// URL, of bundles and product states; default: `store/` in the data folder",
    )
    bundle_keys: BundleKeys = Field(
        (),
        description="public keys, with commas between: only bundles that one of them has signed are used; default: all "
        "bundles are used",
    )
    engine: EngineChoice = Field(
        "auto",
        description="what runs the models: auto, torch, onnx, openvino or tensorrt; exceptions: `torch,unet=onnx`. "
        "auto: the first that the bundle has an export for",
    )
    worker_host: str | None = Field(
        None,
        description="address at which workers and outbox serve metrics and health; default: GLAD_HOST, or 127.0.0.1 by "
        "`glad serve`",
    )
    worker_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port of a worker's metrics and health; 0: any free one. Further workers of `glad serve` have "
        "the next ones",
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="`redis://HOST:6379/0`, `rediss://` with TLS, or `unix:///PATH`; default: `glad serve` runs a "
        "private Redis",
    )
    redis_wait_replicas: int = Field(
        0, ge=0, description="replicas of Redis that must have a job before its image is accepted"
    )
    redis_wait_ms: int = Field(1000, ge=1, le=4000, description="how long replicas may take to confirm it; then 503")
    redis_answer_s: float = Field(
        8,
        ge=3,
        le=60,
        description="how long a call may wait for a Redis that is silent or slow, in all; then 503. Workers and "
        "outbox try a command so long, and again later",
    )
    artifacts_url: ArtifactsUrl | None = Field(
        None,
        description="folder or URL (fsspec, such as `s3://bucket/glad`) of images and pictures; default: `artifacts/` "
        "in the data folder",
    )
    device: str = Field("auto", description="where models run: auto, cpu, cuda, cuda:1 …; auto: a GPU if there is one")
    pool: Name = Field(
        DEFAULT_POOL, description="a worker's pool; for the API, the pool of the products that GLAD_POOLS leaves out"
    )
    pools: Pools = Field({}, description=f"which pool has which products: `{FORM}`")

    auth: Literal["auto", "keys", "off"] = Field(
        "auto",
        description="who needs an API key. auto: nobody on the loopback address until the first key is made, else all; "
        "off: somebody else keeps the door",
    )
    rate_per_s: float | None = Field(
        None, gt=0, description="calls a second of one key, or of one address where no key is needed; default: no limit"
    )
    rate_burst: int = Field(20, ge=1, description="calls at once under GLAD_RATE_PER_S")
    session_s: int = Field(
        12 * 3600, ge=60, le=30 * 86_400, description="how long a person who signed in on the page stays signed in"
    )
    failures_per_minute: int = Field(30, ge=1, description="calls without a valid key, from one address; beyond it 429")
    docs: bool = Field(True, description="serve /docs and /openapi.json")
    page: bool = Field(True, description="serve the operators' page at /")
    metrics_open: bool = Field(True, description="/metrics needs no key; off: one with the scope read")
    cors_origins: Origins = Field(
        (), description="web pages that may call from a browser, with commas between: `https://mes.example`"
    )
    body_timeout_s: float = Field(
        20, gt=0, description="longest silence while a body comes, in s; waits add up; beyond it 408"
    )
    max_connections: int = Field(
        1000, ge=1, description="connections to one API process; at the limit, one that sends nothing makes room"
    )
    max_connections_per_address: int = Field(
        100, ge=1, description="connections of one address; proxies of FORWARDED_ALLOW_IPS are not counted"
    )

    max_image_bytes: int = Field(64 << 20, ge=1, description="size of an image's file; a larger one is answered 413")
    max_held_bytes: int = Field(
        512 << 20,
        ge=1,
        description="all bodies at a time in one API process, half of it for one key; beyond it 429. Two of the "
        "largest bodies always fit",
    )
    max_pixels: int = Field(64_000_000, ge=1, description="width times height; an image with more is answered 422")
    damaged_images: Literal["refuse", "inspect"] = Field(
        "refuse", description="a file that shows damage is answered 400; inspect: taken, if it decodes at all"
    )
    max_backlog: int = Field(
        1000,
        ge=1,
        description="images that are queued or running in one pool, of one key at most nine times as many as there "
        "are places free; beyond it 429",
    )
    max_wait_s: float = Field(
        3600, gt=0, description="expected wait of a new image, by the measured pace; beyond it 429"
    )
    min_free_bytes: int = Field(
        512 << 20, ge=0, description="free space where artifacts are kept; with less, images are answered 503"
    )
    decode_threads: int = Field(2, ge=1, le=64, description="images that one API process decodes at the same time")
    decode_limit_s: float = Field(
        20, gt=0, description="processor time to decode an image of GLAD_MAX_PIXELS; a smaller one gets its share"
    )
    decode_memory_bytes: int = Field(1536 << 20, ge=64 << 20, description="memory that decoding one image may take")
    retry_after_s: int = Field(2, ge=1, description="Retry-After of 503, and of 429 before any pace is known, in s")

    lease_ms: int = Field(30_000, ge=100, description="a worker or outbox that is silent for so long loses its jobs")
    max_deaths: int = Field(3, ge=1, description="workers that died with this job alone, before it is given up")
    artifacts_max_age_s: int = Field(7 * 86_400, ge=3600, description="how long images and pictures are kept")
    artifacts_max_bytes: int | None = Field(
        None, ge=1, description="size of all images and pictures; beyond it the oldest go; default: no limit"
    )
    sweep_every_s: float = Field(600, gt=0, description="how often old images and pictures are removed")
    result_ttl_s: int = Field(7 * 86_400, ge=1, description="how long a finished inspection is kept")
    max_results: int = Field(1_000_000, ge=1, description="finished inspections that are kept; beyond it the oldest go")
    max_events: int = Field(1_000_000, ge=1, description="events that are kept; twice as many while a reader lags")
    max_event_streams: int = Field(
        100,
        ge=1,
        description="clients that follow the events of one API process, half of them with one key; beyond it 429",
    )
    oip_wait_s: float = Field(
        50, gt=0, le=LONGEST_INFER_WAIT_S, description="how long an inference request under /v2 waits; then 504"
    )
    heartbeat_s: float = Field(15, gt=0, description="how often a silent event stream shows that it lives")

    lanes: int | None = Field(None, ge=1, le=256, description="images denoised at a time; default: 4 on a CPU, else 16")
    decode_buffer: int = Field(2, ge=0, le=64, description="images that a worker decodes ahead of a free lane")
    codec_threads: int = Field(2, ge=1, le=64, description="threads of a worker that decode images and draw pictures")
    torch_threads: int | None = Field(None, ge=1, description="threads of a model call; default: all cores but one")
    max_bundles: int = Field(
        4, ge=1, description="bundles that a worker keeps loaded; at its start, those that the pool served last"
    )
    small_bundles_bytes: int = Field(
        256 << 20,
        ge=0,
        description="more bundles are kept loaded while the files of their weights together are no larger",
    )
    drain_s: float = Field(
        240, ge=0, description="how long a worker that is asked to stop finishes; then it hands its images back"
    )
    load_limit_s: float = Field(900, gt=0, description="a bundle that loads for longer ends its worker")
    stuck_after_s: float = Field(
        300, gt=0, description="without a completed step or turn for so long, a worker or an outbox is not alive"
    )

    takt_s: float = Field(
        10.0, gt=0, description="time per part of the fastest line: what dashboards and alerts compare with"
    )
    shifts: ShiftTimes = Field(
        "06:00,14:00,22:00", description="when shifts begin, by the clock on the wall in GLAD_TIME_ZONE"
    )
    time_zone: ZoneName = Field("UTC", description="of the plant, such as Europe/Berlin: for shifts and their hours")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe log that is written"
    )

    @classmethod
    def describe_errors(cls, error: ValidationError, options: Collection[str] = ()) -> str:
        """Return what is wrong with which setting, in one line, without values that may be secret.

        Args:
            error: raised by this class.
            options: settings that were given as options of a command.
        """
        secrets = cls.names_of_secrets()
        return "; ".join(_describe(one["loc"], one["input"], one["msg"], options, secrets) for one in error.errors())

    @classmethod
    def names_of_secrets(cls) -> frozenset[str]:
        """Return the settings whose values no message shows: they may hold a password."""
        return frozenset({"redis_url", "artifacts_url"})

    @property
    def store_url(self) -> str:
        """Folder, or its file:// URL, of bundles and product states."""
        return self.store or str(self.data_dir / "store")

    @property
    def health_host(self) -> str:
        """Address at which a worker or an outbox serves its metrics and health."""
        return self.worker_host or self.host

    @property
    def trusted_keys(self) -> TrustedKeys:
        """Keys of which one must have signed a bundle."""
        return TrustedKeys(self.bundle_keys)

    @property
    def artifacts(self) -> str:
        """Folder or URL of images and pictures."""
        return self.artifacts_url or str(self.data_dir / "artifacts")

    def pool_of(self, product: str) -> str:
        """Return the pool whose workers inspect the product."""
        return pool_of(product, self.pools, self.pool)

    def takes(self, product: str) -> bool:
        """Return whether a worker of this pool gets the product's images, as far as GLAD_POOLS says."""
        rest = "" if self.pool in self.pools else self.pool  # where the API sends the rest, a named pool is not told
        return pool_of(product, self.pools, rest) == self.pool

    @property
    def pool_names(self) -> tuple[str, ...]:
        """All pools that images may go to, each once."""
        return tuple(dict.fromkeys((self.pool, *self.pools)))

    @property
    def held_bytes(self) -> int:
        """Bytes that bodies may take together: at least one fits, with what it is unpacked to."""
        return max(self.max_held_bytes, 2 * self.max_body_bytes)

    @property
    def held_bytes_of_key(self) -> int:
        """Bytes that bodies of one API key may take together: the largest always fits, with what it is unpacked to."""
        return max(self.held_bytes // 2, 2 * self.max_body_bytes)

    @property
    def max_body_bytes(self) -> int:
        """Bytes of a body: an image and, around it, a form's fields."""
        return self.max_image_bytes + (64 << 10)


def _describe(
    location: tuple[int | str, ...], given: object, message: str, options: Collection[str], secrets: Collection[str]
) -> str:
    name = str(location[0]) if location else ""
    message = message.removeprefix("Value error, ")
    if not name:
        return message
    option = f" (--{name.replace('_', '-')})" if name in options else ""
    shown = "" if name in secrets else f" is {given!r:.200}"
    return f"GLAD_{name.upper()}{option}{shown}: {message[:1].lower()}{message[1:]}"
