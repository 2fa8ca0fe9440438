"""What API, queue and worker exchange."""

from __future__ import annotations

import sys
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from service.contract import (
    MAX_REGIONS,
    Event,
    Failure,
    Job,
    JobTooLarge,
    Region,
    Result,
    State,
    Traceability,
    Verdict,
    done_result,
    ended_result,
    new_inspection_id,
    parse_inspection_id,
    rfc3339,
    waiting_result,
)
from tests.support.line import AT, THRESHOLDS, findings, make_job


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.0, "pass"), (0.499, "pass"), (0.5, "review"), (0.999, "review"), (1.0, "fail"), (7.0, "fail")],
)
def test_a_score_at_a_threshold_belongs_to_the_worse_verdict(score: float, verdict: str) -> None:
    assert THRESHOLDS.verdict(score) == verdict


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_has_no_verdict(score: float) -> None:
    with pytest.raises(ValueError, match="no verdict"):
        THRESHOLDS.verdict(score)


def test_the_calibrated_score_is_one_half_at_the_fail_threshold_and_monotone() -> None:
    # s / (s + 1.0): 0/1, 1/2, 3/4
    assert [THRESHOLDS.calibrate(score) for score in (0.0, 1.0, 3.0)] == [0.0, 0.5, 0.75]


@pytest.mark.parametrize(
    ("score", "of_the_steps", "near_tie"),
    [(0.49996, False, True), (1.00009, False, True), (0.7, False, False), (0.7, True, True), (0.7, None, None)],
)
def test_a_result_says_whether_a_decision_was_a_near_tie(
    score: float, of_the_steps: bool | None, near_tie: bool | None
) -> None:
    """The thresholds are 0.5 and 1; null: the worker is older than the field."""
    found = findings(score).model_copy(update={"near_tie": of_the_steps})
    assert done_result(make_job(), found, started_at=AT, attempts=1).near_tie is near_tie


def test_only_a_done_inspection_has_a_verdict() -> None:
    waiting = waiting_result(make_job())
    assert (waiting.state, waiting.verdict, waiting.score) == (State.QUEUED, None, None)
    with pytest.raises(ValidationError, match="exactly `done` has a verdict"):
        Result.model_validate(waiting.model_dump() | {"verdict": Verdict.PASS})
    with pytest.raises(ValidationError, match="exactly `done` has a verdict"):
        Result.model_validate(waiting.model_dump() | {"state": State.DONE})


def test_a_failed_inspection_says_why_and_gives_no_verdict() -> None:
    error = Failure(code="bundle_unavailable", detail="gone")
    failed = ended_result(make_job(), State.FAILED, error, started_at=None, attempts=2)
    assert (failed.verdict, failed.error, failed.attempts) == (None, error, 2)
    assert Event.from_result(failed).error == error


def test_a_result_survives_its_json() -> None:
    done = done_result(make_job(serial="SN ü 1", metadata={"a": [1, None]}), findings(1.25), started_at=AT, attempts=1)
    assert Result.model_validate_json(done.to_json()) == done
    assert (done.verdict, done.calibrated_score) == (Verdict.FAIL, 1.25 / 2.25)


def test_reading_ever_new_ids_and_times_keeps_none_of_them() -> None:
    lines = [make_job().model_dump_json() for _ in range(2000)]
    Job.model_validate_json(lines[0])
    before = sys.getallocatedblocks()
    for line in lines:
        Job.model_validate_json(line)
    assert sys.getallocatedblocks() - before < len(lines)


def test_a_result_links_only_the_pictures_that_were_stored() -> None:
    job = make_job()
    done = done_result(job, findings(artifacts=("mask.png", "heatmap.png")), started_at=AT, attempts=1)
    assert done.artifacts == {
        "heatmap.png": f"/v1/inspections/{job.id}/heatmap.png",
        "mask.png": f"/v1/inspections/{job.id}/mask.png",
        "image": f"/v1/inspections/{job.id}/image",
    }


def test_a_result_keeps_the_regions_with_the_highest_peaks() -> None:
    regions = tuple(Region(box=(i, 0, 1, 1), area_px=1, peak=float(i)) for i in range(MAX_REGIONS + 10))
    kept = done_result(make_job(), findings(regions=regions), started_at=AT, attempts=1).regions
    assert [region.peak for region in kept[:2]] == [MAX_REGIONS + 9.0, MAX_REGIONS + 8.0]
    assert len(kept) == MAX_REGIONS


def test_a_job_of_more_than_two_kilobytes_is_refused() -> None:
    # Four fields of 128 letters with 3 bytes each: 1536 bytes, beside about 700 of everything else.
    wide = dict.fromkeys(("serial", "lot", "view", "station"), "測" * 128)
    with pytest.raises(JobTooLarge, match="at most 2048"):
        make_job(**wide).to_json()
    assert len(make_job(metadata={"k": "v" * 1000}, serial="s" * 128).to_json().encode()) <= 2048


def test_times_are_utc_to_the_millisecond() -> None:
    given = datetime(2026, 11, 23, 9, 15, 30, 120_999, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(Traceability(captured_at=given).captured_at or AT) == "2026-11-23T08:15:30.120Z"


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("[1]", "is a JSON list"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": 1e999}', "too large for JSON"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "\\u0000"}', "control character"),
        ("{", "Expecting"),
        ('{"a":' * 150 + "1" + "}" * 150, "nested"),
        ("[" * 1000, "deeply|Expecting"),
        ('{"a": "' + "x" * 1020 + '"}', "at most 1024"),
    ],
)
def test_metadata_that_json_cannot_carry_is_refused(metadata: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Traceability.model_validate({"metadata": metadata})


def test_a_number_is_no_time() -> None:
    for given in (1795421730, 1795421730.5, "1795421730", "20261123", True):
        with pytest.raises(ValidationError, match="is no time of RFC 3339"):
            Traceability.model_validate({"captured_at": given})
    assert Traceability.model_validate({"captured_at": "2026-11-23T08:15:30Z"}).captured_at is not None


@pytest.mark.parametrize("serial", ["", "x" * 129, "a\nb", "a\x7fb", "a\ud800b"])
def test_a_serial_is_printable_and_of_some_length(serial: str) -> None:
    with pytest.raises(ValidationError):
        Traceability(serial=serial)


def test_ids_are_uuid7_and_sort_by_time() -> None:
    ids = [new_inspection_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert parse_inspection_id(ids[0]) == ids[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "9b2f6c1e-7d3a-4c58-8e41-0f5a6b7c8d9e",  # version 4
        "019ABC12-3456-7DEF-8123-456789ABCDEF",
        "{019abc12-3456-7def-8123-456789abcdef}",
    ],
)
def test_only_a_canonical_uuid7_names_an_inspection(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|uuid|hex"):
        parse_inspection_id(text)
