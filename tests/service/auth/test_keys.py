"""Who gets in: keys with scopes, kept as hashes, in force within seconds; without any key, this machine only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from service.auth.api_keys import KeyCache, KeyNameTaken, KeyStore, NoSuchKey, split_key
from service.auth.authenticator import check_may_start, is_loopback, needs_key
from service.auth.scopes import PUBLIC_PATHS, REQUIRED_SCOPES, Scope
from service.errors import StartError
from service.queue import keys
from service.queue.connection import connect_async
from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire

pytestmark = pytest.mark.usefixtures("keys_read_at_once")

URL = "/v1/products/toy/inspections"


@pytest.fixture
def store(client: redis.Redis) -> KeyStore:
    """The command's side, on the emptied Redis."""
    return KeyStore(client)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def test_what_is_kept_of_a_key_is_the_hash_of_its_secret(store: KeyStore, client: redis.Redis) -> None:
    key = store.create("line-3", [Scope.SUBMIT])
    parts = split_key(key)
    assert parts is not None
    key_id, secret = parts
    stored: Any = client.hgetall(keys.API_KEYS)
    assert list(stored) == [key_id]
    assert secret not in stored[key_id]
    assert json.loads(stored[key_id])["sha256"] == hashlib.sha256(secret.encode()).hexdigest()


def test_two_keys_differ_in_id_and_secret(store: KeyStore) -> None:
    first, second = (split_key(store.create(name, [Scope.READ])) for name in ("a", "b"))
    assert first is not None
    assert second is not None
    assert not {*first} & {*second}


def test_a_name_is_taken_until_its_key_is_revoked(store: KeyStore) -> None:
    store.create("mes", [Scope.READ])
    with pytest.raises(KeyNameTaken, match="'mes' is in use"):
        store.create("mes", [Scope.ADMIN])
    ended = store.revoke("mes")
    assert ended.revoked_at is not None
    store.create("mes", [Scope.READ])
    assert [(key.name, key.revoked_at is None) for key in store.list_keys()] == [("mes", False), ("mes", True)]


def test_a_key_is_revoked_by_its_id_too_and_only_once(store: KeyStore) -> None:
    parts = split_key(store.create("mes", [Scope.READ]))
    assert parts is not None
    assert store.revoke(parts[0]).name == "mes"
    with pytest.raises(NoSuchKey, match="glad key list"):
        store.revoke(parts[0])


@pytest.mark.parametrize(("name", "scopes"), [("a b", [Scope.READ]), ("", [Scope.READ]), ("a\n", []), ("a", [])])
def test_a_key_has_a_plain_name_and_at_least_one_scope(store: KeyStore, name: str, scopes: list[Scope]) -> None:
    with pytest.raises(ValidationError):
        store.create(name, scopes)
    assert store.list_keys() == []


async def test_without_any_key_the_loopback_is_open(api: Running) -> None:
    assert (await api.http.post(URL, content=picture())).status_code == 202
    assert (await api.http.get("/v1/products/toy")).status_code == 200


async def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it_again(
    api: Running, store: KeyStore
) -> None:
    key = store.create("line-3", [Scope.SUBMIT])
    refused = await api.http.post(URL, content=picture())
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:glad:problem:unauthorized")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == 'Bearer realm="glad"'
    assert (await api.http.post(URL, content=picture(), headers=bearer(key))).status_code == 202
    store.revoke("line-3")
    for headers in ({}, bearer(key)):
        assert (await api.http.post(URL, content=picture(), headers=headers)).status_code == 401


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}"])
async def test_a_bearer_token_or_x_api_key_carries_the_key(api: Running, store: KeyStore, form: str) -> None:
    key = store.create("mes", [Scope.READ])
    assert (await api.http.get("/v1/products", headers={"Authorization": form.format(key)})).status_code == 200
    assert (await api.http.get("/v1/products", headers={"X-API-Key": key})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer glad_"},
        {"Authorization": "Basic Z2xhZDpnbGFk"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"X-API-Key": ""},
        {"X-API-Key": "glad_000000000000_" + "0" * 48},
    ],
)
async def test_what_is_no_key_gets_401(api: Running, store: KeyStore, headers: dict[str, str]) -> None:
    store.create("mes", [Scope.READ])
    assert (await api.http.get("/v1/products", headers=headers)).status_code == 401


async def test_a_wrong_secret_or_id_gets_401(api: Running, store: KeyStore) -> None:
    key = store.create("mes", [Scope.READ])
    last = "0" if key[-1] != "0" else "1"
    other_id = "glad_" + "0" * 12 + key[17:]
    for wrong in (key[:-1] + last, other_id, key.upper(), key + "0"):
        assert (await api.http.get("/v1/products", headers=bearer(wrong))).status_code == 401


async def test_a_key_may_do_what_its_scopes_say_and_no_more(api: Running, store: KeyStore) -> None:
    key = {scope: store.create(scope.value, [scope]) for scope in Scope}
    for scope, posted, listed in (("submit", 202, 403), ("read", 403, 200), ("review", 403, 403), ("admin", 202, 200)):
        headers = bearer(key[Scope(scope)])
        assert (await api.http.post(URL, content=picture(), headers=headers)).status_code == posted
        answer = await api.http.get("/v1/products", headers=headers)
        assert answer.status_code == listed
    refused = await api.http.get("/v1/products", headers=bearer(key[Scope.SUBMIT]))
    assert refused.json()["type"] == "urn:glad:problem:forbidden"
    assert refused.headers["www-authenticate"] == 'Bearer realm="glad", error="insufficient_scope", scope="read"'
    assert "'submit' has the scope submit" in refused.json()["detail"]


async def test_an_unknown_path_needs_a_key_too(api: Running, store: KeyStore) -> None:
    key = store.create("mes", [Scope.READ])
    assert (await api.http.get("/nowhere")).status_code == 401
    assert (await api.http.get("/nowhere", headers=bearer(key))).status_code == 404


async def test_probes_and_documents_stay_open_and_metrics_as_set(
    client: redis.Redis, store: KeyStore, shared_redis: RedisServer, start_app: StartApp
) -> None:
    key = store.create("prometheus", [Scope.READ])
    running: Running = await start_app(shared_redis.url)
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json", "/metrics"):
        assert (await running.http.get(path)).status_code == 200
    closed: Running = await start_app(shared_redis.url, metrics_open=False, docs=False)
    assert (await closed.http.get("/metrics")).status_code == 401
    assert (await closed.http.get("/metrics", headers=bearer(key))).status_code == 200
    assert [(await closed.http.get(path)).status_code for path in ("/docs", "/openapi.json")] == [404, 404]


async def test_an_idempotency_key_belongs_to_one_api_key(api: Running, store: KeyStore) -> None:
    first, second = (store.create(name, [Scope.SUBMIT]) for name in ("a", "b"))

    async def post(key: str, colour: str) -> Any:
        headers = {**bearer(key), "Idempotency-Key": "part-1"}
        return await api.http.post(URL, content=picture(colour=colour), headers=headers)

    mine = await post(first, "teal")
    assert (await post(first, "teal")).json()["id"] == mine.json()["id"]
    theirs = await post(second, "red")
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine.json()["id"]
    assert (await post(first, "red")).status_code == 409


async def test_another_address_takes_keys_only_and_auth_off_takes_everybody(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    for settings, status in (
        ({"host": "0.0.0.0"}, 401),
        ({"auth": "keys"}, 401),
        ({"host": "0.0.0.0", "auth": "off"}, 200),
    ):
        running: Running = await start_app(shared_redis.url, **settings)
        answer = await running.http.get("/v1/products")
        assert answer.status_code == status
        if status == 401:
            assert "glad key create" in answer.json()["detail"]


async def test_while_redis_is_away_the_keys_that_were_read_count_and_nobody_else_gets_in(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    with own_redis.connect() as client:
        key = KeyStore(client).create("mes", [Scope.READ])
    running: Running = await start_app(own_redis.url)
    assert (await running.http.get("/v1/products", headers=bearer(key))).status_code == 200
    own_redis.kill()
    assert (await running.http.get("/v1/products", headers=bearer(key))).status_code == 200
    assert (await running.http.get("/v1/products")).status_code == 401


async def test_a_process_that_never_read_the_keys_lets_nobody_in(own_redis: RedisServer, start_app: StartApp) -> None:
    own_redis.kill()
    running: Running = await start_app(own_redis.url)
    answer = await running.http.get("/v1/products")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:glad:problem:queue-unavailable")
    assert answer.headers["retry-after"] == "2"
    assert (await running.http.get("/health/live")).status_code == 200


async def test_the_first_keys_of_a_process_may_come_late(shared_redis: RedisServer, store: KeyStore) -> None:
    store.create("mes", [Scope.READ])
    with Wire(shared_redis.url) as wire:
        async with connect_async(wire.url) as late:
            wire.delay_replies(0.6)  # three replies: more than the second that a later reading may take
            ring = await KeyCache(late).current_keys()
            assert ring is not None
            assert [key.name for key in ring.by_id.values()] == ["mes"]


async def test_a_record_that_this_version_does_not_understand_lets_nobody_in(api: Running, client: redis.Redis) -> None:
    client.hset(keys.API_KEYS, "0" * 12, '{"scopes": ["all"]}')
    client.hset(keys.API_KEYS, "1" * 12, "no JSON")
    key = KeyStore(client).create("mes", [Scope.READ])
    assert (await api.http.get("/v1/products", headers=bearer(key))).status_code == 200
    assert (await api.http.get("/v1/products", headers=bearer(f"glad_{'0' * 12}_{'0' * 48}"))).status_code == 401


async def test_a_record_that_nobody_understands_still_closes_the_door(api: Running, client: redis.Redis) -> None:
    client.hset(keys.API_KEYS, "0" * 12, '{"scopes": ["all"]}')
    assert (await api.http.get("/v1/products")).status_code == 401


async def test_every_call_states_its_scope_in_the_table_and_in_the_document(api: Running) -> None:
    document = (await api.http.get("/openapi.json")).json()
    stated = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path in PUBLIC_PATHS:
                assert "security" not in operation
                continue
            scope = operation["security"][0]["bearer"][0]
            assert operation["security"] == [{"bearer": [scope]}, {"header": [scope]}]
            assert f"Scope: `{scope}`" in operation["description"]
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
            assert ("requestBody" in operation) <= ({"408", "413"} <= set(operation["responses"]))
            stated[method.upper(), path] = scope
    assert stated == REQUIRED_SCOPES, "service/auth/scopes.py must name each call and its scope"
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.7", False),
        ("glad.plant.example", False),
        ("localhost.plant.example", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("auth", "host", "made", "expected"),
    [
        ("auto", "127.0.0.1", False, False),
        ("auto", "127.0.0.1", True, True),
        ("auto", "0.0.0.0", False, True),
        ("keys", "127.0.0.1", False, True),
        ("off", "0.0.0.0", True, False),
    ],
)
def test_when_a_key_is_needed(auth: Any, host: str, made: bool, expected: bool) -> None:
    assert needs_key(auth, host, any_key_made=made) is expected


def test_a_network_is_not_served_before_somebody_has_a_key(client: redis.Redis, store: KeyStore) -> None:
    for refused in ("0.0.0.0", "10.0.0.7"):
        with pytest.raises(StartError, match=r"(?s)GLAD_HOST is .*glad key create.*GLAD_AUTH=off"):
            check_may_start("auto", refused, client)
    check_may_start("auto", "127.0.0.1", client)
    check_may_start("keys", "0.0.0.0", client)
    check_may_start("off", "0.0.0.0", client)
    store.create("mes", [Scope.READ])
    check_may_start("auto", "0.0.0.0", client)
    store.revoke("mes")
    with pytest.raises(StartError):
        check_may_start("auto", "0.0.0.0", client)


def test_without_redis_nothing_is_known_and_the_start_goes_on_closed(tmp_path: Path) -> None:
    with redis.Redis(unix_socket_path=str(tmp_path / "none.sock")) as nobody:
        check_may_start("auto", "0.0.0.0", nobody)
