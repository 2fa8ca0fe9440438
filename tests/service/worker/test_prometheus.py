"""A real Prometheus scrapes the service under load: every query of every dashboard and rule finds what it asks for."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.host.child_process import Child
from service.settings import Settings
from tests.service.worker.conftest import png
from tests.support.http_server import server_on
from tests.support.processes import eventually, free_port
from tests.support.prometheus_server import Prometheus
from tests.support.promql import names_in
from tests.support.worker_fleet import WorkerFleet

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "docker" / "prometheus" / "rules"
DASHBOARDS = ROOT / "docker" / "grafana" / "dashboards"
EMPTY_UNTIL = {
    "glad_quality_gated_total": "the quality gate stops an image; here all are fit",
    "glad_backup_last_success_timestamp_seconds": "a backup is made",
    "glad_decoders_ended_total": "a file takes more than its limits",
    "glad_bundle_unusable": "a worker cannot use a bundle",
    "glad_bundle_switch_seconds": "a job's bundle is not loaded when it is claimed; here all were loaded at the start",
}
"""Part of a query -> until when it has nothing to show."""

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus (Debian's) is missing")


@contextmanager
def prometheus(folder: Path, **targets: str) -> Iterator[Prometheus]:
    """One that looks at these each second; `api`: of the job glad-api."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [
            {"job_name": f"glad-{name}", "static_configs": [{"targets": [address]}]}
            for name, address in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
    ]
    child = Child("Prometheus", ["prometheus", *options], log=folder / "prometheus.log")
    child.start()
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1") as http:
            found = Prometheus(http)
            eventually(found.answers)
            yield found
    finally:
        child.kill()


@contextmanager
def outbox(settings: Settings) -> Iterator[str]:
    """An outbox process that keeps the archive; its address."""
    port = free_port()
    environment = {
        "GLAD_REDIS_URL": str(settings.redis_url),
        "GLAD_DATA_DIR": str(settings.data_dir),
        "GLAD_ARCHIVE": "on",
        "GLAD_OUTBOX_PORT": str(port),
    }
    log = settings.data_dir / "outbox.log"
    log.parent.mkdir(exist_ok=True)
    child = Child("outbox", [sys.executable, "-m", "service.outbox.main"], env={**os.environ, **environment}, log=log)
    child.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        child.kill()


def work(url: str) -> None:
    """Images from three stations, one that comes too late, and something that is no image."""
    with httpx.Client(base_url=url, timeout=60) as http:
        for number in range(12):
            target = f"/v1/products/toy/inspections?station=line-{number % 3}"
            assert http.post(target, content=png(number), headers={"Prefer": "wait=20"}).status_code == 200
        late = "/v1/products/toy/inspections?deadline_ms=1"
        assert http.post(late, content=png(99), headers={"Prefer": "wait=20"}).status_code in {200, 202, 429}
        assert http.post("/v1/products/toy/inspections", content=b"no image").status_code == 415
        assert http.get("/v1/inspections").status_code == 200


def shown(expression: str) -> str:
    """A dashboard's query with its variables filled in."""
    return expression.replace("$__rate_interval", "1m").replace("$product", ".*")


def test_every_query_of_every_dashboard_and_rule_finds_data_under_load(fleet: WorkerFleet, tmp_path: Path) -> None:
    settings = Settings(
        redis_url=fleet.url,
        store=str(fleet.store),
        data_dir=tmp_path / "data",
        artifacts_url=str(fleet.folder / "artifacts"),
        lease_ms=60_000,
    )
    port = free_port()
    fleet.worker(GLAD_WORKER_PORT=str(port))
    with (
        server_on(settings) as url,
        outbox(settings) as sender,
        prometheus(tmp_path, api=url.removeprefix("http://"), worker=f"127.0.0.1:{port}", outbox=sender) as server,
    ):
        eventually(lambda: bool(server.ask("glad_worker_ready == 1")))
        eventually(lambda: bool(server.ask("count_over_time(glad_redis_up[1m]) > 1")))
        for _ in range(2):  # a rate needs a growth that was seen twice
            before = count(server)
            work(url)
            eventually(lambda before=before: count(server) > before)  # type: ignore[misc]
        missing = eventually_all(server, list(queries()))
        explained = [query for query in missing if any(part in query for part in EMPTY_UNTIL)]
        assert missing == explained
        assert {part for part in EMPTY_UNTIL if any(part in query for query in explained)} == set(EMPTY_UNTIL)
        rules = server.rules()
        assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}
        assert len(rules) == sum(len(group["rules"]) for group in groups())


def count(server: Prometheus) -> float:
    (found,) = server.ask("sum(glad_inspections_completed_total)") or [{"value": [0, "0"]}]
    return float(found["value"][1])


def queries() -> Iterator[str]:
    """Of dashboards as they stand; of rules each series that they ask for: an alert's own query is empty when all is
    well."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            yield from (shown(target["expr"]) for target in panel["targets"])
    for group in groups():
        for rule in group["rules"]:
            yield from sorted(names_in(rule["expr"]))


def groups() -> list[dict[str, Any]]:
    return [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]


def eventually_all(server: Prometheus, wanted: list[str], looks: int = 120) -> list[str]:
    """What still has no data after so many looks, one each half second."""
    missing = wanted
    for _ in range(looks):
        missing = [query for query in missing if not server.ask(query)]
        if all(any(part in query for part in EMPTY_UNTIL) for query in missing):
            break
        time.sleep(0.5)
    return missing
