"""The share with the images is not mounted, an empty folder is in its place: nothing is accepted, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"


async def test_an_empty_mount_point_takes_no_image_before_and_after_a_restart(
    api: Running, shared_redis: RedisServer, start_app: StartApp
) -> None:
    folder = Path(api.settings.artifacts)
    accepted = (await api.http.post(URL, content=picture())).json()
    away = folder.rename(folder.with_name("away"))
    folder.mkdir()
    restarted: Running = await start_app(shared_redis.url)
    for running in (api, restarted):
        refused = await running.http.post(URL, content=picture())
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:glad:problem:storage-unavailable")
        assert str(folder) not in refused.text
        readiness = await running.http.get("/health/ready")
        assert (readiness.status_code, readiness.json()["checks"]["artifacts"]["ok"]) == (503, False)
        picture_of_it = await running.http.get(f"/v1/inspections/{accepted['id']}/image")
        assert picture_of_it.status_code == 503, "it is not gone"
    assert list(folder.iterdir()) == []
    folder.rmdir()
    away.rename(folder)
    for running in (api, restarted):
        assert (await running.http.get(f"/v1/inspections/{accepted['id']}/image")).content == picture()
        assert (await running.http.post(URL, content=picture())).status_code == 202


async def test_a_fresh_empty_folder_is_taken(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    running: Running = await start_app(shared_redis.url, artifacts_url=str(tmp_path / "volume"))
    assert (await running.http.get("/health/ready")).json()["checks"]["artifacts"]["ok"]
    assert (await running.http.post(URL, content=picture())).status_code == 202
