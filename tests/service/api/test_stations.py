"""Stations: a camera knows one address; what its images are is set elsewhere, and every change is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from service.queue.jobs import JobQueue
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.line import make_job, picture, result_of
from tests.support.redis_server import RedisServer

URL = "/v1/stations/line-3"
SETTINGS = {"product": "toy", "lot": "L-1", "view": "top", "priority": "high", "deadline_ms": 5000, "by": "mes"}


@pytest.fixture
async def two_products(start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path) -> Running:
    """A service with products toy and other."""
    for product in ("toy", "other"):
        write_toy(tmp_path / "store" / product / "1")
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    return running


async def test_an_image_gets_what_the_station_is_set_to_unless_it_says_otherwise(api: Running) -> None:
    assert (await api.http.put(URL, json=SETTINGS)).status_code == 200
    shown = (await api.http.post(f"{URL}/inspections", content=picture())).json()
    names = ("product", "station", "lot", "view", "priority", "deadline_ms", "serial")
    assert [shown[name] for name in names] == ["toy", "line-3", "L-1", "top", "high", 5000, None]
    own = {"lot": "L-9", "priority": "normal", "serial": "SN-1", "station": "line-3"}
    shown = (await api.http.post(f"{URL}/inspections", params=own, content=picture())).json()
    assert [shown[name] for name in names] == ["toy", "line-3", "L-9", "top", "normal", 5000, "SN-1"]


async def test_a_changeover_changes_what_comes_after_it(two_products: Running) -> None:
    http = two_products.http
    await http.put(URL, json=SETTINGS)
    before = (await http.post(f"{URL}/inspections", content=picture())).json()
    await http.put(URL, json={"product": "other"})
    after = (await http.post(f"{URL}/inspections", content=picture())).json()
    assert (before["product"], before["lot"]) == ("toy", "L-1")
    assert (after["product"], after["lot"], after["priority"]) == ("other", None, "normal")
    assert (await http.get(f"/v1/inspections/{before['id']}")).json()["product"] == "toy"


async def test_a_retry_after_a_changeover_is_the_image_of_before(two_products: Running) -> None:
    http, image, headers = two_products.http, picture(), {"Idempotency-Key": "k"}
    await http.put(URL, json=SETTINGS)
    first = await http.post(f"{URL}/inspections", content=image, headers=headers)
    await http.put(URL, json={"product": "other"})
    again = await http.post(f"{URL}/inspections", content=image, headers=headers)
    assert again.json() == first.json()
    await http.put("/v1/stations/line-4", json={"product": "toy"})
    elsewhere = await http.post("/v1/stations/line-4/inspections", content=image, headers=headers)
    assert elsewhere.json()["id"] != first.json()["id"]
    other = await http.post(f"{URL}/inspections", content=picture(9, 9), headers=headers)
    assert other.status_code == 409


async def test_every_change_is_kept_with_its_time_and_who_made_it(api: Running) -> None:
    await api.http.put(URL, json=SETTINGS)
    put = await api.http.put(URL, json={"product": "toy", "expected_views": ["top", "bottom"]})
    assert (await api.http.delete(URL, params={"by": "a.meier"})).status_code == 204
    assert (await api.http.get(URL)).json()["type"] == "urn:glad:problem:unknown-station"
    await api.http.put(URL, json=SETTINGS)
    shown = (await api.http.get(URL)).json()
    assert (shown["product"], shown["lot"], shown["changed_by"]) == ("toy", "L-1", "mes")
    changes = shown["changes"]
    assert [(one["by"], one["settings"] and one["settings"]["expected_views"]) for one in changes] == [
        ("mes", []),
        ("a.meier", None),
        ("anybody", ["top", "bottom"]),
        ("mes", []),
    ]
    times = [one["at"] for one in changes]
    assert times == sorted(times, reverse=True)
    assert put.json()["changed_at"] == times[2]


async def test_the_list_shows_what_is_set(api: Running) -> None:
    for name in ("b", "a", "gone"):
        await api.http.put(f"/v1/stations/{name}", json={"product": "toy"})
    await api.http.delete("/v1/stations/gone")
    listed = (await api.http.get("/v1/stations")).json()["stations"]
    assert [one["station"] for one in listed] == ["a", "b"]


async def test_a_station_that_is_not_set_takes_nothing(api: Running) -> None:
    for answer in (
        await api.http.post(f"{URL}/inspections", content=picture()),
        await api.http.get(URL),
        await api.http.delete(URL),
    ):
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:glad:problem:unknown-station")
    assert api.stored() == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"product": "toi"}),
        (422, {}),
        (422, {"product": "../etc"}),
        (422, {"product": "toy", "priority": "urgent"}),
        (422, {"product": "toy", "deadline_ms": 0}),
        (422, {"product": "toy", "lott": "L-1"}),
        (422, {"product": "toy", "expected_views": ["v"] * 33}),
    ],
)
async def test_settings_that_would_refuse_every_image_are_refused(
    api: Running, status: int, body: dict[str, Any]
) -> None:
    assert (await api.http.put(URL, json=body)).status_code == status
    assert (await api.http.get(URL)).status_code == 404


async def test_an_image_that_names_another_station_is_refused(api: Running) -> None:
    await api.http.put(URL, json=SETTINGS)
    answer = await api.http.post(f"{URL}/inspections", params={"station": "line-4"}, content=picture())
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "station")


async def test_a_part_without_an_expected_view_is_for_review_also_after_a_changeover(
    two_products: Running, client: redis.Redis
) -> None:
    http, queue = two_products.http, JobQueue(client)

    async def inspect(view: str) -> None:
        params = {"serial": "SN-1", "view": view}
        await http.post(f"{URL}/inspections", params=params, content=picture())
        [claimed] = queue.claim(1)
        queue.complete(claimed, result_of(claimed, 0.1))

    await http.put(URL, json={"product": "toy", "expected_views": ["top", "bottom"]})
    await asyncio.sleep(0.005)
    await inspect("top")
    part = (await http.get("/v1/parts/SN-1")).json()
    assert (part["verdict"], part["finished"]) == ("review", True)
    assert [(one["view"], one["reason"]) for one in part["views"]] == [("bottom", "missing"), ("top", "score")]
    await asyncio.sleep(0.005)
    await http.put(URL, json={"product": "other"})
    assert (await http.get("/v1/parts/SN-1")).json() == part
    await http.put(URL, json={"product": "toy", "expected_views": ["top", "bottom"]})
    await asyncio.sleep(0.005)
    await inspect("bottom")
    assert (await http.get("/v1/parts/SN-1")).json()["verdict"] == "pass"


async def test_nothing_passes_that_names_a_station_on_hold_whatever_its_address(
    api: Running, make_queue: Callable[..., JobQueue]
) -> None:
    """Toy's thresholds are 0.5 and 1: 0.25 would pass, 1.5 fails on hold too."""
    held = {"product": "toy", "hold": "images are blurred"}
    assert (await api.http.put(URL, json=held)).json()["hold"] == "images are blurred"
    here, there = f"{URL}/inspections", "/v1/products/toy/inspections"
    verdicts = []
    for url, params, score in (
        (here, {}, 0.25),
        (here, {}, 1.5),
        (there, {"station": "line-3"}, 0.25),
        (there, {"station": "line-4"}, 0.25),
        (there, {}, 0.25),
    ):
        sent = (await api.http.post(url, params=params, content=picture())).json()
        [claimed] = make_queue().claim(1)
        make_queue().complete(claimed, result_of(claimed, score))
        shown = (await api.http.get(f"/v1/inspections/{sent['id']}")).json()
        verdicts.append((shown["verdict"], shown["hold"]))
    why = "images are blurred"
    assert verdicts == [("review", why), ("fail", why), ("review", why), ("pass", None), ("pass", None)]


async def test_a_part_with_an_image_of_a_station_on_hold_says_so_with_the_reason(
    api: Running, make_queue: Callable[..., JobQueue]
) -> None:
    for view, score, held in (("top", 0.25, "lens is dirty"), ("side", 1.5, "lens is dirty"), ("back", 0.25, None)):
        await api.http.put(URL, json={"product": "toy", "hold": held})
        await api.http.post(f"{URL}/inspections", params={"serial": "SN-1", "view": view}, content=picture())
        [claimed] = make_queue().claim(1)
        make_queue().complete(claimed, result_of(claimed, score))
    views = (await api.http.get("/v1/parts/SN-1")).json()["views"]
    assert {one["view"]: (one["verdict"], one["reason"], one["hold"]) for one in views} == {
        "top": ("review", "hold", "lens is dirty"),
        "side": ("fail", "score", "lens is dirty"),
        "back": ("pass", "score", None),
    }


async def test_a_changeover_does_not_lift_a_hold_and_null_does(api: Running) -> None:
    await api.http.put(URL, json=SETTINGS | {"hold": "lens is dirty"})
    await api.http.put(URL, json=SETTINGS | {"lot": "L-2"})
    shown = (await api.http.get(URL)).json()
    assert (shown["lot"], shown["hold"]) == ("L-2", "lens is dirty")
    await api.http.put(URL, json=SETTINGS | {"hold": None})
    assert (await api.http.get(URL)).json()["hold"] is None
    assert [one["settings"]["hold"] for one in (await api.http.get(URL)).json()["changes"]] == [
        None,
        "lens is dirty",
        "lens is dirty",
    ]


def test_a_worker_of_an_older_version_lets_nothing_pass_on_hold_either() -> None:
    """It knows the thresholds that are pinned to the job, and no hold."""
    limits = make_job().thresholds.on_hold
    assert [limits.verdict(score) for score in (-1e-9, 0.0, 0.999, 1.0)] == ["review", "review", "review", "fail"]
