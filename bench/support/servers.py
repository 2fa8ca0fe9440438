"""Servers of a measurement's own, for as long as it lasts: a whole `glad serve`, one web server, one Redis."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from model_store.store import BundleRef, Store
from service.host.child_process import Child
from service.host.liveness import is_alive
from service.host.private_redis import find_redis, redis_answers, redis_command, redis_url, socket_path
from service.host.supervisor import listen

PASSED = ("GLAD_DEVICE", "GLAD_LANES", "GLAD_TORCH_THREADS", "GLAD_CODEC_THREADS", "GLAD_DECODE_BUFFER")
"""Settings that say how to serve; those that say where are the measurement's own."""
START_S = 600.0
STOP_S = 60.0
POLL_S = 0.1
SHOWN = 12
"""Lines of the log that an error shows."""


class NotServed(Exception):
    """The service did not start, or its worker does not serve the bundle; the message says why."""


@dataclass(frozen=True)
class RunningService:
    """A service that is ready."""

    pid: int
    """The process of `glad serve` itself."""
    data_dir: Path
    url: str
    product: str
    engine: str
    """The engine in use, by the worker's metric."""
    worker_metrics: str
    """Address of the worker's own metrics."""


@contextmanager
def served(bundle: Path, engine: str, settings: Mapping[str, str] | None = None) -> Iterator[RunningService]:
    """Serve the bundle on this engine; stop at the end of the block, whatever happens.

    Args:
        settings: further GLAD_* settings.

    Raises:
        NotServed: if the service does not start.
        StoreError: if the bundle cannot be published.
    """
    with tempfile.TemporaryDirectory(prefix="glad-bench-") as scratch:
        data, log = Path(scratch) / "data", Path(scratch) / "serve.log"
        store = Store(data / "store")
        reference = store.publish(bundle)
        store.activate(reference.product, reference.version, by="glad bench")
        command = [sys.executable, "-P", "-m", "glad", "serve", "--port", "0", "--data-dir", str(data)]
        child = Child("glad serve", command, env={**_environment(engine), **(settings or {})}, log=log)
        child.start()
        try:
            port = _worker_port(child, log)
            in_use = _engine_in_use(port, reference, log)
            metrics = f"http://127.0.0.1:{port}/metrics"
            yield RunningService(child.pid or 0, data, _url(log), reference.product, in_use, metrics)
        finally:
            child.signal(signal.SIGTERM)
            child.wait(STOP_S)
            child.kill()


def settings_passed() -> dict[str, str]:
    """Return the settings of the environment that are passed to the service."""
    return {name: os.environ[name] for name in PASSED if name in os.environ}


def _environment(engine: str) -> Mapping[str, str]:
    foreign = {name for name in os.environ if name.startswith("GLAD_")} - set(PASSED)
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return kept | {"GLAD_ENGINE": engine, "GLAD_HOST": "127.0.0.1"}


def _worker_port(child: Child, log: Path) -> int:
    """Wait until the worker is warm; return the port of its health server."""
    deadline = time.monotonic() + START_S
    while (ready := next(_events(log, "worker ready"), None)) is None or not _says(log, "glad serves at"):
        if child.exit_status is not None or time.monotonic() > deadline:
            raise NotServed(f"`glad serve` did not start; the end of its log:\n{log_tail(log)}")
        time.sleep(POLL_S)
    return int(ready["port"])


def _url(log: Path) -> str:
    line = next(line for line in _lines(log) if line.startswith("glad serves at"))
    return line.removeprefix("glad serves at").strip()


def _engine_in_use(port: int, reference: BundleRef, log: Path) -> str:
    """Return the engine label of `glad_engine_info`.

    Raises:
        NotServed: if the worker could not load the bundle; its log says why.
    """
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "glad_engine_info" and sample.labels["product"] == reference.product:
                return str(sample.labels["engine"])
    said = (event["error"] for event in _events(log, "bundle not warmed") if event["product"] == reference.product)
    raise NotServed(f"the worker does not serve {reference.product}: {next(said, log_tail(log))}")


def _events(log: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the log's structured events of this name."""
    for line in _lines(log):
        if line.startswith("{") and line.endswith("}"):
            event = json.loads(line)
            if event.get("event") == name:
                yield event


def _says(log: Path, words: str) -> bool:
    return any(line.startswith(words) for line in _lines(log))


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []


def log_tail(log: Path) -> str:
    """Return the last lines of a log, for an error; of one that is not there, nothing."""
    return "\n".join(_lines(log)[-SHOWN:])


POLL_S = 0.2


@dataclass(frozen=True)
class WebServer:
    """A web server that answers."""

    url: str
    pid: int


@contextmanager
def web_server(module: str, environment: Mapping[str, str], log: Path) -> Iterator[WebServer]:
    """Run `python -m MODULE --fd N` on a free port of this machine; yield once it answers, and kill it at the end.

    Raises:
        RuntimeError: if it ends before it answers.
    """
    child = Child(module, [sys.executable, "-P", "-m", module], env={**os.environ, **environment}, log=log)
    with listen("127.0.0.1", 0) as socket:
        port = int(socket.getsockname()[1])
        child.start("--fd", str(socket.fileno()), pass_fds=(socket.fileno(),))
        try:
            while not is_alive("127.0.0.1", port, 1.0):
                if not child.running:
                    raise RuntimeError(f"{module} did not start: see {log}")
                time.sleep(POLL_S)
            yield WebServer(f"http://127.0.0.1:{port}", child.pid or 0)
        finally:
            child.kill()


@contextmanager
def own_redis() -> Iterator[str]:
    """Yield the URL of a new Redis that runs as in `glad serve`: append-only, every write on disk before its answer.

    Raises:
        StartError: if there is no redis-server.
    """
    with TemporaryDirectory(prefix="glad-bench-") as folder:
        socket = socket_path(Path(folder))
        child = Child("Redis", redis_command(find_redis(), Path(folder), socket), log=Path(folder) / "redis.log")
        child.start()
        try:
            while not redis_answers(socket):
                time.sleep(0.05)
            yield redis_url(socket)
        finally:
            child.kill()
