"""Changing what decides: verified, recorded, seen by what comes after, and previewed on what was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from model_store.store import SHIPPED_BUNDLES
from service.queue.jobs import JobQueue
from service.queue.submission import JobSubmitter
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.bundles import new_version
from tests.support.line import make_job, picture, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
ACTIVE = "/v1/products/bracket/active"
THRESHOLDS = "/v1/products/toy/thresholds"
CALIBRATED = {"review": 0.5, "fail": 1.0, "pixel": 1.0}  # of write_toy


@pytest.fixture
async def changing(start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path) -> Running:
    """A service whose store may be changed: product toy, and versions 3 (shipped) and 4 of bracket."""
    store = tmp_path / "store"
    write_toy(store / "toy" / "1")
    new_version(SHIPPED_BUNDLES / "bracket" / "3", store / "bracket" / "4")
    running: Running = await start_app(shared_redis.url, store=str(store))
    return running


async def test_an_activated_version_inspects_what_comes_after(changing: Running) -> None:
    http = changing.http
    for version in ("3", "4"):
        answer = await http.put(ACTIVE, json={"version": version, "by": "ann", "note": "try"})
        assert (answer.status_code, answer.json()["active"]) == (200, version)
        shown = (await http.post("/v1/products/bracket/inspections", content=picture())).json()
        assert shown["bundle"]["version"] == version
        assert (await http.get("/v1/products/bracket")).json()["active"]["version"] == version
    last = answer.json()["history"][-1]
    assert (last["version"], last["kind"], last["by"], last["note"]) == ("4", "activate", "ann", "try")


async def test_a_rollback_goes_to_the_version_before(changing: Running) -> None:
    for version in ("3", "4"):
        await changing.http.put(ACTIVE, json={"version": version})
    back = await changing.http.put(ACTIVE, json={"roll_back": True})
    assert (back.status_code, back.json()["active"]) == (200, "3")
    assert [(one["kind"], one["by"]) for one in back.json()["history"]][-1] == ("rollback", "anybody")


async def test_what_cannot_be_activated_says_why_and_changes_nothing(changing: Running, tmp_path: Path) -> None:
    http = changing.http
    await http.put(ACTIVE, json={"version": "3"})
    weights = next((tmp_path / "store" / "bracket" / "4").rglob("*.safetensors"))
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        (ACTIVE, {"version": "9"}, 404, "unknown-version"),
        (ACTIVE, {"version": "4"}, 409, "version-unusable"),
        (ACTIVE, {}, 422, "invalid-fields"),
        (ACTIVE, {"version": "3", "roll_back": True}, 422, "invalid-fields"),
        ("/v1/products/toi/active", {"version": "1"}, 404, "unknown-product"),
        ("/v1/products/toy/active", {"roll_back": True}, 409, "version-unusable"),
    ]
    for url, body, status, slug in cases:
        answer = await http.put(url, json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:glad:problem:{slug}"), body
        assert str(tmp_path) not in answer.text
    assert (await http.get("/v1/products/bracket")).json()["active"]["version"] == "3"


async def test_a_preview_counts_the_verdicts_that_would_change_and_changes_nothing(
    changing: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue, ids = make_queue(), []
    active = changing.site.store.resolve("toy")
    for score in (0.1, 0.45, 0.6, 0.9, 1.2):
        job = make_job(bundle_hash=active.hash)
        await submitter.submit(job)
        [claimed] = queue.claim(1)
        queue.complete(claimed, result_of(claimed, score))
        ids.append(job.id)
    await submitter.submit(make_job())  # another bundle's score is on another scale
    [other] = queue.claim(1)
    queue.complete(other, result_of(other, 0.45))
    answer = await changing.http.patch(THRESHOLDS, params={"preview": True}, json={"review": 0.4, "fail": 0.8})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["applied"], shown["before"], shown["calibrated"]) == (False, CALIBRATED, CALIBRATED)
    assert shown["after"] == {"review": 0.4, "fail": 0.8, "pixel": 1.0}
    # 0.1 pass, 0.45 pass -> review, 0.6 review, 0.9 review -> fail, 1.2 fail
    assert (shown["effect"]["compared"], shown["effect"]["changed"]) == (5, 2)
    assert shown["effect"]["changes"] == [
        {"before": "pass", "after": "review", "count": 1},
        {"before": "review", "after": "fail", "count": 1},
    ]
    assert shown["effect"]["examples"] == [ids[3], ids[1]]  # the latest first
    few = await changing.http.patch(THRESHOLDS, params={"preview": True, "last": 2}, json={"review": 0.4, "fail": 0.8})
    assert (few.json()["effect"]["compared"], few.json()["effect"]["changed"]) == (2, 1)
    assert (await changing.http.get("/v1/products/toy")).json()["active"]["thresholds"] == CALIBRATED
    assert changing.site.store.state("toy").revision == 0


async def test_changed_thresholds_hold_for_what_comes_after_and_can_be_restored(
    changing: Running, client: redis.Redis
) -> None:
    http = changing.http
    before = (await http.post("/v1/products/toy/inspections", content=picture())).json()
    changed = await http.patch(THRESHOLDS, json={"fail": 2.0, "by": "ann"})
    assert changed.json()["applied"] is True
    after = (await http.post("/v1/products/toy/inspections", content=picture())).json()
    assert (before["thresholds"]["fail"], after["thresholds"]["fail"]) == (1.0, 2.0)
    assert changing.site.store.state("toy").changed_by == "ann"
    both = await http.patch(THRESHOLDS, json={"review": 0.7})
    assert both.json()["after"] == {"review": 0.7, "fail": 2.0, "pixel": 1.0}  # what is left out stays
    restored = await http.patch(THRESHOLDS, json={"review": None, "fail": None})
    assert (restored.json()["before"]["fail"], restored.json()["after"]) == (2.0, CALIBRATED)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"review": 1.5}, 422),  # above fail
        ({"fail": 0}, 422),
        ({"failure": 1}, 422),
        ({"fail": "high"}, 422),
        ({"fail": 2, "version": "9"}, 404),
    ],
)
async def test_thresholds_that_make_no_sense_are_refused(changing: Running, body: dict[str, Any], status: int) -> None:
    for preview in (True, False):
        answer = await changing.http.patch(THRESHOLDS, params={"preview": preview}, json=body)
        assert answer.status_code == status
    assert changing.site.store.state("toy").revision == 0
