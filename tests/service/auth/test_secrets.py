"""A key appears in no log line and in no answer, whatever goes wrong with it."""

from __future__ import annotations

import logging

import pytest
import redis
import structlog

from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.telemetry.logs import hide_secrets
from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"


@pytest.mark.usefixtures("keys_read_at_once")
async def test_no_key_appears_in_any_log_line_or_answer(
    client: redis.Redis,
    shared_redis: RedisServer,
    start_app: StartApp,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store = KeyStore(client)
    good, revoked = store.create("good", [Scope.SUBMIT]), store.create("revoked", [Scope.ADMIN])
    store.revoke("revoked")
    running: Running = await start_app(shared_redis.url, log_level="debug")
    unknown = "glad_" + "0" * 12 + "_" + "5ec2e7" * 8
    answers = []
    for key in (good, revoked, unknown):
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"Authorization": f"Basic {key}"}):
            answers += [
                await running.http.post(URL, content=picture(), headers=headers),
                await running.http.post(URL, content=b"no image", headers=headers),
                await running.http.get("/v1/products", headers=headers),
                await running.http.get("/nowhere", headers=headers),
            ]
    # where it does not belong: in the path, the query, a field
    lost = {"X-API-Key": good}
    answers.append(await running.http.get(f"/v1/products/{good}", headers={"X-API-Key": good}))
    answers.append(await running.http.post(f"/v1/{good}", headers=lost))
    answers.append(await running.http.post(URL, params={"serial": good, "priority": good}, headers=lost))
    structlog.get_logger("test").error("an error with it", detail=f"key {good}", headers=lost)
    logging.getLogger("library").error("a library's line with %s", good)
    shown = capfd.readouterr().err
    assert {answer.status_code for answer in answers} >= {202, 401, 403, 404, 415, 422}
    assert "an error with it" in shown
    assert "a library's line" in shown
    assert "request refused by authentication" in shown
    for key in (good, revoked, unknown):
        assert key[-48:] not in shown
    for answer in answers[:-3]:
        assert not any(key[-48:] in answer.text for key in (good, revoked, unknown))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"key glad_0123456789ab_{'c' * 48}!", "key glad_0123456789ab_***!"),
        ("redis://:pass@host:6379/0", "redis://:***@host:6379/0"),
        ("s3://id:secret@bucket/glad", "s3://id:***@bucket/glad"),
        ('{"url": "http://10.0.0.7:8000/a@b"}', '{"url": "http://10.0.0.7:8000/a@b"}'),
        ("at 08:15 by a@b", "at 08:15 by a@b"),
    ],
)
def test_secrets_are_hidden_in_a_finished_line_and_nothing_else_is(line: str, shown: str) -> None:
    assert hide_secrets(None, "", line) == shown
