"""Signing in on a page: a cookie that no script reads, no other site's page uses, and that ends with its key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.auth import sessions
from service.auth.api_keys import KeyStore
from service.auth.scopes import REQUIRED_SCOPES, Scope
from service.queue import keys
from service.settings import Settings
from tests.service.auth.test_keys import bearer
from tests.service.conftest import Running, StartApp
from tests.support.ended import end
from tests.support.http_server import server_on
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("keys_read_at_once")

URL = "/v1/session"
STATION = "/v1/stations/line-3"
TOKEN = "glad_session"


@pytest.fixture
def key(client: redis.Redis) -> str:
    """Of the page: it may do all."""
    return KeyStore(client).create("console", [Scope.ADMIN])


async def sign_in(api: Running, key: str | None, person: str = "A. Meier", **headers: str) -> httpx.Response:
    """The answer to a sign-in; the client keeps its cookie."""
    return await api.http.post(URL, json={"key": key, "person": person}, headers=headers)


def kinds(answer: httpx.Response) -> tuple[int, str]:
    """Status and kind of a refusal."""
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


async def test_a_person_signs_in_with_a_key_and_calls_by_the_cookie(api: Running, key: str) -> None:
    before = (await api.http.get(URL)).json()
    assert (before["needs_key"], before["signed_in"], before["scopes"], before["csrf"]) == (True, False, [], None)
    assert (await api.http.get("/v1/products")).status_code == 401
    view = (await sign_in(api, key)).json()
    assert (view["person"], view["key"], view["scopes"]) == (
        "A. Meier",
        "console",
        ["submit", "read", "review", "admin"],
    )
    assert (await api.http.get("/v1/products")).status_code == 200
    assert (await api.http.get(URL)).json() == view


async def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(api: Running, key: str) -> None:
    cookie = (await sign_in(api, key)).headers["set-cookie"].lower()
    parts = {part.strip() for part in cookie.split(";")[1:]}
    [age] = [part for part in parts if part.startswith("max-age=")]
    assert parts == {"httponly", "samesite=strict", "path=/", age}
    assert 43_100 < int(age.removeprefix("max-age=")) <= 43_200
    transport: Any = api.http._transport
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as secure:
        answer = await secure.post(URL, json={"key": key, "person": "A. Meier"})
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_redis_keeps_the_hash_of_the_token_and_neither_token_nor_key(
    api: Running, key: str, client: redis.Redis
) -> None:
    view = (await sign_in(api, key)).json()
    token = api.http.cookies[TOKEN]
    digest = hashlib.sha256(token.encode()).hexdigest()
    [name] = client.keys("glad:v1:session:*")
    assert name == keys.session(digest)
    stored: Any = client.get(name)
    assert not {token, key, view["csrf"]} & set(json.loads(stored).values())
    assert 43_100 < int(client.ttl(name)) <= 43_200


async def test_a_change_by_cookie_needs_the_token_that_only_this_page_can_read(api: Running, key: str) -> None:
    view = (await sign_in(api, key)).json()
    settings = {"product": "toy"}
    assert kinds(await api.http.put(STATION, json=settings)) == (403, "csrf-token-missing")
    for wrong in ("0" * 64, "", api.http.cookies[TOKEN]):
        answer = await api.http.put(STATION, json=settings, headers={"X-CSRF-Token": wrong})
        assert kinds(answer) == (403, "csrf-token-missing")
    right = {"X-CSRF-Token": view["csrf"]}
    assert (await api.http.put(STATION, json=settings, headers=right)).status_code == 200
    own = right | {"Origin": "http://localhost"}
    assert (await api.http.put(STATION, json=settings, headers=own)).status_code == 200


UNSAFE = sorted(
    (method, re.sub(r"\{\w+\}", "x", path), scope)
    for (method, path), scope in REQUIRED_SCOPES.items()
    if method not in sessions.SAFE_METHODS and path.startswith("/v1/")  # refusals under /v2 have another form
)
"""Every call that changes something, with the scope that it needs."""


async def test_no_change_by_cookie_is_made_without_the_token_or_from_another_site(api: Running, key: str) -> None:
    right = {sessions.CSRF_HEADER: (await sign_in(api, key)).json()["csrf"]}
    for method, path, _ in UNSAFE:
        for headers in ({}, {sessions.CSRF_HEADER: ""}, {sessions.CSRF_HEADER: "0" * 64}):
            assert kinds(await api.http.request(method, path, headers=headers)) == (403, "csrf-token-missing"), path
        foreign = await api.http.request(method, path, headers=right | {"Origin": "https://example.org"})
        assert kinds(foreign) == (403, "foreign-page"), path


async def test_a_session_gains_no_scope_by_being_handed_over(api: Running, client: redis.Redis) -> None:
    reading = KeyStore(client).create("screen", [Scope.READ])
    csrf = (await sign_in(api, reading)).json()["csrf"]
    handed_over = (await sign_in(api, None, "B. Schulz", **{sessions.CSRF_HEADER: csrf})).json()
    assert (handed_over["person"], handed_over["scopes"]) == ("B. Schulz", ["read"])
    for method, path, scope in UNSAFE:
        answer = await api.http.request(method, path, headers={sessions.CSRF_HEADER: handed_over["csrf"]})
        assert (kinds(answer), f"takes '{scope}'" in answer.json()["detail"]) == ((403, "forbidden"), True), path


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9000", "null", "http://evil.localhost"])
async def test_a_page_of_another_site_changes_nothing_and_signs_nobody_in(api: Running, key: str, origin: str) -> None:
    assert kinds(await sign_in(api, key, Origin=origin)) == (403, "foreign-page")
    view = (await sign_in(api, key)).json()
    headers = {"X-CSRF-Token": view["csrf"], "Origin": origin}
    assert kinds(await api.http.put(STATION, json={"product": "toy"}, headers=headers)) == (403, "foreign-page")
    assert kinds(await api.http.delete(URL, headers=headers)) == (403, "foreign-page")
    assert (await api.http.get(URL)).json()["signed_in"]


async def test_a_key_in_a_header_needs_no_token_and_counts_before_the_cookie(
    api: Running, key: str, client: redis.Redis
) -> None:
    await sign_in(api, key)
    answer = await api.http.put(STATION, json={"product": "toy", "by": "mes"}, headers=bearer(key))
    assert answer.json()["changed_by"] == "mes"
    reader = KeyStore(client).create("reader", [Scope.READ])
    seen = (await api.http.get(URL, headers=bearer(reader))).json()
    assert (seen["signed_in"], seen["key"], seen["scopes"], seen["csrf"]) == (False, "reader", ["read"], None)
    assert (await api.http.get(URL, headers=bearer("glad_wrong"))).status_code == 401


async def test_a_session_may_do_what_its_key_may(api: Running, client: redis.Redis, key: str) -> None:
    view = (await sign_in(api, KeyStore(client).create("reader", [Scope.READ]))).json()
    assert (await api.http.get("/v1/products")).status_code == 200
    answer = await api.http.put(STATION, json={"product": "toy"}, headers={"X-CSRF-Token": view["csrf"]})
    assert kinds(answer) == (403, "forbidden")


async def test_the_person_is_recorded_whatever_a_call_says(api: Running, key: str, client: redis.Redis) -> None:
    headers = {"X-CSRF-Token": (await sign_in(api, key)).json()["csrf"]}
    station = await api.http.put(STATION, json={"product": "toy", "by": "somebody"}, headers=headers)
    assert station.json()["changed_by"] == "A. Meier"
    [inspection_id] = await asyncio.to_thread(end, client)
    body = {"decision": "ok", "by": "somebody"}
    answer = await api.http.post(f"/v1/inspections/{inspection_id}/review", json=body, headers=headers)
    assert (answer.json()["reviews"][0]["by"], answer.json()["reviews"][0]["key"]) == ("A. Meier", "console")


async def test_a_session_ends_with_its_key_and_at_sign_out(api: Running, key: str, client: redis.Redis) -> None:
    csrf = (await sign_in(api, key)).json()["csrf"]
    stolen = {"Cookie": f"{TOKEN}={api.http.cookies[TOKEN]}"}
    assert (await api.http.delete(URL, headers={"X-CSRF-Token": csrf})).status_code == 204
    assert TOKEN not in api.http.cookies
    assert (await api.http.get("/v1/products", headers=stolen)).status_code == 401
    await sign_in(api, key)
    KeyStore(client).revoke("console")
    refused = await api.http.get("/v1/products")
    assert refused.status_code == 401
    assert "sign in again" in refused.json()["detail"]
    assert not (await api.http.get(URL)).json()["signed_in"]


async def test_a_token_of_somebody_elses_choice_never_becomes_a_session(api: Running, key: str) -> None:
    chosen = "A" * 43
    api.http.cookies.set(TOKEN, chosen, domain="localhost")
    answer = await sign_in(api, key)
    assert answer.status_code == 200
    api.http.cookies.clear()
    assert (await api.http.get("/v1/products", headers={"Cookie": f"{TOKEN}={chosen}"})).status_code == 401


async def test_signing_in_anew_ends_the_session_before(api: Running, key: str) -> None:
    await sign_in(api, key)
    first = {"Cookie": f"{TOKEN}={api.http.cookies[TOKEN]}"}
    await sign_in(api, key, "B. Huber")
    assert (await api.http.get(URL)).json()["person"] == "B. Huber"
    api.http.cookies.clear()
    assert (await api.http.get("/v1/products", headers=first)).status_code == 401


async def test_who_is_signed_in_hands_over_without_the_key_and_without_more_time(
    api: Running, key: str, client: redis.Redis
) -> None:
    first = (await sign_in(api, key)).json()
    [name] = client.keys("glad:v1:session:*")
    assert kinds(await sign_in(api, None, "B. Huber")) == (403, "csrf-token-missing")
    token = {"X-CSRF-Token": first["csrf"]}
    second = (await api.http.post(URL, json={"key": None, "person": "B. Huber"}, headers=token)).json()
    assert (second["person"], second["key"], second["expires_at"]) == ("B. Huber", "console", first["expires_at"])
    assert second["csrf"] != first["csrf"]
    assert client.exists(name) == 0
    KeyStore(client).revoke("console")
    assert (await sign_in(api, None, "C")).status_code == 401


async def test_two_cookies_of_that_name_are_none(api: Running, key: str) -> None:
    await sign_in(api, key)
    token = api.http.cookies[TOKEN]
    api.http.cookies.clear()
    for cookies, status in ((f"{TOKEN}={token}; a=b", 200), (f"{TOKEN}={token}; {TOKEN}={'A' * 43}", 401)):
        assert (await api.http.get("/v1/products", headers={"Cookie": cookies})).status_code == status


async def test_failed_sign_ins_count_as_calls_without_a_key(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, key: str
) -> None:
    running: Running = await start_app(shared_redis.url, failures_per_minute=3)
    wrong = "glad_" + "0" * 12 + "_" + "0" * 48
    answers = [(await sign_in(running, wrong)).status_code for _ in range(5)]
    assert answers == [401, 401, 401, 429, 429]
    assert (await running.http.get("/v1/products")).status_code == 429
    # Failures of others at the same address never stop a valid key; but nobody fills Redis with sessions.
    assert [(await sign_in(running, key)).status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("settings", [{}, {"auth": "off"}])
async def test_where_no_key_is_needed_a_person_signs_in_by_name(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, settings: dict[str, str]
) -> None:
    running: Running = await start_app(shared_redis.url, **settings)
    nobody = (await running.http.get(URL)).json()
    assert (nobody["needs_key"], nobody["signed_in"], len(nobody["scopes"])) == (False, False, 4)
    view = (await sign_in(running, None)).json()
    assert (view["person"], view["key"], len(view["scopes"])) == ("A. Meier", None, 4)
    assert kinds(await running.http.put(STATION, json={"product": "toy"})) == (403, "csrf-token-missing")
    headers = {"X-CSRF-Token": view["csrf"]}
    answer = await running.http.put(STATION, json={"product": "toy", "by": "x"}, headers=headers)
    assert answer.json()["changed_by"] == "A. Meier"


async def test_a_session_without_a_key_opens_nothing_once_keys_are_needed(api: Running, client: redis.Redis) -> None:
    await sign_in(api, None)
    assert (await api.http.get("/v1/products")).status_code == 200
    KeyStore(client).create("mes", [Scope.READ])
    assert (await api.http.get("/v1/products")).status_code == 401
    assert (await sign_in(api, None)).status_code == 401


async def test_a_name_that_was_made_to_point_here_signs_nobody_in(api: Running) -> None:
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert kinds(await api.http.post(URL, json={"key": None, "person": "x"}, headers=rebound)) == (403, "foreign-page")


@pytest.mark.parametrize("person", ["", "   ", "a\nb", "a\x1b[31m", "x" * 101, None])
async def test_a_name_is_a_line_of_text(api: Running, person: Any) -> None:
    answer = await api.http.post(URL, json={"key": None, "person": person})
    assert answer.status_code == 422


async def test_a_session_lasts_as_long_as_the_plant_says(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, session_s=60)
    await sign_in(running, None)
    [name] = client.keys("glad:v1:session:*")
    assert 50 < int(client.ttl(name)) <= 60
    client.delete(name)
    assert not (await running.http.get(URL)).json()["signed_in"]


@pytest.fixture
def settings(shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Settings:
    """A service whose silent streams show at once that they live."""
    return Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path, heartbeat_s=0.05)


def test_an_event_stream_ends_when_its_session_does(
    settings: Settings, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CHECK_AGAIN_S", 0.0)
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=30) as page:
        csrf = page.post(URL, json={"key": key, "person": "A. Meier"}).json()["csrf"]
        with page.stream("GET", "/v1/events") as found:
            lines = found.iter_lines()
            assert next(lines) == "retry: 2000"
            page.delete(URL, headers={"X-CSRF-Token": csrf})
            assert [line for line in lines if line][-1] == ": the session of this stream has ended: the stream ends"
