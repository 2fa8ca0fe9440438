"""The compose file's sample camera: its own commands, run as plain processes, show the API sample parts with a key."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import redis

from service.contract import Priority
from service.host.child_process import Child
from service.queue.connection import connect
from service.queue.keys import PoolKeys
from service.settings import Settings
from tests.support.http_server import server_on
from tests.support.manifests import composed
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


def started(name: str, folder: Path, **env: str) -> Child:
    """A service of the compose file, as a process: two sample images in place of many, which are drawn for long."""
    service = composed("camera")["services"][name]
    command = [word.replace("$$", "$").replace("--good 40 --defects 1", "--good 2") for word in service["command"]]
    own = {key: value for key, value in os.environ.items() if not key.startswith("GLAD_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    child = Child(
        name,
        command,
        env={**own, **service["environment"], "GLAD_DATA_DIR": str(folder / "camera"), "PATH": path, **env},
        log=folder / f"{name}.log",
    )
    child.start()
    return child


def test_a_camera_with_nothing_set_posts_sample_parts_again_and_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "camera").mkdir()
    setup = started("camera-setup", tmp_path, GLAD_REDIS_URL=redis_server.url)
    assert setup.wait(120)
    assert setup.exit_status == 0, (tmp_path / "camera-setup.log").read_text()
    assert (tmp_path / "camera" / "key").stat().st_mode & 0o077 == 0
    settings = Settings(redis_url=redis_server.url, data_dir=tmp_path / "data", auth="keys")
    with server_on(settings) as url, connect(redis_server.url) as client:
        for expected in (2, 4):
            camera = started("camera", tmp_path, GLAD_URL=url, RATE="50")
            try:
                eventually(lambda expected=expected: backlog(client) == expected)  # type: ignore[misc]
            finally:
                camera.kill()


def backlog(client: redis.Redis) -> int:
    """Images that were accepted: there is no worker."""
    return sum(int(str(client.xlen(PoolKeys("default").jobs(priority)))) for priority in Priority)


def test_the_sample_can_be_drawn_and_its_key_used_where_nothing_else_can_be_written() -> None:
    services: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] = composed("camera")["services"]
    written = [one["target"] for one in services["camera-setup"]["volumes"] if not one.get("read_only")]
    assert written == ["/var/lib/glad"]
    assert not [one for one in services["camera"]["volumes"] if not one.get("read_only")]
