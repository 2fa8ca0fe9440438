"""The quality gate as the service shows it: switched beside the bundle, pinned to the job, told wherever a score is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from glad.quality_gate import limits
from glad.quality_gate.limits import Unfit
from service.api.oip.tensors import FinishedInspection, InferenceOrder, write_outputs
from service.contract import (
    Event,
    Job,
    Quality,
    QualityCheck,
    Result,
    Timings,
    Verdict,
    done_result,
    quality_from_reasons,
    unfit_result,
)
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from service.telemetry.metrics.worker import WorkerMetrics
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.gates import a_gate
from tests.support.line import findings, make_job, picture, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
GATE = "/v1/products/toy/gate"
INSPECTIONS = "/v1/products/toy/inspections"
DARK = Unfit(limits.QualityCheck.TOO_DARK, "darkest", 12.0, 60.0, "too dark: check the lamp")
ABSENT = Unfit(limits.QualityCheck.NO_PART, "likeness", 0.1, 0.8, "no part: check the part")
SPENT = Timings(queue=1, decode=2, encode=0, denoise=0, score=0, total=3)


def stopped(claimed: ClaimedJob, *unfit: Unfit) -> Result:
    """The result of a claim whose image was unfit."""
    quality = quality_from_reasons(unfit or (DARK,))
    return unfit_result(claimed.job, quality, SPENT, started_at=claimed.started_at, attempts=1)


@pytest.fixture
async def gated(start_app: StartApp, shared_redis: RedisServer, client: redis.Redis, tmp_path: Path) -> Running:
    """A service whose product toy has a quality gate."""
    write_toy(tmp_path / "store" / "toy" / "1", gate=a_gate())
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    return running


async def test_the_gate_is_on_where_the_bundle_has_one_until_somebody_switches_it(
    gated: Running, make_queue: MakeQueue
) -> None:
    http, queue = gated.http, make_queue()
    shown = (await http.get("/v1/products/toy")).json()["gate"]
    assert (shown["on"], shown["by"], shown["limits"]["darkest"]) == (True, None, 60.0)
    assert "view" not in shown["limits"]
    await http.post(INSPECTIONS, content=picture())
    off = await http.put(GATE, json={"on": False, "by": "ann", "note": "new lamp"})
    assert off.status_code == 200, off.text
    assert (off.json()["on"], off.json()["by"], off.json()["note"]) == (False, "ann", "new lamp")
    assert off.json()["at"] is not None
    await http.post(INSPECTIONS, content=picture())
    assert (await http.put(GATE, json={"on": True})).json()["by"] == "anybody"
    await http.post(INSPECTIONS, content=picture())
    assert [claimed.job.gate for claimed in queue.claim(3)] == [True, False, True]


async def test_a_bundle_without_a_gate_inspects_every_image(api: Running, make_queue: MakeQueue) -> None:
    assert (await api.http.get("/v1/products/toy")).json()["gate"]["limits"] is None
    await api.http.post(INSPECTIONS, content=picture())
    [claimed] = make_queue().claim(1)
    assert claimed.job.gate is False


@pytest.mark.parametrize(
    ("url", "body", "status", "slug"),
    [
        ("/v1/products/toi/gate", {"on": False}, 404, "unknown-product"),
        (GATE, {}, 422, "invalid-fields"),
        (GATE, {"on": False, "off": True}, 422, "invalid-fields"),
    ],
)
async def test_a_switch_that_makes_no_sense_is_refused(
    gated: Running, url: str, body: dict[str, Any], status: int, slug: str
) -> None:
    answer = await gated.http.put(url, json=body)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:glad:problem:{slug}")
    assert gated.services.store.state("toy").revision == 0


async def test_a_switch_heeds_the_revision_that_the_caller_saw(gated: Running) -> None:
    first = await gated.http.put(GATE, json={"on": False}, headers={"If-Match": '"0"'})
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    stale = await gated.http.put(GATE, json={"on": True}, headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    assert (await gated.http.get("/v1/products/toy")).json()["gate"]["on"] is False


async def test_an_unfit_image_is_for_review_without_a_score_everywhere(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    await submitter.submit(make_job(serial="SN-1", gate=True))
    [claimed] = queue.claim(1)
    assert queue.complete(claimed, stopped(claimed))
    shown = (await api.http.get(f"/v1/inspections/{claimed.id}")).json()
    assert (shown["state"], shown["verdict"], shown["score"], shown["calibrated_score"]) == (
        "done",
        "review",
        None,
        None,
    )
    assert shown["quality"] == {
        "passed": False,
        "reasons": [
            {
                "check": "too_dark",
                "measure": "darkest",
                "value": 12.0,
                "limit": 60.0,
                "detail": "too dark: check the lamp",
            }
        ],
        "measures": None,
    }
    assert list(shown["artifacts"]) == ["image"]
    history = (await api.http.get("/v1/inspections", params={"verdict": "review"})).json()
    assert [one["id"] for one in history["inspections"]] == [claimed.id]
    part = (await api.http.get("/v1/parts/SN-1")).json()
    assert (part["verdict"], part["views"][0]["reason"]) == ("review", "quality")
    reviewed = await api.http.post(f"/v1/inspections/{claimed.id}/review", json={"decision": "ok", "by": "ann"})
    assert reviewed.status_code == 200
    assert (await api.http.get("/v1/parts/SN-1")).json()["verdict"] == "pass"


async def test_what_the_gate_stopped_is_left_out_when_thresholds_are_tried(
    gated: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue, bundle = make_queue(), gated.services.store.resolve("toy").hash
    for unfit in (False, True, False, True):
        await submitter.submit(make_job(bundle_hash=bundle, gate=True))
        [claimed] = queue.claim(1)
        queue.complete(claimed, stopped(claimed) if unfit else result_of(claimed, 0.45))
    answer = await gated.http.patch(
        "/v1/products/toy/thresholds", params={"preview": True, "last": 2}, json={"review": 0.4}
    )
    effect = answer.json()["effect"]
    assert (effect["compared"], effect["changed"]) == (2, 2)
    assert effect["changes"] == [{"before": "pass", "after": "review", "count": 2}]


def claimed_job(**fields: Any) -> ClaimedJob:
    """A claim, without a queue."""
    return ClaimedJob(
        job=make_job(**fields), owner="w", attempt=1, alone=False, waited_ms=1, started_ms=1, claimed_ms=1, deaths=0
    )


def test_an_event_names_the_reasons_of_an_unfit_image_and_of_no_other() -> None:
    claimed = claimed_job()
    event = Event.from_result(stopped(claimed, DARK, ABSENT))
    assert event.quality is not None
    assert [reason.check for reason in event.quality.reasons] == [QualityCheck.TOO_DARK, QualityCheck.NO_PART]
    assert (event.verdict, event.score) == (Verdict.REVIEW, None)
    fit = done_result(
        claimed.job, findings(quality=quality_from_reasons(())), started_at=claimed.started_at, attempts=1
    )
    assert fit.quality == Quality(passed=True)
    assert Event.from_result(fit).quality is None


def test_results_and_jobs_of_older_versions_are_read_as_without_a_gate() -> None:
    job = make_job()
    old = job.model_dump(mode="json", exclude={"gate"})
    assert Job.model_validate(old).gate is False
    done = result_of(claimed_job()).model_dump(mode="json", exclude={"quality"})
    assert Result.model_validate(done).quality is None


def test_a_result_without_a_score_is_only_that_of_an_unfit_image() -> None:
    unfit = stopped(claimed_job()).model_dump()
    for change in ({"quality": None}, {"verdict": "pass"}, {"score": 0.1}, {"quality": {"passed": True}}):
        with pytest.raises(ValueError, match="unfit image"):
            Result.model_validate(unfit | change)


def test_the_switch_costs_a_job_a_few_bytes() -> None:
    job = make_job(gate=True, serial="S" * 128, metadata={"note": "n" * 900})
    assert len(job.to_json().encode()) - len(job.model_copy(update={"gate": False}).to_json().encode()) < 20


def test_the_protocol_says_that_there_is_no_score() -> None:
    names = ("verdict", "score", "calibrated_score", "denoising_step", "regions", "quality")
    order = InferenceOrder(images=(b"",), keys=(None,), fields={}, outputs=names, timeout_s=None)
    found = {one.name: one.to_list() for one in write_outputs(order, [FinishedInspection(stopped(claimed_job()))])}
    assert found["verdict"] == ["review"]
    assert found["score"] == found["calibrated_score"] == [-1.0]
    assert found["regions"] == ["[]"]
    assert "too dark: check the lamp" in found["quality"][0]
    plain = {
        one.name: one.to_list() for one in write_outputs(order, [FinishedInspection(result_of(claimed_job(), 0.5))])
    }
    assert (plain["score"], plain["quality"]) == ([0.5], [""])


def test_unfit_images_are_counted_by_their_first_reason_and_are_no_failures() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    metrics.count_result(stopped(claimed_job(), ABSENT, DARK))
    metrics.count_result(stopped(claimed_job(), DARK))
    metrics.count_result(result_of(claimed_job(), 0.1))
    labels = {"product": "toy", "version": "1"}
    for reason, expected in (("no_part", 1), ("too_dark", 1), ("blurred", None)):
        assert registry.get_sample_value("glad_quality_gated_total", labels | {"reason": reason}) == expected
    verdicts = {"product": "toy", "version": "1", "station": "none"}
    assert registry.get_sample_value("glad_verdicts_total", verdicts | {"verdict": "review"}) == 2
    assert registry.get_sample_value("glad_inspections_completed_total", verdicts) == 3
    assert registry.get_sample_value("glad_anomaly_score_count", labels) == 1
    assert registry.get_sample_value("glad_stage_duration_seconds_count", {"stage": "decode"}) == 3
    assert registry.get_sample_value("glad_stage_duration_seconds_count", {"stage": "denoise"}) == 1
    assert registry.get_sample_value("glad_inspections_failed_total", labels | {"code": "unknown"}) is None
