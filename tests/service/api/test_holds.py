"""Holding and releasing a station, and its takt: by a call of their own, in force at once, told to all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis

from service.api.routes.parts import part_verdict
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.contract import Result, now, overtime_result, waiting_result
from service.queue.jobs import JobQueue
from tests.service.conftest import Running
from tests.service.queue.test_takt import kinds, told
from tests.support.line import make_job, picture, result_of
from tests.support.processes import eventually

URL = "/v1/stations/line-3"
SETTINGS = {"product": "toy", "lot": "L-1", "takt_ms": 600_000}


async def test_a_hold_is_set_changed_and_lifted_and_nothing_else_changes(api: Running, client: redis.Redis) -> None:
    before = (await api.http.put(URL, json=SETTINGS)).json()
    for reason in ("lens is dirty", "lens is broken"):
        held = await api.http.put(f"{URL}/hold", json={"reason": reason, "by": "a.meier"})
        assert held.status_code == 200
        assert held.json() == before | {
            "hold": reason,
            "changed_by": "a.meier",
            "changed_at": held.json()["changed_at"],
            "held_by": "a.meier",
            "held_at": held.json()["changed_at"],
        }
    released = await api.http.delete(f"{URL}/hold", params={"by": "b.huber"})
    assert (released.json()["hold"], released.json()["changed_by"]) == (None, "b.huber")
    again = await api.http.delete(f"{URL}/hold", params={"by": "c"})
    assert again.json() == released.json()  # nothing to lift: no change
    assert [(one["type"], one.get("reason"), one["by"]) for one in told(client)] == [
        ("station.held", "lens is dirty", "a.meier"),
        ("station.held", "lens is broken", "a.meier"),
        ("station.released", "lens is broken", "b.huber"),
    ]
    assert len((await api.http.get(URL)).json()["changes"]) == 4


async def test_a_changeover_that_sets_or_lifts_a_hold_is_told_too(api: Running, client: redis.Redis) -> None:
    for settings in (SETTINGS, SETTINGS | {"hold": "x"}, SETTINGS | {"lot": "L-2"}, SETTINGS | {"hold": None}):
        await api.http.put(URL, json=settings)
    assert kinds(client) == ["station.held", "station.released"]


async def test_who_held_a_station_and_since_when_is_said_after_a_changeover_too(api: Running) -> None:
    await api.http.put(URL, json=SETTINGS)
    held = (await api.http.put(f"{URL}/hold", json={"reason": "x", "by": "a.meier"})).json()
    later = (await api.http.put(URL, json=SETTINGS | {"lot": "L-2", "by": "mes"})).json()
    assert (later["held_by"], later["held_at"], later["changed_by"]) == ("a.meier", held["changed_at"], "mes")
    assert (await api.http.delete(f"{URL}/hold")).json()["held_at"] is None


async def test_a_hold_that_comes_during_changeovers_is_never_lost(api: Running) -> None:
    await api.http.put(URL, json=SETTINGS)
    changeovers = [api.http.put(URL, json={"product": "toy", "lot": f"L-{number}"}) for number in range(20)]
    answers = await asyncio.gather(
        *changeovers[:10], api.http.put(f"{URL}/hold", json={"reason": "x"}), *changeovers[10:]
    )
    assert {answer.status_code for answer in answers} == {200}
    found = (await api.http.get(URL)).json()
    assert (found["hold"], found["takt_ms"], len(found["changes"])) == ("x", 600_000, 22)


async def test_only_a_station_that_is_set_can_be_held(api: Running) -> None:
    assert (await api.http.put(f"{URL}/hold", json={"reason": "x"})).status_code == 404
    assert (await api.http.delete(f"{URL}/hold")).status_code == 404
    await api.http.put(URL, json=SETTINGS)
    for body in ({}, {"reason": ""}, {"reason": "a\nb"}, {"reason": "x" * 129}, {"reason": "x", "until": 1}):
        assert (await api.http.put(f"{URL}/hold", json=body)).status_code == 422


@pytest.mark.usefixtures("keys_read_at_once")
async def test_who_reviews_may_hold_and_release_but_not_change_the_rest(api: Running, client: redis.Redis) -> None:
    store = KeyStore(client)
    admin, reviewer, reader = (
        {"X-API-Key": store.create(scope.value, [scope])} for scope in (Scope.ADMIN, Scope.REVIEW, Scope.READ)
    )
    await api.http.put(URL, json=SETTINGS, headers=admin)
    assert (await api.http.put(f"{URL}/hold", json={"reason": "x"}, headers=reader)).status_code == 403
    assert (await api.http.put(f"{URL}/hold", json={"reason": "x"}, headers=reviewer)).json()["changed_by"] == "review"
    assert (await api.http.put(URL, json=SETTINGS, headers=reviewer)).status_code == 403
    assert (await api.http.delete(f"{URL}/hold", headers=reviewer)).status_code == 200


@pytest.mark.parametrize("name", ["line/hold", "a/limit-samples/b", "line/hold/inspections"])
async def test_a_name_that_would_be_the_address_of_another_call_is_refused(api: Running, name: str) -> None:
    answer = await api.http.post("/v1/products/toy/inspections", params={"station": name}, content=picture())
    assert answer.status_code == 422


async def test_the_takt_of_a_station_is_pinned_to_its_images_and_told_by_the_service_itself(
    api: Running, client: redis.Redis, make_queue: Callable[..., JobQueue]
) -> None:
    assert (await api.http.put(URL, json={"product": "toy", "takt_ms": 0})).status_code == 422
    await api.http.put(URL, json={"product": "toy", "takt_ms": 1})
    await api.http.put(URL, json={"product": "toy", "lot": "L-2"})  # a changeover leaves it
    shown = (await api.http.post(f"{URL}/inspections", params={"serial": "SN-1"}, content=picture())).json()
    assert shown["overtime"] is False
    await asyncio.to_thread(eventually, lambda: kinds(client) == ["inspection.overtime"])
    part = (await api.http.get("/v1/parts/SN-1")).json()
    assert (part["verdict"], part["finished"]) == ("review", False)
    assert [(view["verdict"], view["reason"], view["state"]) for view in part["views"]] == [
        ("review", "overtime", "queued")
    ]
    queue = make_queue()
    [claimed] = await asyncio.to_thread(queue.claim, 1)
    await asyncio.to_thread(queue.complete, claimed, result_of(claimed, 0.25))
    part = (await api.http.get("/v1/parts/SN-1")).json()
    assert (part["verdict"], part["finished"], part["views"][0]["reason"]) == ("review", True, "overtime")
    await api.http.put(URL, json={"product": "toy", "takt_ms": None})
    shown = (await api.http.post(f"{URL}/inspections", content=picture())).json()
    assert shown["overtime"] is None


def test_what_would_be_for_review_in_time_is_so_by_its_score() -> None:
    job = make_job(takt_ms=1, accepted_at=now() - timedelta(seconds=1), view="top", serial="SN-1")

    def reason(result: Result) -> Any:
        return part_verdict("SN-1", [result], ()).views[0].reason

    def ended(score: float) -> Result:
        class Claim:
            started_at, attempt = now(), 1

        claim: Any = Claim()
        claim.job = job
        return overtime_result(result_of(claim, score))

    assert [reason(ended(score)) for score in (0.25, 0.7, 1.5)] == ["overtime", "score", "score"]  # limits: 0.5 and 1
    assert reason(waiting_result(job)) == "unfinished"
