"""Changing what decides: verified, recorded, seen by what comes after, and previewed on what was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from model_store.product_state import STATE_NAME
from model_store.store import SHIPPED_BUNDLES
from service.queue.jobs import JobQueue
from service.queue.recent import RecentInspections
from service.queue.submitter import JobSubmitter
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
    """A service whose store may be changed: product toy, and versions 7 (shipped) and 8 of bracket."""
    store = tmp_path / "store"
    write_toy(store / "toy" / "1")
    new_version(SHIPPED_BUNDLES / "bracket" / "7", store / "bracket" / "8")
    running: Running = await start_app(shared_redis.url, store=str(store))
    return running


async def test_what_is_active_when_the_api_starts_stays_active_though_nothing_was_inspected(
    changing: Running, tmp_path: Path
) -> None:
    store = tmp_path / "store" / "bracket"
    async with asyncio.timeout(30):
        while not (store / STATE_NAME).exists():
            await asyncio.sleep(0.02)
    new_version(store / "8", store / "9", created_at=datetime(2100, 1, 1, tzinfo=UTC))
    shown = (await changing.http.get("/v1/products/bracket")).json()
    assert (shown["active"]["version"], [one["version"] for one in shown["versions"]]) == ("8", ["9", "8", "7"])
    accepted = await changing.http.post("/v1/products/bracket/inspections", content=picture())
    assert accepted.json()["bundle"]["version"] == "8"


async def test_an_activated_version_inspects_what_comes_after(changing: Running) -> None:
    http = changing.http
    for version in ("7", "8"):
        answer = await http.put(ACTIVE, json={"version": version, "by": "ann", "note": "try"})
        assert (answer.status_code, answer.json()["active"]) == (200, version)
        shown = (await http.post("/v1/products/bracket/inspections", content=picture())).json()
        assert shown["bundle"]["version"] == version
        assert (await http.get("/v1/products/bracket")).json()["active"]["version"] == version
    last = answer.json()["history"][-1]
    assert (last["version"], last["kind"], last["by"], last["note"]) == ("8", "activate", "ann", "try")


async def test_a_rollback_goes_to_the_version_before(changing: Running) -> None:
    for version in ("7", "8"):
        await changing.http.put(ACTIVE, json={"version": version})
    back = await changing.http.put(ACTIVE, json={"roll_back": True})
    assert (back.status_code, back.json()["active"]) == (200, "7")
    assert [(one["kind"], one["by"]) for one in back.json()["history"]][-1] == ("rollback", "anybody")


async def test_what_cannot_be_activated_says_why_and_changes_nothing(changing: Running, tmp_path: Path) -> None:
    http = changing.http
    await http.put(ACTIVE, json={"version": "7"})
    weights = next((tmp_path / "store" / "bracket" / "8").rglob("*.safetensors"))
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        (ACTIVE, {"version": "9"}, 404, "unknown-version"),
        (ACTIVE, {"version": "8"}, 409, "version-unusable"),
        (ACTIVE, {}, 422, "invalid-fields"),
        (ACTIVE, {"version": "7", "roll_back": True}, 422, "invalid-fields"),
        ("/v1/products/toi/active", {"version": "1"}, 404, "unknown-product"),
        ("/v1/products/toy/active", {"roll_back": True}, 409, "version-unusable"),
    ]
    for url, body, status, slug in cases:
        answer = await http.put(url, json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:glad:problem:{slug}"), body
        assert str(tmp_path) not in answer.text
    assert (await http.get("/v1/products/bracket")).json()["active"]["version"] == "7"


async def test_a_preview_counts_the_verdicts_that_would_change_and_changes_nothing(
    changing: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue, ids = make_queue(), []
    active = changing.services.store.resolve("toy")
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
    assert changing.services.store.state("toy").revision == 0


async def test_a_preview_looks_no_further_back_than_it_says(
    changing: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue, active = make_queue(), changing.services.store.resolve("toy")
    for hash_ in (active.hash, active.hash, "ab" * 32, "ab" * 32, "ab" * 32):  # another version's came last
        await submitter.submit(make_job(bundle_hash=hash_))
        [claimed] = queue.claim(1)
        queue.complete(claimed, result_of(claimed, 0.45))
    found = []
    for looked_at in (3, 4, 100):
        recent = RecentInspections(changing.services.history)
        found.append(await recent.read("toy", active.hash, lambda _: True, 10, max_read=looked_at))
    assert [len(one) for one in found] == [0, 1, 2]


async def test_changed_thresholds_hold_for_what_comes_after_and_can_be_restored(
    changing: Running, client: redis.Redis
) -> None:
    http = changing.http
    before = (await http.post("/v1/products/toy/inspections", content=picture())).json()
    changed = await http.patch(THRESHOLDS, json={"fail": 2.0, "by": "ann"})
    assert changed.json()["applied"] is True
    after = (await http.post("/v1/products/toy/inspections", content=picture())).json()
    assert (before["thresholds"]["fail"], after["thresholds"]["fail"]) == (1.0, 2.0)
    assert changing.services.store.state("toy").changed_by == "ann"
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
    assert changing.services.store.state("toy").revision == 0


async def test_changes_at_once_follow_one_another_or_are_refused(changing: Running) -> None:
    bodies = [{"review": 0.1 + number / 100} if number % 2 else {"fail": 1.1 + number / 100} for number in range(12)]
    answers = await asyncio.gather(*(changing.http.patch(THRESHOLDS, json=body) for body in bodies))
    assert {answer.status_code for answer in answers} <= {200, 409}
    applied = sorted((one.json() for one in answers if one.status_code == 200), key=lambda one: int(one["revision"]))
    assert [one["revision"] for one in applied] == list(range(1, len(applied) + 1))
    for earlier, later in pairwise(applied):
        assert later["before"] == earlier["after"]
    assert changing.services.store.state("toy").revision == len(applied) > 0
    shown = (await changing.http.get("/v1/products/toy")).json()
    assert shown["active"]["thresholds"] == applied[-1]["after"]


async def test_if_match_keeps_a_change_that_was_not_seen_from_being_overwritten(changing: Running) -> None:
    http = changing.http
    seen = (await http.get("/v1/products/toy")).headers["etag"]
    assert seen == '"0"'
    mine = await http.patch(THRESHOLDS, json={"fail": 2.0, "by": "ann"}, headers={"If-Match": seen})
    assert (mine.status_code, mine.headers["etag"], mine.json()["revision"]) == (200, '"1"', 1)
    for preview in (True, False):
        theirs = await http.patch(
            THRESHOLDS, json={"fail": 3.0}, headers={"If-Match": seen}, params={"preview": preview}
        )
        assert (theirs.status_code, theirs.json()["type"]) == (412, "urn:glad:problem:precondition-failed")
        assert "revision 1, changed by ann" in theirs.json()["detail"]
    shown = await http.get("/v1/products/toy")
    assert shown.json()["active"]["thresholds"]["fail"] == 2.0
    again = await http.patch(THRESHOLDS, json={"fail": 3.0}, headers={"If-Match": shown.headers["etag"]})
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')


async def test_if_match_holds_for_activation_too(changing: Running) -> None:
    http = changing.http
    first = await http.put(ACTIVE, json={"version": "7"}, headers={"If-Match": '"0"'})
    assert (first.status_code, first.headers["etag"], first.json()["revision"]) == (200, '"1"', 1)
    for body in ({"version": "8"}, {"roll_back": True}):
        assert (await http.put(ACTIVE, json=body, headers={"If-Match": '"0"'})).status_code == 412
    assert (await http.get("/v1/products/bracket")).json()["active"]["version"] == "7"
    assert (await http.put(ACTIVE, json={"version": "8"}, headers={"If-Match": '"1"'})).status_code == 200


@pytest.mark.parametrize(
    ("if_match", "status"),
    [("*", 200), ('"8", "0"', 200), ('W/"0"', 412), ("0", 412), ('"none"', 412), ("", 412)],
)
async def test_what_if_match_may_say(changing: Running, if_match: str, status: int) -> None:
    answer = await changing.http.patch(THRESHOLDS, json={"fail": 2.0}, headers={"If-Match": if_match})
    assert answer.status_code == status
