"""Redis as Kubernetes and Docker Compose start it: their own commands, run as plain processes in another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from service.host.child_process import Child
from tests.support.manifests import OVERLAYS, composed, documents, named, tool
from tests.support.processes import eventually, free_port

PASSWORD = "0123456789abcdef"
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
"""A wheel puts its redis-server and redis-cli beside this Python."""


@contextmanager
def started(command: Sequence[str], port: int, log: Path, **env: str) -> Iterator[redis.Redis]:
    """A server with a client that has the password; killed at the end, as a pod may be."""
    child = Child("Redis", command, env={**os.environ, **env, "PATH": PATH}, log=log)
    child.start()
    try:
        with redis.Redis(port=port, password=env.get("REDIS_PASSWORD"), decode_responses=True) as client:
            eventually(lambda: answers(client) or not child.running)
            assert child.running, log.read_text()
            yield client
    finally:
        child.kill()


def answers(client: redis.Redis) -> bool:
    with suppress(ConnectionError):
        return bool(client.ping())
    return False


class Pod:
    """The StatefulSet's container, with its folders elsewhere and a port of its own."""

    def __init__(self, folder: Path) -> None:
        found = documents(OVERLAYS[0])
        self._places = {"/data": str(folder / "data"), "/etc/redis": str(folder / "etc")}
        self.folder, self.port = folder, free_port()
        spec = named(found, "StatefulSet", "glad-redis")["spec"]["template"]["spec"]
        (self.container,) = spec["containers"]
        assert {one["mountPath"] for one in self.container["volumeMounts"]} == set(self._places)
        for place in self._places.values():
            Path(place).mkdir()
        for name, text in named(found, "ConfigMap", "glad-redis")["data"].items():
            (folder / "etc" / name).write_text(f"{self.here(text)}\nport {self.port}\nbind 127.0.0.1\n")

    def here(self, text: str) -> str:
        """The container's paths as they are on this machine."""
        for mount, place in self._places.items():
            text = text.replace(mount, place)
        return text

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [self.here(word) for word in (*self.container["command"], *self.container["args"])]

    def probe(self, kind: str, password: str) -> int:
        """The exit status of a probe."""
        words: Sequence[str] = self.container[f"{kind}Probe"]["exec"]["command"]
        command = [word.replace("redis-cli", f"redis-cli -p {self.port}") for word in words]
        return subprocess.run(
            command, check=False, env={**os.environ, "REDIS_PASSWORD": password, "PATH": PATH}
        ).returncode


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    tool("redis-server")
    tool("redis-cli")
    return Pod(tmp_path)


def test_the_pod_asks_for_its_password_and_shows_it_to_nobody(pod: Pod) -> None:
    with started(pod.command, pod.port, pod.folder / "log", REDIS_PASSWORD=PASSWORD) as client:
        with redis.Redis(port=pod.port) as stranger, pytest.raises((AuthenticationError, ResponseError)):
            stranger.ping()
        pid = told(client.info())["process_id"]
        assert PASSWORD not in Path(f"/proc/{pid}/cmdline").read_text()
        assert PASSWORD not in (pod.folder / "log").read_text()


def test_its_probes_succeed_with_the_password_alone(pod: Pod) -> None:
    kinds = ("startup", "readiness", "liveness")
    assert {pod.probe(kind, PASSWORD) for kind in kinds} == {1}, "nothing runs yet"
    with started(pod.command, pod.port, pod.folder / "log", REDIS_PASSWORD=PASSWORD):
        assert {pod.probe(kind, PASSWORD) for kind in kinds} == {0}
        assert {pod.probe(kind, "another") for kind in kinds} == {1}


def test_a_killed_pod_comes_back_with_all_it_was_given(pod: Pod) -> None:
    for number in range(3):
        with started(pod.command, pod.port, pod.folder / "log", REDIS_PASSWORD=PASSWORD) as client:
            assert client.xlen("jobs") == number
            client.xadd("jobs", {"id": str(number)})
            keeps = ("appendonly", "appendfsync", "save", "maxmemory-policy", "maxmemory")
            assert [told(client.config_get(name))[name] for name in keeps] == [
                "yes",
                "always",
                "",
                "noeviction",
                str(1 << 30),
            ]


def test_the_composed_redis_starts_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    tool("redis-server")
    port = free_port()
    words: Sequence[str] = composed()["services"]["redis"]["command"]
    command = [str(tmp_path) if word == "/data" else word for word in words]
    for number in range(2):
        with started([*command, "--port", str(port)], port, tmp_path / "log") as client:
            assert client.xlen("jobs") == number
            client.xadd("jobs", {"id": str(number)})


def told(reply: Any) -> Mapping[str, Any]:
    """A reply of redis-py, whose types also stand for a pipeline."""
    found: Mapping[str, Any] = reply
    return found
