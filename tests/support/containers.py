"""What the containers of docker-compose.yml would run, translated for plain processes on this machine.

Command, environment, health check and grace period are read from the compose file as Docker Compose resolves it, and
from the image file. Only what a container has of its own, and a process has not, is replaced:

| in a container | here |
|---|---|
| its address; names of services; 0.0.0.0 | the loopback address, with a free port for each container |
| volumes, tmpfs | folders; Prometheus's configuration is a copy whose targets are named, not asked of Docker's DNS |
| /opt/glad, compiled at the build | this Python and this checkout, compiled at the first import |
| tini, as process 1 | nothing: no process here is process 1 |
| the programs of the images of Redis and Prometheus | those on PATH, told their port |
| `promtool check healthy` | the same question: Debian's promtool is too old to know the command |
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from service.settings import Settings
from tests.support.manifests import ROOT, composed, image_stages
from tests.support.processes import free_port

LOOPBACK = "127.0.0.1"
OUR_IMAGES = "glad-inspect-"
PORT_SETTINGS = ("GLAD_PORT", "GLAD_WORKER_PORT")
FOREIGN_PORTS = {"redis": 6379, "prometheus": 9090}
"""Where the programs of foreign images listen unless they are told otherwise."""
FOREIGN_PROGRAMS = {"prometheus": "prometheus"}
"""What a foreign image runs where the compose file only gives its options."""
PORT_OPTIONS = {
    "redis-server": ("--port", "{port}", "--bind", LOOPBACK),
    "redis-cli": ("-p", "{port}"),
    "prometheus": (f"--web.listen-address={LOOPBACK}:{{port}}",),
}
PROMTOOL_PROBE = ("promtool", "check", "healthy")
HEALTHY = "import urllib.request as r; r.urlopen('http://{host}:{port}/-/healthy', timeout=4)"
READ_BY_OTHERS = {
    "GLAD_URL": "glad camera",
    "GLAD_API_KEY": "glad camera",
    "FORWARDED_ALLOW_IPS": "uvicorn",
    "PATH": "the system",
    "HOME": "the system",
    "PYTHONUNBUFFERED": "Python",
    "PYTHONDONTWRITEBYTECODE": "Python",
}
"""Variables of our images that are no setting of the service, and who reads them."""


@dataclass(frozen=True)
class Container:
    """One container as a process."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    healthcheck: tuple[str, ...]
    grace_s: float
    port: int
    tmpfs: Path
    """What a container that is made anew finds empty."""


def containers(
    folder: Path,
    *,
    profile: str = "cpu",
    replicas: Mapping[str, int],
    scrape_every: str | None = None,
    compiled: Path | None = None,
) -> tuple[Container, ...]:
    """So many of these services' containers, with all that they keep in this folder.

    `scrape_every`: Prometheus's interval, such as 1s; None: the file's own. `compiled`: where Python keeps what it
    compiles; None: in the folder. ValueError where a variable of the
    environment is one that nobody reads, or a path lies in no volume.
    """
    return tuple(_Plan(folder, composed(profile)["services"], replicas, scrape_every, compiled).containers())


def seconds(text: str) -> int:
    """Compose's duration, such as 1m30s."""
    minutes, _, rest = text.removesuffix("s").rpartition("m")
    return 60 * int(minutes or 0) + int(rest)


def check_environment(service: str, environment: Mapping[str, str]) -> None:
    """ValueError if a variable is one that nobody reads."""
    settings = {f"GLAD_{name.upper()}" for name in Settings.model_fields}
    for name in environment:
        if name not in settings and name not in READ_BY_OTHERS:
            raise ValueError(f"{service}: {name} is no setting of the service, and nobody else reads it")


class _Plan:
    def __init__(
        self,
        folder: Path,
        services: Mapping[str, Any],
        replicas: Mapping[str, int],
        scrape_every: str | None,
        compiled: Path | None,
    ) -> None:
        self._folder, self._services, self._replicas = folder, services, replicas
        self._scrape_every, self._compiled = scrape_every, compiled or folder / "compiled"
        self._environments = {name: _environment(name, services[name]) for name in replicas}
        self._listens = {name: _port(name, found) for name, found in self._environments.items()}
        self._ports = {name: [free_port() for _ in range(count)] for name, count in replicas.items()}

    def containers(self) -> Iterator[Container]:
        for service, count in self._replicas.items():
            for number in range(count):
                yield self._container(service, number)

    def _container(self, service: str, number: int) -> Container:
        spec, name, port = self._services[service], f"{service}-{number + 1}", self._ports[service][number]
        mounts = self._mounts(service, name)
        here = partial(self._here, service=service, port=port, mounts=mounts)
        environment = {key: here(value) for key, value in self._environments[service].items() if key != "PATH"}
        for setting in PORT_SETTINGS:
            if setting in environment:
                environment[setting] = str(port)
        environment |= self._of_this_machine(mounts)
        return Container(
            name,
            _told_port([here(word) for word in _command(service, spec)], port),
            environment,
            _told_port([here(word) for word in _healthcheck(spec)], port),
            seconds(spec.get("stop_grace_period", "10s")),
            port,
            mounts["/tmp"],
        )

    def _of_this_machine(self, mounts: Mapping[str, Path]) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(mounts["/tmp"]),
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(self._compiled),
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def _mounts(self, service: str, container: str) -> dict[str, Path]:
        """Path in the container -> folder here."""
        mounts = {"/tmp": self._folder / "tmp" / container}
        for volume in self._services[service].get("volumes", ()):
            target = self._folder / "volumes" / volume["source"]
            if volume["type"] == "bind":
                target = self._folder / "bound" / container
                shutil.copytree(volume["source"], target)
                self._name_targets(target / "prometheus.yml")
            mounts[volume["target"]] = target
        for path in mounts.values():
            path.mkdir(parents=True, exist_ok=True)
        return mounts

    def _here(self, text: str, *, service: str, port: int, mounts: Mapping[str, Path]) -> str:
        """Addresses and paths as they are on this machine."""

        def address(found: re.Match[str]) -> str:
            host = found[1]
            named = service if host == LOOPBACK else host
            if int(found[2]) != self._listens[named]:
                raise ValueError(f"{service}: {found[0]} is asked for; {named} listens on {self._listens[named]}")
            return f"{LOOPBACK}:{port if host == LOOPBACK else self._ports[named][0]}"

        hosts = "|".join(map(re.escape, (*self._replicas, LOOPBACK)))
        there = "|".join(map(re.escape, sorted(mounts, key=len, reverse=True)))
        text = re.sub(rf"\b({hosts}):(\d+)\b", address, text.replace("0.0.0.0", LOOPBACK))
        moved = re.sub(rf"(?<![\w./-])({there})(?![\w.-])", lambda found: str(mounts[found[1]]), text)
        if moved == text and re.search(r"(^|=)/", text):
            raise ValueError(f"{service}: {text} lies in no volume, and the root is read-only")
        return moved

    def _name_targets(self, file: Path) -> None:
        """Targets by address instead of by Docker's DNS; their jobs, and all else, stay."""
        config = yaml.safe_load(file.read_text())
        for job in config["scrape_configs"]:
            names = [name for one in job.pop("dns_sd_configs", ()) for name in one["names"]]
            if names:
                targets = [f"{LOOPBACK}:{port}" for name in names for port in self._behind(name)]
                job["static_configs"] = [{"targets": targets}]
            else:
                own = f"{LOOPBACK}:{self._ports['prometheus'][0]}"
                assert job["static_configs"] == [{"targets": [f"{LOOPBACK}:{FOREIGN_PORTS['prometheus']}"]}]
                job["static_configs"] = [{"targets": [own]}]
        if self._scrape_every is not None:
            config["global"] = dict.fromkeys(config["global"], self._scrape_every)
        file.write_text(yaml.safe_dump(config))

    def _behind(self, name: str) -> Iterator[int]:
        """The ports of all containers that Docker's DNS gives for a name: a service's, or an alias."""
        for service, ports in self._ports.items():
            networks = self._services[service]["networks"].values()
            aliases = {alias for network in networks if network for alias in network.get("aliases", ())}
            if name in {service, *aliases}:
                yield from ports


def _environment(service: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """Of the image, then of the compose file."""
    if not spec["image"].startswith(OUR_IMAGES):
        return dict(spec.get("environment", {}))
    words = [word for line in _instructions(spec, "ENV") for word in shlex.split(line)]
    of_image = {name: value for name, _, value in (word.partition("=") for word in words)}
    found = {**of_image, **spec.get("environment", {})}
    check_environment(service, found)
    return found


def _port(service: str, environment: Mapping[str, str]) -> int:
    told = [int(environment[name]) for name in PORT_SETTINGS if name in environment]
    return told[0] if told else FOREIGN_PORTS[service]


def _command(service: str, spec: Mapping[str, Any]) -> list[str]:
    command: list[str] = spec["command"]
    if spec["image"].startswith(OUR_IMAGES):
        (entrypoint,) = (json.loads(line) for line in _instructions(spec, "ENTRYPOINT"))
        assert entrypoint == ["tini", "--"], f"{entrypoint}: say what does for it here"
        return command
    return [FOREIGN_PROGRAMS[service], *command] if service in FOREIGN_PROGRAMS else command


def _healthcheck(spec: Mapping[str, Any]) -> list[str]:
    """The compose file's, else the image's."""
    if "healthcheck" in spec:
        kind, *words = spec["healthcheck"]["test"]
        assert kind == "CMD", f"{kind}: say how it is run here"
        return list(words)
    (line,) = _instructions(spec, "HEALTHCHECK")
    found: list[str] = json.loads(line.split("CMD", 1)[1])
    return found


def _instructions(spec: Mapping[str, Any], name: str) -> list[str]:
    """What follows this word in the image's stages, in their order."""
    stages, target = image_stages(), spec["image"].split(":")[0].removeprefix(OUR_IMAGES)
    text = f"{stages['run']}\n{stages[target]}".replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def _told_port(command: Sequence[str], port: int) -> tuple[str, ...]:
    """With the options that tell a foreign program its port."""
    if tuple(command) == PROMTOOL_PROBE:
        return ("python", "-c", HEALTHY.format(host=LOOPBACK, port=port))
    options = [word.format(port=port) for word in PORT_OPTIONS.get(command[0], ())]
    at = 1 if command[0] == "redis-cli" else len(command)
    return (*command[:at], *options, *command[at:])
