"""What browsers are told with every answer, and which pages may call."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import httpx
import pytest
import redis
from pydantic import ValidationError

from service.api.app import create_app
from service.api.openapi import docs_page
from service.api.problems import SECURITY_HEADERS
from service.auth.api_keys import KeyStore
from service.auth.scopes import PUBLIC_PATHS, Scope
from service.settings import Settings
from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"
MES = "https://mes.example"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/products", 200),
        ("POST", URL, 400),
        ("GET", "/nowhere", 404),
        ("PUT", URL, 405),
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
    ],
)
async def test_every_answer_carries_the_security_headers(api: Running, method: str, path: str, status: int) -> None:
    answer = await api.http.request(method, path)
    assert answer.status_code == status
    assert SECURITY_HEADERS.items() <= {name: answer.headers.get(name) for name in SECURITY_HEADERS}.items()
    assert "server" not in answer.headers


async def test_refusals_at_the_door_and_of_a_large_body_carry_them_too(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, auth="keys", max_image_bytes=10)
    unauthorized = await running.http.get("/v1/products")
    key = KeyStore(client).create("a", [Scope.SUBMIT])
    opened: Running = await start_app(shared_redis.url, auth="keys", max_image_bytes=10)
    large = await opened.http.post(URL, content=bytes(100_000), headers={"X-API-Key": key})
    assert (unauthorized.status_code, large.status_code) == (401, 413)
    for answer in (unauthorized, large):
        assert SECURITY_HEADERS.items() <= {name: answer.headers.get(name) for name in SECURITY_HEADERS}.items()


async def test_a_fault_of_ours_carries_them_too_and_tells_nothing_of_itself(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    app = create_app(Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path))

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError(f"a word of {tmp_path}")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
    ):
        answer = await http.get("/v1/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert str(tmp_path) not in answer.text
    assert SECURITY_HEADERS.items() <= {name: answer.headers.get(name) for name in SECURITY_HEADERS}.items()


async def test_pictures_keep_their_own_caching_and_are_sniffed_by_nobody(api: Running) -> None:
    link = (await api.http.post(URL, content=picture())).json()["artifacts"]["image"]
    answer = await api.http.get(link)
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_documents_page_runs_its_own_script_only(api: Running) -> None:
    answer = await api.http.get("/docs")
    policy = answer.headers["content-security-policy"]
    [script] = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "frame-ancestors 'none'" in policy


async def test_the_documents_page_loads_nothing_from_elsewhere_and_needs_no_key(
    shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, auth="keys")
    page = await running.http.get("/docs")
    assert "http" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert set(named) == docs_page.FILES < PUBLIC_PATHS
    for path in named:
        part = await running.http.get(path)
        assert part.status_code == 200
        assert len(part.content) > 1000
        assert part.headers["content-security-policy"] == SECURITY_HEADERS["Content-Security-Policy"]
        kind = path.rpartition(".")[2]
        assert {"js": "javascript", "css": "css", "png": "png"}[kind] in part.headers["content-type"]
    assert (await running.http.get("/docs/secrets.txt")).status_code == 401


async def test_the_documents_can_be_switched_off(shared_redis: RedisServer, start_app: StartApp) -> None:
    running: Running = await start_app(shared_redis.url, docs=False)
    for path in ("/docs", *docs_page.FILES, "/openapi.json"):
        assert (await running.http.get(path)).status_code == 404


PREFLIGHT = {"Origin": MES, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_no_other_sites_page_may_read_answers_unless_it_is_named(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    closed: Running = await start_app(shared_redis.url)
    named: Running = await start_app(shared_redis.url, cors_origins=MES)
    assert "access-control-allow-origin" not in (await closed.http.options(URL, headers=PREFLIGHT)).headers
    preflight = await named.http.options(URL, headers=PREFLIGHT)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, MES)
    answer = await named.http.post(URL, content=picture(), headers={"Origin": MES})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, MES)
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    other = await named.http.options(URL, headers=PREFLIGHT | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 202), ("http://localhost", 202), (MES, 403), ("null", 403), ("http://evillocalhost", 403)],
)
async def test_where_no_key_is_needed_no_other_sites_page_may_call(
    api: Running, origin: str | None, status: int
) -> None:
    answer = await api.http.post(URL, content=picture(), headers={} if origin is None else {"Origin": origin})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "urn:glad:problem:foreign-page"
        assert "GLAD_CORS_ORIGINS" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("mes.example", 200),  # named by GLAD_CORS_ORIGINS
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.7:8000", 403),
        ("[::", 403),
    ],
)
async def test_where_no_key_is_needed_no_other_name_is_answered_to(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, host: str, status: int
) -> None:
    running: Running = await start_app(shared_redis.url, cors_origins=MES)
    answer = await running.http.get("/v1/products", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "urn:glad:problem:foreign-page"
    rebound = {"Host": host, "Origin": f"http://{host}"}  # what a page sends whose name means this machine by now
    assert (await running.http.post(URL, content=picture(), headers=rebound)).status_code == {200: 202}.get(status, 403)


async def test_with_a_key_or_with_another_at_the_door_any_name_is_answered_to(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    named = {"Host": "glad.plant.example"}
    off: Running = await start_app(shared_redis.url, auth="off")
    assert (await off.http.get("/v1/products", headers=named)).status_code == 200
    key = KeyStore(client).create("mes", [Scope.READ])
    keyed: Running = await start_app(shared_redis.url)
    assert (await keyed.http.get("/v1/products", headers=named | {"X-API-Key": key})).status_code == 200


def test_origins_are_named_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_CORS_ORIGINS", f"{MES}, http://10.0.0.7:8080")
    assert Settings().cors_origins == (MES, "http://10.0.0.7:8080")
    for wrong in ("*", "mes.example", "https://mes.example/", "https://*.example"):
        with pytest.raises(ValidationError, match="is no origin"):
            Settings(cors_origins=wrong)
