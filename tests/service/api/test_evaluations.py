"""Evaluations of a version over HTTP: who may record them, of which bundle, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.evaluations import measured_quality
from tests.support.redis_server import RedisServer

TOY = "/v1/products/toy"
EVALUATIONS = f"{TOY}/versions/1/evaluations"


@pytest.fixture
async def api(start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path) -> Running:
    """A service with a store of its own: it is written to."""
    write_toy(tmp_path / "store" / "toy" / "1")
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    return running


def record_of(api: Running, **changes: Any) -> dict[str, Any]:
    """As it stands under `record` in the JSON of `glad evaluate`."""
    measured = measured_quality(api.services.store.resolve("toy").hash, **changes)
    return measured.model_dump(mode="json", exclude_none=True)


async def test_an_evaluation_is_recorded_shown_with_its_version_and_removed(api: Running) -> None:
    before = (await api.http.get(TOY)).json()
    assert before["active"]["evaluations"] == []
    made = await api.http.post(EVALUATIONS, json={**record_of(api), "by": "ann", "note": "new lamp"})
    assert made.status_code == 201
    recorded = made.json()
    assert (recorded["by"], recorded["note"], recorded["data"]["name"]) == ("ann", "new lamp", "plant")
    assert recorded["figures"]["image_auroc"] == {"value": 0.97, "low": 0.95, "high": 0.985}
    assert recorded["yardstick"]["pixel_auroc"] is None
    after = (await api.http.get(TOY)).json()
    assert after["active"]["evaluations"] == after["versions"][0]["evaluations"] == [recorded]
    assert (after["revision"], after["active"]["hash"]) == (before["revision"], before["active"]["hash"])
    listed = (await api.http.get(EVALUATIONS)).json()
    assert (listed["bundle"], listed["evaluations"]) == (after["active"]["hash"], [recorded])
    gone = await api.http.delete(f"{EVALUATIONS}/{recorded['id']}", params={"by": "bob"})
    assert gone.status_code == 204
    assert (await api.http.get(EVALUATIONS)).json()["evaluations"] == []
    again = await api.http.delete(f"{EVALUATIONS}/{recorded['id']}")
    assert (again.status_code, again.json()["type"]) == (404, "urn:glad:problem:unknown-evaluation")


async def test_who_recorded_and_removed_which_figures_stands_in_the_changes_and_can_be_undone(api: Running) -> None:
    revision = (await api.http.get(TOY)).json()["revision"]
    first = (await api.http.post(EVALUATIONS, json={**record_of(api), "by": "ann", "note": "new lamp"})).json()
    better = record_of(api, figures={"found": {"value": 0.9, "low": 0.8, "high": 0.95}})
    await api.http.post(EVALUATIONS, json={**better, "by": "bob"})
    await api.http.delete(f"{EVALUATIONS}/{first['id']}", params={"by": "cem"})
    listed = (await api.http.get(f"{TOY}/changes")).json()
    assert listed["revision"] == revision, "no verdict depends on it"
    removed, measured, recorded, first_active = listed["changes"]
    assert first_active["kind"] == "active"
    told = [(one["kind"], one["version"], one["revision"], one["by"], one["note"]) for one in listed["changes"][:3]]
    assert told == [
        ("evaluation", "1", None, "cem", ""),
        ("evaluation", "1", None, "bob", ""),
        ("evaluation", "1", None, "ann", "new lamp"),
    ]
    assert set(recorded["before"].values()) == set(removed["after"].values()) == {None}
    assert (recorded["after"]["evaluation"], recorded["after"]["data"]) == (first["id"], "plant")
    assert (recorded["after"]["image_auroc"], recorded["after"]["found"]) == (0.97, 0.81)
    assert recorded["at"] == first["at"]
    assert measured["before"] == recorded["after"]
    assert (measured["after"]["found"], measured["after"]["image_auroc"]) == (0.9, None)
    assert removed["before"] == measured["after"]
    assert [one["evaluation"] for one in (measured, recorded)] == [None, None]
    again = {name: removed["evaluation"][name] for name in ("bundle", "data", "figures", "measured")}
    assert (await api.http.post(EVALUATIONS, json=again)).status_code == 201
    latest, removed, *_ = (await api.http.get(f"{TOY}/changes")).json()["changes"]
    assert (latest["after"], removed["evaluation"]) == (measured["after"], None)


async def test_measuring_the_same_images_again_replaces_and_another_data_set_is_added(api: Running) -> None:
    for data, by in (("a", "ann"), ("b", "ann"), ("a", "bob")):
        await api.http.post(EVALUATIONS, json={**record_of(api, data=data), "by": by})
    listed = (await api.http.get(EVALUATIONS)).json()["evaluations"]
    assert {(one["data"]["name"], one["by"]) for one in listed} == {("a", "bob"), ("b", "ann")}


async def test_figures_of_another_bundle_or_without_sense_are_refused_and_say_which_field(api: Running) -> None:
    sound = record_of(api)
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"bundle": "0" * 64}, "bundle"),
        ({"figures": {}}, "figures"),
        ({"figures": {"pro": {"value": 2, "low": 0, "high": 1}}}, "figures.pro.value"),
        ({"data": {**sound["data"], "name": "a\u0000b"}}, "data.name"),
        ({"measured": {"at": "yesterday"}}, "measured.at"),
        ({"rows": []}, "rows"),
    )
    for change, field in wrong:
        answer = await api.http.post(EVALUATIONS, json={**sound, **change})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), change
    assert (await api.http.post(f"{TOY}/versions/9/evaluations", json=sound)).status_code == 404
    assert (await api.http.get("/v1/products/toi/versions/1/evaluations")).status_code == 404
    assert (await api.http.get(EVALUATIONS)).json()["evaluations"] == []


async def test_a_name_of_a_data_set_is_text_and_comes_back_as_it_was(api: Running) -> None:
    name = "<b>bold</b> \u2028 line"
    await api.http.post(EVALUATIONS, json=record_of(api, data=name))
    [found] = (await api.http.get(EVALUATIONS)).json()["evaluations"]
    assert found["data"]["name"] == name


async def test_recording_needs_admin_and_says_who_by_the_key(
    start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    write_toy(tmp_path / "store" / "toy" / "1")
    keys = KeyStore(client)
    reader, admin = keys.create("screen", [Scope.READ]), keys.create("quality", [Scope.ADMIN])
    running = await start_app(shared_redis.url, store=str(tmp_path / "store"), auth="keys")
    body = record_of(running)
    headers = {"Authorization": f"Bearer {reader}"}
    assert (await running.http.post(EVALUATIONS, json=body, headers=headers)).status_code == 403
    assert (await running.http.get(EVALUATIONS, headers=headers)).status_code == 200
    made = await running.http.post(EVALUATIONS, json=body, headers={"Authorization": f"Bearer {admin}"})
    assert (made.status_code, made.json()["by"]) == (201, "quality")
