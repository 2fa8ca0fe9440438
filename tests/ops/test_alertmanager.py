"""An alert reaches people: from a real Prometheus over a real Alertmanager to a receiver, with its runbook page."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from service.host.child_process import Child
from service.queue.redis_health import Durability, RedisState
from service.settings import Settings
from service.telemetry.metrics.fleet import FleetCollector, FleetLimits, FleetState
from tests.support.manifests import ROOT, composed
from tests.support.processes import eventually, free_port
from tests.support.receiver import Receiver, receiving

PROMETHEUS = ROOT / "docker" / "prometheus"
CONFIG = ROOT / "docker" / "alertmanager" / "alertmanager.yml"
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
needs_amtool = pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool (Debian: prometheus-alertmanager)")
needs_both = pytest.mark.skipif(
    ALERTMANAGER is None or shutil.which("prometheus") is None, reason="Debian's prometheus and prometheus-alertmanager"
)


def amtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["amtool", *words], check=False, capture_output=True, text=True, timeout=60)


@needs_amtool
def test_amtool_finds_nothing_in_the_sample() -> None:
    outcome = amtool("check-config", CONFIG)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@needs_amtool
def test_amtool_finds_a_route_to_nobody(tmp_path: Path) -> None:
    bad = tmp_path / CONFIG.name
    bad.write_text(CONFIG.read_text().replace("receiver: people-now", "receiver: nobody"))
    outcome = amtool("check-config", bad)
    assert outcome.returncode != 0
    assert "nobody" in outcome.stdout + outcome.stderr


@needs_amtool
@pytest.mark.parametrize(("severity", "receiver"), [("critical", "people-now"), ("warning", "people")])
def test_what_stops_the_line_calls_people_sooner(severity: str, receiver: str) -> None:
    outcome = amtool("config", "routes", "test", "--config.file", CONFIG, f"severity={severity}", "alertname=GladAny")
    assert outcome.stdout.strip() == receiver


def test_what_redis_takes_with_it_is_named_by_its_alerts_own_names() -> None:
    rules = [rule for file in (PROMETHEUS / "rules").glob("*.yml") for rule in _rules(file)]
    names = {rule["alert"] for rule in rules if "alert" in rule}
    inhibited = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
    matchers = [text for rule in inhibited for text in (*rule["source_matchers"], *rule["target_matchers"])]
    named = [text.partition('"')[2].strip('"').split("|") for text in matchers if text.startswith("alertname")]
    assert len(named) == 2 * len(inhibited)
    assert {name for words in named for name in words} <= names


def _rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@contextmanager
def running(name: str, *command: str, folder: Path, ready: str) -> Iterator[None]:
    """A process that answers at an address; killed at the end."""
    child = Child(name, command, log=folder / f"{name}.log")
    child.start()
    try:
        eventually(lambda: is_ready(ready))
        yield
    finally:
        child.kill()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def metrics_port() -> Iterator[int]:
    """An API's gauges where two images were given up."""
    registry, port = CollectorRegistry(), free_port()
    fleet = FleetCollector(FleetLimits.from_settings(Settings()))
    fleet.state = FleetState(redis=RedisState(1, 2, 1, True, Durability(True, "noeviction"), {"dead": 2}))
    registry.register(fleet)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    yield port
    server.shutdown()
    server.server_close()
    thread.join()


@needs_both
def test_an_alert_reaches_people_with_the_page_that_says_what_to_do(metrics_port: int, tmp_path: Path) -> None:
    authority, manager, prometheus = trustme.CA(), f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with receiving(authority) as receiver:
        called = write_alertmanager(tmp_path, receiver)
        watched = write_prometheus(tmp_path, f"127.0.0.1:{metrics_port}", manager)
        flags = [*alertmanager_flags(tmp_path, called), f"--web.listen-address={manager}"]
        storage = f"--storage.tsdb.path={tmp_path / 'tsdb'}"
        with (
            running("alertmanager", str(ALERTMANAGER), *flags, folder=tmp_path, ready=f"http://{manager}/-/ready"),
            running(
                *("prometheus", "prometheus", f"--config.file={watched}", storage),
                f"--web.listen-address={prometheus}",
                folder=tmp_path,
                ready=f"http://{prometheus}/-/ready",
            ),
        ):
            eventually(lambda: bool(receiver.requests))
    [alert] = json.loads(receiver.requests[0].body)["alerts"]
    assert (alert["status"], alert["labels"]["alertname"]) == ("firing", "GladDeadLetters")
    assert alert["annotations"]["summary"] == "2 images were given up"
    assert (ROOT / alert["annotations"]["runbook_url"]).is_file()


def write_alertmanager(folder: Path, receiver: Receiver) -> Path:
    """The sample, with this receiver in place of its own and no waiting for other alerts."""
    config = yaml.safe_load(CONFIG.read_text())
    config["route"]["group_wait"] = "0s"
    for one in config["receivers"]:
        for hook in one["webhook_configs"]:
            hook |= {"url": receiver.url, "http_config": {"tls_config": {"ca_file": str(folder / "ca.pem")}}}
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_prometheus(folder: Path, target: str, manager: str) -> Path:
    """The compose file's, looking at these addresses each second."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "rules" / "*.yml")]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [manager]}]}]
    config["scrape_configs"] = [{"job_name": "glad-api", "static_configs": [{"targets": [target]}]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def alertmanager_flags(folder: Path, config: Path) -> Sequence[str]:
    """As the compose file gives them, with other paths."""
    places = {"/etc/alertmanager/alertmanager.yml": str(config), "/alertmanager": str(folder / "alerts")}
    found = []
    for word in composed("alerts")["services"]["alertmanager"]["command"]:
        name, _, value = word.partition("=")
        found.append(f"{name}={places.get(value, value)}")
    return found
