"""docker-compose.yml, as Docker Compose itself reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from service.child import API_DRAIN_S
from service.private_redis import redis_command
from service.settings import Settings
from service.supervisor import Patience
from tests.support.manifests import ROOT, composed, run

PROFILES = ("cpu", "gpu", "camera")


def seconds(text: str) -> int:
    """Compose's duration, such as 5m0s."""
    minutes, _, rest = text.removesuffix("s").rpartition("m")
    return 60 * int(minutes or 0) + int(rest)


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_accepts_the_file(profile: str) -> None:
    assert {"api", "redis", "prometheus", "grafana"} < set(composed(profile)["services"])


def test_compose_refuses_a_misspelt_key(tmp_path: Path) -> None:
    bad = tmp_path / "docker-compose.yml"
    bad.write_text((ROOT / "docker-compose.yml").read_text().replace("stop_grace_period:", "stop_grace:"))
    outcome = run("docker-compose", "--file", bad, "config", "--quiet")
    assert outcome.returncode != 0
    assert "stop_grace" in outcome.stderr


def test_yamllint_finds_nothing() -> None:
    outcome = run("yamllint", "--strict", "docker-compose.yml", "docker", "k8s")
    assert (outcome.returncode, outcome.stdout) == (0, "")


def test_yamllint_finds_a_key_that_stands_twice(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("a: 1\na: 2\n")
    assert "duplication of key" in run("yamllint", "--config-file", ROOT / ".yamllint", bad).stdout


def test_every_container_has_a_read_only_root_and_no_rights_that_it_does_not_need() -> None:
    for name, service in composed(*PROFILES)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_ports_open_on_this_machine_only_and_every_call_needs_a_key() -> None:
    services = composed(*PROFILES)["services"]
    ports = {name: port["host_ip"] for name, one in services.items() for port in one.get("ports", [])}
    assert ports == {"api": "127.0.0.1", "prometheus": "127.0.0.1", "grafana": "127.0.0.1"}
    assert services["api"]["environment"]["GLAD_AUTH"] == "keys"


def test_redis_is_reached_by_api_and_workers_alone() -> None:
    project = composed(*PROFILES)
    on_it = {name for name, one in project["services"].items() if "queue" in one["networks"]}
    assert on_it == {"redis", "api", "worker", "worker-cpu"}
    assert project["networks"]["queue"]["internal"] is True


def test_redis_keeps_what_it_was_given_as_the_private_one_does(tmp_path: Path) -> None:
    command = composed()["services"]["redis"]["command"]
    private = redis_command(Path("redis-server"), tmp_path, tmp_path / "redis.sock")
    for option in ("--appendonly", "--appendfsync", "--save", "--maxmemory-policy"):
        assert command[command.index(option) + 1] == private[private.index(option) + 1], option


def test_foreign_images_are_pinned_by_digest() -> None:
    for name in ("redis", "prometheus", "grafana"):
        assert "@sha256:" in composed()["services"][name]["image"]


def test_every_setting_of_ours_exists() -> None:
    known = {f"GLAD_{name.upper()}" for name in Settings.model_fields} | {"GLAD_URL", "GLAD_API_KEY"}
    for name, service in composed(*PROFILES)["services"].items():
        given = {key for key in service.get("environment", {}) if key.startswith("GLAD_")}
        assert given <= known, name


def test_a_stop_waits_longer_than_work_takes_to_end() -> None:
    services = composed(*PROFILES)["services"]
    assert seconds(services["api"]["stop_grace_period"]) > API_DRAIN_S
    for worker in ("worker", "worker-cpu"):
        assert seconds(services[worker]["stop_grace_period"]) > Settings().drain_s + Patience().hand_back_s


def test_prometheus_looks_where_api_and_workers_listen() -> None:
    config = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    found = {
        job["job_name"]: (one["names"], one["port"])
        for job in config["scrape_configs"]
        for one in job.get("dns_sd_configs", [])
    }
    assert found == {"glad-api": (["api"], 8000), "glad-worker": (["workers"], 9100)}
    services = composed(*PROFILES)["services"]
    for worker in ("worker", "worker-cpu"):
        assert services[worker]["networks"]["metrics"]["aliases"] == ["workers"]
        assert services[worker]["environment"]["GLAD_WORKER_PORT"] == "9100"
