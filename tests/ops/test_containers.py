"""The compose file translated for plain processes: what is changed is named, and nothing is dropped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.support.containers import Container, check_environment, containers
from tests.support.manifests import composed, tool
from tests.support.processes import eventually
from tests.support.project import Project

REPLICAS = {"redis": 1, "api": 1, "worker-cpu": 2, "prometheus": 1}


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Container]:
    """The containers of one machine, by name."""
    return {one.name: one for one in containers(tmp_path, replicas=REPLICAS)}


def test_each_container_has_its_command_and_a_port_of_its_own(found: dict[str, Container]) -> None:
    assert list(found) == ["redis-1", "api-1", "worker-cpu-1", "worker-cpu-2", "prometheus-1"]
    services = composed("cpu")["services"]
    for name, container in found.items():
        told = services[name.rpartition("-")[0]]["command"]
        assert len(container.command) >= len(told)
        assert container.healthcheck
        assert str(container.port) in " ".join((*container.healthcheck, *container.command))
    assert found["api-1"].command == ("glad", "serve")
    assert found["worker-cpu-1"].command == ("glad", "worker")
    assert len({one.port for one in found.values()}) == len(found)


def test_every_variable_of_compose_file_and_image_reaches_the_process(found: dict[str, Container]) -> None:
    services = composed("cpu")["services"]
    for name in ("api-1", "worker-cpu-1", "worker-cpu-2"):
        asked = services[name.rpartition("-")[0]]["environment"]
        assert {*asked, "GLAD_DATA_DIR", "GLAD_HOST", "GLAD_AUTH", "HOME"} <= set(found[name].environment)
    worker = found["worker-cpu-2"].environment
    assert worker["GLAD_WORKER_PORT"] == str(found["worker-cpu-2"].port)
    assert worker["GLAD_REDIS_URL"] == f"redis://127.0.0.1:{found['redis-1'].port}/0"
    assert worker["GLAD_DATA_DIR"] == found["api-1"].environment["GLAD_DATA_DIR"]
    assert worker["HOME"] != found["worker-cpu-1"].environment["HOME"]


def test_a_variable_that_nobody_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="api: GLAD_PRT is no setting"):
        check_environment("api", {"GLAD_PORT": "8000", "GLAD_PRT": "8000"})


def test_prometheus_asks_every_container_and_keeps_all_else(found: dict[str, Container], tmp_path: Path) -> None:
    (option,) = (word for word in found["prometheus-1"].command if word.startswith("--config.file="))
    config = yaml.safe_load(Path(option.removeprefix("--config.file=")).read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {
        "glad-api": [f"127.0.0.1:{found['api-1'].port}"],
        "glad-worker": [f"127.0.0.1:{found[name].port}" for name in ("worker-cpu-1", "worker-cpu-2")],
        "glad-outbox": [],
        "prometheus": [f"127.0.0.1:{found['prometheus-1'].port}"],
    }
    assert config["global"] == {"scrape_interval": "15s", "evaluation_interval": "15s"}
    assert config["rule_files"] == ["rules/*.yml"]
    assert (tmp_path / "bound" / "prometheus-1" / "rules" / "glad.rules.yml").exists()


def test_one_that_outlasts_its_grace_period_is_killed_and_one_that_ends_is_not(tmp_path: Path) -> None:
    def container(name: str, code: str) -> Container:
        command = (sys.executable, "-c", f"import signal, time; {code}; print('up', flush=True); time.sleep(600)")
        return Container(name, command, {}, (sys.executable, "-c", ""), 0.5, 0, tmp_path)

    stubborn = container("stubborn", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    good = container("good", "signal.signal(signal.SIGTERM, lambda *_: exit(0))")
    with Project((stubborn, good), tmp_path / "logs") as project:
        project.up("stubborn", "good")
        eventually(lambda: all("up" in project.log(name) for name in ("stubborn", "good")))
        assert project.stop("stubborn").status == -9
        assert project.stop("good").status == 0


def test_the_redis_of_the_compose_file_is_healthy_once_it_answers(tmp_path: Path) -> None:
    for name in ("redis-server", "redis-cli"):
        tool(name)
    (redis,) = containers(tmp_path, replicas={"redis": 1})
    with Project((redis,), tmp_path / "logs") as project:
        project.up("redis-1")
        assert project.stop("redis-1").status == 0
