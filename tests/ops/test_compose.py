"""docker-compose.yml, as Docker Compose itself reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from service.host.child_process import API_DRAIN_S
from service.host.private_redis import redis_command
from service.host.supervisor import SupervisorTimeouts
from service.outbox.main import DRAIN_S
from service.outbox.settings import OutboxSettings
from service.settings import Settings
from tests.support.manifests import ROOT, composed, run, snippet

PROFILES = ("cpu", "gpu", "camera", "outbox", "alerts")


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
    assert ports == dict.fromkeys(("api", "prometheus", "grafana", "alertmanager"), "127.0.0.1")
    assert services["api"]["environment"]["GLAD_AUTH"] == "keys"


def test_redis_is_reached_by_our_own_processes_alone() -> None:
    project = composed(*PROFILES)
    on_it = {name for name, one in project["services"].items() if "queue" in one["networks"]}
    assert on_it == {"redis", "api", "worker", "worker-cpu", "outbox", "camera-setup"}
    assert project["networks"]["queue"]["internal"] is True


def test_redis_keeps_what_it_was_given_as_the_private_one_does(tmp_path: Path) -> None:
    command = composed()["services"]["redis"]["command"]
    private = redis_command(Path("redis-server"), tmp_path, tmp_path / "redis.sock")
    for option in ("--appendonly", "--appendfsync", "--save", "--maxmemory-policy"):
        assert command[command.index(option) + 1] == private[private.index(option) + 1], option


def test_foreign_images_are_pinned_by_digest() -> None:
    foreign = {one["image"] for one in composed(*PROFILES)["services"].values() if "glad-inspect" not in one["image"]}
    assert len(foreign) == 4
    for image in foreign:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[a-z0-9.-]*@sha256:[0-9a-f]{64}", image), image


def test_every_setting_of_ours_exists() -> None:
    known = {f"GLAD_{name.upper()}" for name in OutboxSettings.model_fields} | {"GLAD_URL", "GLAD_API_KEY"}
    for name, service in composed(*PROFILES)["services"].items():
        given = {key for key in service.get("environment", {}) if key.startswith("GLAD_")}
        assert given <= known, name


def test_a_line_in_the_env_file_reaches_every_process_of_ours_and_moves_no_port(tmp_path: Path) -> None:
    (tmp_path / "own.env").write_text(
        "GLAD_TAKT_S=2.5\nGLAD_LANES=8\nGLAD_ENGINE=onnx\nGLAD_PORT=9\nGLAD_WORKER_PORT=9\n"
    )
    options = [word for profile in PROFILES for word in ("--profile", profile)]
    command = ["--env-file", str(tmp_path / "own.env"), *options, "config", "--format", "json"]
    outcome = run("docker-compose", *command, GLAD_ENV=str(tmp_path / "own.env"))
    assert outcome.returncode == 0, outcome.stderr
    services = json.loads(outcome.stdout)["services"]
    for name in ("api", "worker", "worker-cpu", "outbox"):
        assert services[name]["environment"]["GLAD_TAKT_S"] == "2.5", name
    assert {services[name]["environment"]["GLAD_ENGINE"] for name in ("worker", "worker-cpu")} == {"onnx"}
    assert services["worker-cpu"]["environment"]["GLAD_LANES"] == "8"
    assert services["api"]["environment"]["GLAD_PORT"] == "8000"
    assert services["worker"]["environment"]["GLAD_WORKER_PORT"] == "9100"


def test_a_stop_waits_longer_than_work_takes_to_end() -> None:
    services = composed(*PROFILES)["services"]
    assert seconds(services["api"]["stop_grace_period"]) > API_DRAIN_S
    for worker in ("worker", "worker-cpu"):
        assert seconds(services[worker]["stop_grace_period"]) > Settings().drain_s + SupervisorTimeouts().hand_back_s
    assert seconds(services["outbox"]["stop_grace_period"]) > DRAIN_S


def test_prometheus_looks_where_all_of_ours_listen() -> None:
    config = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    found = {
        job["job_name"]: (one["names"], one["port"])
        for job in config["scrape_configs"]
        for one in job.get("dns_sd_configs", [])
    }
    assert found == {
        "glad-api": (["api"], 8000),
        "glad-worker": (["workers"], 9100),
        "glad-outbox": (["outbox"], 9200),
    }
    services = composed(*PROFILES)["services"]
    assert services["outbox"]["environment"]["GLAD_OUTBOX_PORT"] == "9200"
    assert {"outbox", "alertmanager"} <= {name for name, one in services.items() if "metrics" in one["networks"]}
    for worker in ("worker", "worker-cpu"):
        assert services[worker]["networks"]["metrics"]["aliases"] == ["workers"]
        assert services[worker]["environment"]["GLAD_WORKER_PORT"] == "9100"


def test_the_second_pool_of_the_deployment_page_is_a_worker_like_the_first(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / "docker-compose.override.yml").write_text(snippet("docs/deploy.md", "worker-slow:"))
    outcome = run("docker-compose", "--profile", "cpu", "config", "--format", "json", cwd=tmp_path, GLAD_ENV=os.devnull)
    assert outcome.returncode == 0, outcome.stderr
    services = json.loads(outcome.stdout)["services"]
    first, second = services["worker-cpu"], services["worker-slow"]
    assert (first["environment"].pop("GLAD_POOL"), second["environment"].pop("GLAD_POOL")) == ("default", "slow")
    assert second == first
