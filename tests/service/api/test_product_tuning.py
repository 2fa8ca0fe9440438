"""What a person looks at before moving a limit, what the change does, and who made it: by real results in Redis."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from glad.quality_gate.limits import GateMeasures, check_limits
from model_store.product_state import GateOverrides, ThresholdOverrides
from service.contract import PinnedThresholds, Result, done_result, quality_from_reasons, unfit_result
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.api.test_quality_gate import SPENT
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.gates import a_gate
from tests.support.line import findings, make_job, picture
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
TOY = "/v1/products/toy"
REPORT = b"<!doctype html><title>Training</title><script>alert(1)</script>"
FIT = GateMeasures(brightness=100, black_share=0.01, white_share=0.0, sharpness=0.2, likeness=0.95)


def measured(**changes: float) -> GateMeasures:
    return GateMeasures(**{**FIT.__dict__, **changes})


@pytest.fixture
async def tuned(start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path) -> Running:
    """A service whose product has a gate and a report: thresholds 0.5 and 1.0, good scores 0.1 and 0.2."""
    write_toy(tmp_path / "store" / "toy" / "1", gate=a_gate(), report=REPORT)
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    return running


@pytest.fixture
def inspect(tuned: Running, submitter: JobSubmitter, make_queue: MakeQueue) -> Callable[..., Any]:
    """Ends an inspection with this score and these measures, as a worker does; returns its id."""
    queue, hash_ = make_queue(), tuned.services.store.resolve("toy").hash

    async def end(score: float = 0.25, measures: GateMeasures | None = None, **fields: Any) -> str:
        await submitter.submit(make_job(bundle_hash=hash_, gate=True, **fields))
        [claimed] = queue.claim(1)
        assert queue.complete(claimed, ended(claimed, score, measures))
        return claimed.id

    return end


def ended(claimed: ClaimedJob, score: float, measures: GateMeasures | None) -> Result:
    unfit = () if measures is None else check_limits(a_gate(), measures)
    quality = quality_from_reasons(unfit, measures)
    if unfit:
        return unfit_result(claimed.job, quality, SPENT, started_at=claimed.started_at, attempts=1)
    return done_result(claimed.job, findings(score, quality=quality), started_at=claimed.started_at, attempts=1)


@pytest.mark.parametrize("limits", [{"review": 1e308, "fail": 1.7e308}, {"review": -1.7e308, "fail": 1.7e308}])
async def test_what_no_score_reaches_is_refused_and_shown_where_an_older_version_took_it(
    tuned: Running, inspect: Any, limits: dict[str, float]
) -> None:
    await inspect(0.25, measured())
    for call, body in (("thresholds", limits), ("gate", {"limits": {"sharpness": 1.7e308}})):
        refused = await tuned.http.patch(f"{TOY}/{call}", json=body)
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:glad:problem:invalid-fields")
    store = tuned.services.store
    store.override("toy", "1", ThresholdOverrides(**limits), by="old")
    store.limit_gate("toy", "1", GateOverrides(sharpness=1.7e308), by="old")
    shown = (await tuned.http.get(f"{TOY}/scores")).json()
    assert shown["thresholds"]["fail"] == 1.7e308
    assert sum(one["pass"] for one in shown["bins"]) == 1
    gate = (await tuned.http.get(f"{TOY}/gate")).json()
    assert [sum(one["passed"] for one in measure["bins"]) for measure in gate["measures"]] == [1] * 5


async def test_scores_lie_in_bins_by_verdict_with_what_people_decided(tuned: Running, inspect: Any) -> None:
    scores = (0.1, 0.3, 0.6, 1.2, 1.2, 60.0)
    ids = [await inspect(score) for score in scores]
    await inspect(measures=measured(brightness=10))  # stopped by the gate: it has no score
    for inspection, decision in ((ids[2], "ok"), (ids[3], "ok"), (ids[3], "defect")):
        url = f"/v1/inspections/{inspection}/review"
        assert (await tuned.http.post(url, json={"decision": decision, "by": "ann"})).status_code == 200
    shown = (await tuned.http.get(f"{TOY}/scores")).json()
    assert (shown["version"], shown["compared"], shown["thresholds"]["fail"]) == ("1", 6, 1.0)
    # From the lowest, 0.1, to the fail threshold and twice its distance from there: 1 + 2 * 0.9.
    assert (shown["low"], shown["high"]) == (0.1, pytest.approx(2.8))
    bins = shown["bins"]
    assert len(bins) == 81
    assert (bins[-1]["from"], bins[-1]["to"], bins[-1]["fail"]) == (pytest.approx(2.8), 60.0, 1)  # the long tail
    assert all(one["to"] == after["from"] for one, after in pairwise(bins))
    for score, counted in ((0.1, "pass"), (0.3, "pass"), (0.6, "review"), (1.2, "fail")):
        [here] = [one for one in bins if one["from"] <= score < one["to"]]
        assert here[counted] == scores.count(score)
    assert [sum(one[name] for one in bins) for name in ("pass", "review", "fail")] == [2, 1, 3]
    # The last review of a part counts; both good images of the calibration are there.
    assert [sum(one[name] for one in bins) for name in ("ok", "defect", "calibration")] == [1, 1, 2]
    latest = (await tuned.http.get(f"{TOY}/scores", params={"last": 2})).json()
    assert (latest["compared"], sum(one["fail"] for one in latest["bins"])) == (2, 2)
    assert (await tuned.http.get(f"{TOY}/scores", params={"version": "9"})).status_code == 404


async def test_without_an_inspection_the_calibration_is_shown_beside_the_thresholds(tuned: Running) -> None:
    shown = (await tuned.http.get(f"{TOY}/scores")).json()
    assert (shown["compared"], shown["oldest"], shown["low"]) == (0, None, 0.1)
    assert shown["high"] > 1.0 > shown["low"]
    assert sum(one["calibration"] for one in shown["bins"]) == 2


async def test_an_effect_says_about_how_many_a_day_and_a_shift_would_change(tuned: Running, inspect: Any) -> None:
    for score in (0.45, 0.2, 0.2, 0.2):
        await inspect(score)
    answer = await tuned.http.patch(f"{TOY}/thresholds", params={"preview": True}, json={"review": 0.4})
    effect = answer.json()["effect"]
    # One of four, and the four are all that ended in the last day.
    assert (effect["changed"], effect["compared"], effect["per_day"]) == (1, 4, 1.0)
    assert effect["per_shift"] == 0.3  # of the three shifts of GLAD_SHIFTS
    answer = await tuned.http.patch(f"{TOY}/thresholds", params={"preview": True, "last": 0}, json={"review": 0.4})
    assert (answer.json()["effect"]["per_day"], answer.json()["effect"]["per_shift"]) == (None, None)


async def test_measures_are_kept_of_every_image_that_the_gate_judged(tuned: Running, inspect: Any) -> None:
    for level in (100, 120, 10):
        await inspect(measures=measured(brightness=level))
    await inspect()  # by an older worker: its measures are not known
    shown = (await tuned.http.get(f"{TOY}/gate")).json()
    assert (shown["compared"], shown["on"], shown["limits"]) == (3, True, shown["learned"])
    light = next(one for one in shown["measures"] if one["name"] == "brightness")
    # From the darkest image to the limit `brightest`, and a sixteenth of that at either end.
    assert (light["low"], light["high"]) == (10 - 150 / 16, 160 + 150 / 16)
    assert [sum(one[name] for one in light["bins"]) for name in ("passed", "stopped")] == [2, 1]
    [darkest] = [one for one in light["bins"] if one["from"] <= 10 < one["to"]]
    assert darkest["stopped"] == 1


async def test_other_limits_show_what_they_would_have_stopped_and_hold_for_what_comes_after(
    tuned: Running, inspect: Any, make_queue: MakeQueue
) -> None:
    ids = [await inspect(measures=measured(brightness=level)) for level in (100, 70, 50, 10)]  # the last two stopped
    body = {"limits": {"darkest": 40, "sharpness": 0.21}}
    answer = await tuned.http.patch(f"{TOY}/gate", params={"preview": True}, json=body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    # All have sharpness 0.2: those that were inspected would be stopped; 50 is light enough, and not sharp enough.
    effect = shown["effect"]
    assert (effect["compared"], effect["newly_stopped"], effect["newly_inspected"]) == (4, 2, 0)
    assert shown["effect"]["examples"] == [ids[1], ids[0]]
    assert (shown["applied"], tuned.services.store.state("toy").revision) == (False, 0)
    made = await tuned.http.patch(f"{TOY}/gate", json={"limits": {"darkest": 40}, "by": "ann"})
    assert (made.json()["effect"]["newly_inspected"], made.json()["effect"]["examples"]) == (1, [ids[2]])
    assert (made.headers["etag"], made.json()["after"]["darkest"], made.json()["learned"]["darkest"]) == ('"1"', 40, 60)
    gate = (await tuned.http.get(TOY)).json()["gate"]
    assert (gate["limits"]["darkest"], gate["learned"]["darkest"]) == (40, 60)
    await tuned.http.post(f"{TOY}/inspections", content=picture())
    [claimed] = make_queue().claim(1)
    assert claimed.job.gate_in_force(a_gate()) == a_gate(darkest=40.0)
    restored = await tuned.http.patch(f"{TOY}/gate", json={"limits": {"darkest": None}})
    assert restored.json()["after"] == restored.json()["learned"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"limits": {"darkest": 200}}, 422),  # above brightest
        ({"limits": {"darkest": -1}}, 422),
        ({"limits": {"dark": 1}}, 422),
        ({}, 422),
        ({"limits": {}, "version": "9"}, 404),
    ],
)
async def test_limits_that_make_no_sense_are_refused(tuned: Running, body: dict[str, Any], status: int) -> None:
    assert (await tuned.http.patch(f"{TOY}/gate", json=body)).status_code == status
    assert tuned.services.store.state("toy").revision == 0


async def test_limits_heed_the_revision_and_a_version_without_a_gate_has_none(tuned: Running, api: Running) -> None:
    for revision, status in (("0", 200), ("0", 412), ("1", 200)):
        answer = await tuned.http.patch(
            f"{TOY}/gate", json={"limits": {"darkest": 40}}, headers={"If-Match": f'"{revision}"'}
        )
        assert answer.status_code == status
    refused = await api.http.patch(f"{TOY}/gate", json={"limits": {"darkest": 40}})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:version-unusable")
    assert (await api.http.get(f"{TOY}/gate")).json()["limits"] is None


async def test_every_change_is_listed_and_its_values_before_undo_it(tuned: Running) -> None:
    http = tuned.http
    await http.patch(f"{TOY}/thresholds", json={"fail": 2.0, "by": "ann", "note": "too strict"})
    await http.put(f"{TOY}/gate", json={"on": False, "by": "bob", "note": "new lamp"})
    await http.patch(f"{TOY}/gate", json={"limits": {"darkest": 40}, "by": "cem"})
    listed = await http.get(f"{TOY}/changes")
    assert (listed.headers["etag"], listed.json()["revision"]) == ('"3"', 3)
    changes = listed.json()["changes"]
    made = [(one["revision"], one["kind"], one["by"], one["note"]) for one in changes[:3]]
    assert made == [
        (3, "gate_limits", "cem", ""),
        (2, "gate", "bob", "new lamp"),
        (1, "thresholds", "ann", "too strict"),
    ]
    await http.patch(f"{TOY}/gate", json={"limits": changes[0]["before"], "version": changes[0]["version"]})
    await http.put(f"{TOY}/gate", json=changes[1]["before"])
    await http.patch(f"{TOY}/thresholds", json={**changes[2]["before"], "version": changes[2]["version"]})
    shown = (await http.get(TOY)).json()
    assert shown["active"]["thresholds"] == shown["active"]["calibrated"]
    assert (shown["gate"]["on"], shown["gate"]["limits"]) == (True, shown["gate"]["learned"])
    assert (await http.get("/v1/products/toi/changes")).status_code == 404


async def test_a_report_is_served_so_that_it_can_run_nothing(tuned: Running, tmp_path: Path) -> None:
    link = (await tuned.http.get(TOY)).json()["active"]["report"]
    answer = await tuned.http.get(link)
    assert (answer.status_code, answer.content) == (200, REPORT)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"sandbox", "default-src 'none'"} <= set(policy)
    assert not any(one.startswith("script-src") for one in policy)
    page = tmp_path / "store" / "toy" / "1" / "report" / "report.html"
    page.write_bytes(REPORT.replace(b"alert", b"Alert"))
    changed = await tuned.http.get(link)
    assert (changed.status_code, changed.json()["type"]) == (404, "urn:glad:problem:unknown-report")
    page.unlink()
    assert (await tuned.http.get(link)).status_code == 404
    assert (await tuned.http.get(TOY)).json()["active"]["report"] is None


async def test_a_bundle_without_a_report_says_how_to_write_one(api: Running) -> None:
    answer = await api.http.get(f"{TOY}/versions/1/report")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:glad:problem:unknown-report")
    assert "glad report" in answer.json()["detail"]


def test_limits_cost_a_job_little_and_jobs_of_before_have_none() -> None:
    job = make_job(gate=True)
    assert "gate_limits" not in job.to_json()
    assert job.gate_in_force(a_gate()) == a_gate()
    assert make_job().gate_in_force(a_gate()) is None
    assert isinstance(job.thresholds, PinnedThresholds)
