"""Limit samples: known parts shown to the camera; a wrong verdict holds the station; each image is judged once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.contract import Failure
from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.limit_samples import LimitSamples
from service.queue.stations import Stations
from tests.service.conftest import Running
from tests.service.queue.test_takt import kinds, told
from tests.support.line import picture, result_of

URL = "/v1/stations/line-3"
SAMPLES = f"{URL}/limit-samples"
CHECK = f"{SAMPLES}/check"
PLAN = {
    "samples": [{"serial": "GOOD-1", "expected": "good"}, {"serial": "BAD-1", "expected": "bad", "note": "scratch"}],
    "by": "a.meier",
}
PASS, FAIL = 0.25, 1.5
"""Scores: toy is for review from 0.5 and fails from 1."""

Show = Callable[..., Awaitable[str]]


@pytest.fixture
async def line(api: Running) -> Running:
    """A service with a station that has limit samples."""
    await api.http.put(URL, json={"product": "toy"})
    assert (await api.http.put(SAMPLES, json=PLAN)).status_code == 200
    return api


@pytest.fixture
def show(line: Running, make_queue: Callable[..., JobQueue]) -> Show:
    """Shows a part to the camera and inspects it with this score (None: in vain); returns the inspection's id."""
    queue = make_queue()

    async def shown(serial: str, score: float | None, **fields: str) -> str:
        posted = await line.http.post(f"{URL}/inspections", params={"serial": serial, **fields}, content=picture())
        assert posted.status_code == 202, posted.text
        [claimed] = await asyncio.to_thread(queue.claim, 1)
        if score is None:
            await asyncio.to_thread(queue.fail, claimed, Failure(code="model_error", detail="x"))
        else:
            await asyncio.to_thread(queue.complete, claimed, result_of(claimed, score))
        return str(posted.json()["id"])

    return shown


async def judged(line: Running, client: redis.Redis) -> dict[str, Any]:
    """The samples and the check, once every image that has ended is judged."""
    while client.zcard(keys.LIMIT_ENDED):
        await asyncio.sleep(0.02)
    found: dict[str, Any] = (await line.http.get(SAMPLES)).json()
    return found


async def test_a_check_passes_once_every_sample_has_its_verdict(line: Running, show: Show, client: redis.Redis) -> None:
    started = (await line.http.post(CHECK, json={"by": "b.huber"})).json()["check"]
    assert (started["state"], started["by"]) == ("running", "b.huber")
    assert [(one["serial"], one["verdict"], one["ok"]) for one in started["samples"]] == [
        ("GOOD-1", None, None),
        ("BAD-1", None, None),
    ]
    bad = await show("BAD-1", FAIL)
    check = (await judged(line, client))["check"]
    assert (check["state"], check["samples"][1]["inspection_id"], check["samples"][1]["ok"]) == ("running", bad, True)
    await show("SN-7", PASS)  # a part in between is no sample
    await show("GOOD-1", PASS)
    found = await judged(line, client)
    assert (found["check"]["state"], [one["ok"] for one in found["check"]["samples"]]) == ("passed", [True, True])
    assert found["check"]["ended_at"] >= found["check"]["started_at"]
    assert kinds(client) == ["inspection.done"] * 3 + ["limit_samples.passed"]
    assert told(client)[-1]["station"] == "line-3"
    assert (await line.http.get(URL)).json()["hold"] is None


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (PASS, "limit sample BAD-1 (bad) was pass"),
        (0.7, "limit sample BAD-1 (bad) was review"),
        (0.7, "limit sample GOOD-1 (good) was review"),
        (FAIL, "limit sample GOOD-1 (good) was fail"),
    ],
)
async def test_the_first_wrong_verdict_holds_the_station_until_somebody_releases_it(
    line: Running, show: Show, client: redis.Redis, score: float, reason: str
) -> None:
    await line.http.post(CHECK, json={"by": "b.huber"})
    await show(reason.split()[2], score)
    assert (await judged(line, client))["check"]["state"] == "failed"
    station = (await line.http.get(URL)).json()
    assert (station["hold"], station["changed_by"]) == (reason, "b.huber")
    _, _, serial, kind, _, verdict = reason.split()
    sample = {"serial": serial, "expected": kind.strip("()"), "verdict": verdict}  # for who says it in another language
    assert station["held_sample"] == sample
    assert [(one["type"], one["reason"], one["hold_sample"]) for one in told(client)[1:]] == [
        ("limit_samples.failed", reason, sample),
        ("station.held", reason, sample),
    ]
    await line.http.put(URL, json={"product": "toy", "lot": "L-8", "by": "mes"})  # a changeover lifts no hold
    held = await show("SN-7", PASS)
    assert (await line.http.get(f"/v1/inspections/{held}")).json()["hold_sample"] == sample
    assert told(client)[-1]["hold_sample"] == sample
    [part] = (await line.http.get("/v1/parts/SN-7")).json()["views"]
    assert (part["verdict"], part["reason"], part["hold"]) == ("review", "hold", reason)
    await line.http.delete(f"{URL}/hold", params={"by": "a.meier"})
    station = (await line.http.get(URL)).json()
    assert (station["hold"], station["held_sample"]) == (None, None)
    await line.http.put(f"{URL}/hold", json={"reason": reason})  # a person's words, though they are the same
    assert (await line.http.get(URL)).json()["held_sample"] is None
    assert (await line.http.post(CHECK)).json()["earlier"][0]["state"] == "failed"


async def failed(line: Running, show: Show, client: redis.Redis) -> dict[str, Any]:
    """The station after a check that a bad sample has failed by passing."""
    await line.http.post(CHECK, json={"by": "b.huber"})
    await show("BAD-1", PASS)
    assert (await judged(line, client))["check"]["state"] == "failed"
    return dict((await line.http.get(URL)).json())


async def release(line: Running, **query: str) -> dict[str, Any]:
    """The station after somebody has released it."""
    answer = await line.http.delete(f"{URL}/hold", params={"by": "c.novak", **query})
    assert answer.status_code == 200
    return dict(answer.json())


REASON = "limit sample BAD-1 (bad) was pass"


async def test_a_failed_check_keeps_a_persons_hold_and_each_is_released_by_itself(
    line: Running, show: Show, client: redis.Redis
) -> None:
    held = (await line.http.put(f"{URL}/hold", json={"reason": "lens is dirty", "by": "a.meier"})).json()
    station = await failed(line, show, client)
    front = {name: held[name] for name in ("hold", "held_by", "held_at", "held_sample")}
    assert {name: station[name] for name in front} == front == front | {"hold": "lens is dirty", "held_by": "a.meier"}
    sample = {"serial": "BAD-1", "expected": "bad", "verdict": "pass"}
    behind = station["check_hold"]
    assert behind == {"reason": REASON, "sample": sample, "at": station["changed_at"], "by": "b.huber"}
    assert kinds(client)[-1] == "limit_samples.failed"
    assert (told(client)[-1]["reason"], told(client)[-1]["hold_sample"]) == (REASON, sample)
    later = (await line.http.put(URL, json={"product": "toy", "lot": "L-8", "by": "mes"})).json()
    assert (later["hold"], later["check_hold"]) == ("lens is dirty", behind)  # a changeover lifts neither
    assert (await line.http.get(f"/v1/inspections/{await show('SN-7', PASS)}")).json()["hold"] == "lens is dirty"

    station = await release(line)
    assert (station["hold"], station["held_sample"], station["held_by"]) == (REASON, sample, "b.huber")
    assert (station["held_at"], station["check_hold"]) == (behind["at"], None)
    assert (told(client)[-1]["type"], told(client)[-1]["reason"]) == ("station.held", REASON)
    # A second call for the same hold, of another person or because an answer was lost, lifts nothing.
    assert (await release(line, reason="lens is dirty")) == station
    assert (await line.http.get(f"/v1/inspections/{await show('SN-8', PASS)}")).json()["verdict"] == "review"
    station = await release(line, reason=REASON)
    assert (station["hold"], station["held_sample"], station["check_hold"]) == (None, None, None)
    assert kinds(client)[-1] == "station.released"


async def test_a_person_who_gives_another_reason_lifts_no_failed_check(
    line: Running, show: Show, client: redis.Redis
) -> None:
    station = await failed(line, show, client)
    held = (await line.http.put(f"{URL}/hold", json={"reason": "lens is being cleaned", "by": "a.meier"})).json()
    assert (held["hold"], held["held_by"], held["held_sample"]) == ("lens is being cleaned", "a.meier", None)
    assert (held["check_hold"]["reason"], held["check_hold"]["at"]) == (REASON, station["held_at"])
    await line.http.post(CHECK, json={"by": "b.huber"})
    await show("GOOD-1", FAIL)  # checked again before it is released, in vain: the last check is what counts
    await judged(line, client)
    behind = (await line.http.get(URL)).json()["check_hold"]
    assert behind["reason"] == "limit sample GOOD-1 (good) was fail"
    lifted = (await line.http.put(URL, json={"product": "toy", "hold": None})).json()
    assert (lifted["hold"], lifted["held_at"]) == (behind["reason"], behind["at"])  # as by DELETE: one at a time
    assert (await release(line))["hold"] is None


async def test_a_station_on_hold_can_be_checked_before_it_is_released(
    line: Running, show: Show, client: redis.Redis
) -> None:
    """Hold and takt do not change what a sample's image is by itself."""
    await line.http.put(URL, json={"product": "toy", "hold": "lens is dirty", "takt_ms": 1})
    await line.http.post(CHECK)
    good = await show("GOOD-1", PASS)
    await show("BAD-1", FAIL)
    assert (await judged(line, client))["check"]["state"] == "passed"
    shown = (await line.http.get(f"/v1/inspections/{good}")).json()
    assert (shown["verdict"], shown["limit_sample"], shown["hold"], shown["overtime"]) == ("pass", "good", None, None)
    assert (await line.http.get(URL)).json()["hold"] == "lens is dirty"


async def test_an_image_is_marked_when_it_is_accepted_at_this_station_alone(line: Running) -> None:
    marked = (await line.http.post(f"{URL}/inspections", params={"serial": "BAD-1"}, content=picture())).json()
    named = {"serial": "BAD-1", "station": "line-3"}
    direct = (await line.http.post("/v1/products/toy/inspections", params=named, content=picture())).json()
    await line.http.put("/v1/stations/line-4", json={"product": "toy"})
    other = await line.http.post("/v1/stations/line-4/inspections", params={"serial": "BAD-1"}, content=picture())
    assert [one["limit_sample"] for one in (marked, direct, other.json())] == ["bad", "bad", None]


async def test_of_a_sample_with_several_views_all_count(line: Running, show: Show, client: redis.Redis) -> None:
    await line.http.put(URL, json={"product": "toy", "expected_views": ["top", "bottom"]})
    await line.http.post(CHECK)
    await show("BAD-1", PASS, view="top")
    assert (await judged(line, client))["check"]["samples"][1]["ok"] is None  # its scratch is on the other side
    await show("BAD-1", FAIL, view="bottom")
    await show("GOOD-1", PASS, view="bottom")
    found = (await judged(line, client))["check"]
    assert (found["state"], [one["ok"] for one in found["samples"]]) == ("running", [None, True])
    await show("GOOD-1", PASS, view="top")
    assert (await judged(line, client))["check"]["state"] == "passed"
    await line.http.post(CHECK)
    await show("BAD-1", PASS, view="top")
    await show("BAD-1", PASS, view="bottom")
    assert (await judged(line, client))["check"]["state"] == "failed"


async def test_a_sample_that_is_shown_again_is_judged_again(line: Running, show: Show, client: redis.Redis) -> None:
    await line.http.post(CHECK)
    await show("BAD-1", None)  # no verdict says nothing: null is never pass, and never fail
    assert (await judged(line, client))["check"]["samples"][1]["ok"] is None
    await show("BAD-1", FAIL)
    assert (await judged(line, client))["check"]["samples"][1]["ok"] is True
    await show("BAD-1", PASS)
    assert (await judged(line, client))["check"]["state"] == "failed"


async def test_outside_of_a_check_a_sample_changes_nothing(line: Running, show: Show, client: redis.Redis) -> None:
    await show("BAD-1", PASS)
    assert (await judged(line, client))["check"] is None
    await line.http.post(CHECK, json={"by": "b.huber"})
    cancelled = (await line.http.delete(CHECK, params={"by": "a.meier"})).json()["check"]
    assert (cancelled["state"], cancelled["by"], cancelled["ended_by"]) == ("cancelled", "b.huber", "a.meier")
    await show("BAD-1", PASS)
    found = await judged(line, client)
    assert (found["check"]["state"], found["check"]["samples"][1]["verdict"]) == ("cancelled", None)
    assert (await line.http.get(URL)).json()["hold"] is None


async def test_an_image_of_before_the_check_does_not_count(
    line: Running, make_queue: Callable[..., JobQueue], client: redis.Redis
) -> None:
    await line.http.post(f"{URL}/inspections", params={"serial": "BAD-1"}, content=picture())
    await asyncio.sleep(0.002)  # times are kept in ms
    await line.http.post(CHECK)
    queue = make_queue()
    [claimed] = await asyncio.to_thread(queue.claim, 1)
    await asyncio.to_thread(queue.complete, claimed, result_of(claimed, PASS))
    assert (await judged(line, client))["check"]["samples"][1]["verdict"] is None


async def test_a_replay_of_an_image_of_before_the_check_shows_no_sample(
    line: Running, show: Show, make_queue: Callable[..., JobQueue], client: redis.Redis
) -> None:
    old = await show("BAD-1", None)
    await line.http.post(CHECK)
    await line.http.post(f"/v1/inspections/{old}/replay")
    queue = make_queue()
    [claimed] = await asyncio.to_thread(queue.claim, 1)
    await asyncio.to_thread(queue.complete, claimed, result_of(claimed, FAIL))
    # The camera of today has not seen the sample.
    assert (await judged(line, client))["check"]["samples"][1]["ok"] is None


async def test_many_processes_judge_an_image_once_and_a_restart_loses_none(
    async_client: redis.asyncio.Redis, line: Running, show: Show, client: redis.Redis
) -> None:
    await line.http.post(CHECK)
    stations = Stations(async_client, keep_removed_s=60)
    seen = await show("BAD-1", PASS)
    await asyncio.gather(*(LimitSamples(async_client, stations).judge(seen) for _ in range(8)))
    await judged(line, client)
    client.zadd(keys.LIMIT_ENDED, {seen: 1})  # as if a process had died after the check, before it took the image out
    await judged(line, client)
    assert kinds(client) == ["inspection.done", "limit_samples.failed", "station.held"]
    assert len((await line.http.get(URL)).json()["changes"]) == 2


@pytest.mark.parametrize("field", ["check", "plan"])
async def test_a_damaged_record_is_logged_once_and_the_station_works_on(
    line: Running, show: Show, client: redis.Redis, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    await line.http.post(CHECK)
    await line.http.post(CHECK)
    client.hset(keys.limit_samples("line-3"), field, '{"state": "runn')
    await show("BAD-1", FAIL)
    await asyncio.sleep(0.5)  # several looks of the watch
    assert (await judged(line, client))["check"] is None or field == "plan"
    for _ in range(3):
        assert (await line.http.get(SAMPLES)).status_code == 200
    logged = capsys.readouterr().err
    assert logged.count("limit samples' record not readable") == 1
    assert "limit sample not judged" not in logged

    if field == "plan":
        await line.http.delete(CHECK)
        assert (await line.http.post(CHECK)).status_code == 409  # as without samples: they are set anew
        assert (await line.http.put(SAMPLES, json=PLAN)).status_code == 200
    assert (await line.http.post(CHECK)).status_code == 200
    await show("GOOD-1", PASS)
    await show("BAD-1", FAIL)
    found = await judged(line, client)
    assert (found["check"]["state"], len(found["samples"])) == ("passed", 2)
    assert len(found["earlier"]) == (field == "plan")  # what cannot be read is not shown


async def test_a_station_whose_record_is_damaged_is_logged_once_and_holds_up_no_other(
    line: Running, show: Show, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    await line.http.post(CHECK)
    lost = await show("BAD-1", FAIL)
    await judged(line, client)
    good: Any = client.xrevrange(keys.station("line-3"), count=1)
    client.xadd(keys.station("line-3"), {"change": "{damaged"})
    client.zadd(keys.LIMIT_ENDED, {lost: 1})
    logged = ""
    while "limit sample not judged" not in logged:
        await asyncio.sleep(0.02)
        logged += capsys.readouterr().err
    await asyncio.sleep(0.5)  # several looks more of the watch
    logged += capsys.readouterr().err
    assert logged.count("limit sample not judged") == 1
    client.xadd(keys.station("line-3"), {"change": good[0][1]["change"]})
    await judged(line, client)  # once it can be read, the image is judged


async def test_what_a_check_does_not_allow_now_is_said(line: Running) -> None:
    assert (await line.http.delete(CHECK)).status_code == 409
    await line.http.post(CHECK)
    refused = await line.http.post(CHECK)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:limit-check-conflict")
    assert (await line.http.put(SAMPLES, json=PLAN)).status_code == 409
    await line.http.delete(CHECK)
    assert (await line.http.put(SAMPLES, json={"samples": []})).status_code == 200
    assert "no limit samples" in (await line.http.post(CHECK)).json()["detail"]
    for call in (line.http.get, line.http.delete, line.http.post):
        path = "/v1/stations/line-9/limit-samples" + ("" if call == line.http.get else "/check")
        assert (await call(path)).status_code == 404


async def test_a_sample_is_good_or_bad_and_stands_there_once(line: Running) -> None:
    twice = [{"serial": "S", "expected": "good"}, {"serial": "S", "expected": "bad"}]
    samples: list[Any]
    for samples in (twice, [{"serial": "S", "expected": "worn"}], [{"serial": ".", "expected": "bad"}], [{}]):
        assert (await line.http.put(SAMPLES, json={"samples": samples})).status_code == 422
    many = [{"serial": f"S-{number}", "expected": "bad"} for number in range(101)]
    assert (await line.http.put(SAMPLES, json={"samples": many})).status_code == 422


async def test_the_last_twenty_checks_stand_in_the_record(line: Running) -> None:
    for number in range(23):
        await line.http.post(CHECK, json={"by": f"p{number}"})
        await line.http.delete(CHECK)
    found = (await line.http.get(SAMPLES)).json()
    assert [one["by"] for one in (found["check"], *found["earlier"])] == [f"p{22 - number}" for number in range(21)]


@pytest.mark.usefixtures("keys_read_at_once")
async def test_who_reviews_may_check_and_only_who_administers_sets_the_samples(
    line: Running, client: redis.Redis
) -> None:
    store = KeyStore(client)
    reviewer, reader = ({"X-API-Key": store.create(scope.value, [scope])} for scope in (Scope.REVIEW, Scope.READ))
    assert (await line.http.put(SAMPLES, json=PLAN, headers=reviewer)).status_code == 403
    assert (await line.http.post(CHECK, headers=reader)).status_code == 403
    assert (await line.http.get(SAMPLES, headers=reader)).status_code == 200
    assert (await line.http.post(CHECK, headers=reviewer)).json()["check"]["by"] == "review"


async def test_a_removed_station_forgets_its_samples_with_its_changes(line: Running, client: redis.Redis) -> None:
    await line.http.delete(URL)
    assert (await line.http.get(SAMPLES)).status_code == 404
    for key in (keys.limit_samples("line-3"), keys.limit_serials("line-3"), keys.station("line-3")):
        assert 0 < int(client.ttl(key)) <= line.settings.result_ttl_s
    await line.http.put(URL, json={"product": "toy"})
    assert len((await line.http.get(SAMPLES)).json()["samples"]) == 2
    assert client.ttl(keys.limit_serials("line-3")) == -1


async def test_samples_that_were_replaced_are_kept_with_who_and_when(line: Running) -> None:
    first = (await line.http.get(SAMPLES)).json()
    assert first["earlier_samples"] == []
    for number in range(6):
        await line.http.put(SAMPLES, json={"samples": [{"serial": f"S-{number}", "expected": "good"}], "by": "c.novak"})
    found = (await line.http.get(SAMPLES)).json()
    kept = [[sample["serial"] for sample in one["samples"]] for one in found["earlier_samples"]]
    assert kept == [["S-4"], ["S-3"], ["S-2"], ["S-1"], ["S-0"]]  # five are kept: those of the fixture are not
    assert {one["changed_by"] for one in found["earlier_samples"]} == {"c.novak"}


async def test_the_same_samples_once_more_are_no_change(line: Running) -> None:
    await line.http.put(SAMPLES, json=PLAN)
    assert (await line.http.get(SAMPLES)).json()["earlier_samples"] == []


async def test_samples_of_an_earlier_version_have_none_before_them(line: Running, client: redis.Redis) -> None:
    key = keys.limit_samples("line-3")
    plan = json.loads(str(client.hget(key, "plan")))
    del plan["earlier"]
    client.hset(key, "plan", json.dumps(plan))
    found = (await line.http.get(SAMPLES)).json()
    assert (len(found["samples"]), found["earlier_samples"]) == (2, [])
