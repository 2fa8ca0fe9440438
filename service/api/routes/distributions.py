"""How scores and measures of a version's last inspections lie: what a person looks at before moving a limit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, get_args

from fastapi import APIRouter, Query

from glad.quality_gate.limits import QualityGate
from glad_client.product_answers import (
    GateDistribution,
    MeasureBin,
    MeasureDistribution,
    MeasureName,
    ScoreBin,
    ScoreDistribution,
)
from model_store.manifest import Name, VerdictThresholds
from service.api.dependencies import ProductPath, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.gate_effect import JudgedImage, judged_images
from service.api.routes.product_changes import use_store
from service.api.routes.quality_gate import gate_limits
from service.api.routes.stored_results import MAX_COMPARED, has_score, read_recent
from service.contract import Thresholds, Timestamp, Verdict
from service.queue.recent import EndedInspection

router = APIRouter(tags=["products"])

BINS = 80
LONG_TAIL = 2
"""Beyond the fail threshold so many times its distance from the lowest score: scores there share the last bin."""

LARGEST_THRESHOLD = 1e9
"""Far above every score: thresholds beyond it are refused. An older version took them, and they are shown as this."""
MEASURE_ROOM = 16
"""Beside the values of a measure, at either end, a sixteenth of their range is left."""
NOT_ASKED = {"darkest": 0, "brightest": 255, "black_share": 1, "white_share": 1, "sharpness": 0}
"""Limits that stop no image: a histogram need not reach to them."""

Version = Annotated[Name | None, Query(description="default: the active version")]
Last = Annotated[int, Query(ge=0, le=MAX_COMPARED, description="inspections to read at most, the latest")]
Since = Annotated[Timestamp | None, Query(description="only those that ended at this time or later")]


@router.get(
    "/v1/products/{product}/scores",
    summary="Show how a version's scores lie",
    responses=documents.SCORES_RESPONSES,
)
async def scores(
    services: ServicesDep,
    product: ProductPath,
    version: Version = None,
    last: Last = MAX_COMPARED,
    since: Since = None,
) -> ScoreDistribution:
    """Return a histogram of the version's last scores, by verdict, with what people decided.

    The verdicts are those of the thresholds that were in force then. What the quality gate stopped has no score.
    """
    ref = await use_store(services, product, lambda store: store.resolve(product, version))
    limits = await use_store(services, product, lambda store: store.thresholds(ref))
    latest = await read_recent(services, ref, has_score, last, anew=True)
    found = [one for one in latest if since is None or (one.finished_at is not None and one.finished_at >= since)]
    calibration = ref.manifest.thresholds
    edges = score_edges([one.score for one in found if one.score is not None], calibration.good_scores, limits)
    return ScoreDistribution(
        product=product,
        version=ref.version,
        thresholds=Thresholds.model_validate(limits, from_attributes=True),
        calibrated=Thresholds.model_validate(calibration, from_attributes=True),
        compared=len(found),
        oldest=found[-1].finished_at if found else None,
        low=edges[0],
        high=edges[BINS],
        bins=score_bins(edges, found, calibration.good_scores),
    )


@router.get(
    "/v1/products/{product}/gate",
    summary="Show the quality gate, and how its measures lie",
    responses=documents.GATE_SHOWN_RESPONSES,
)
async def gate(
    services: ServicesDep,
    product: ProductPath,
    version: Version = None,
    last: Last = 1000,
) -> GateDistribution:
    """Return a version's limits, and a histogram of each measure of the last images that the gate judged."""
    ref = await use_store(services, product, lambda store: store.resolve(product, version))
    state = await use_store(services, product, lambda store: store.state(product))
    learned = ref.manifest.gate
    in_force = None if learned is None else state.gate_in_force(ref.version, learned)
    found = await judged_images(services, ref, last)
    return GateDistribution(
        product=product,
        version=ref.version,
        on=state.gate_on,
        limits=gate_limits(in_force),
        learned=gate_limits(learned),
        compared=len(found),
        oldest=found[-1].finished_at if found else None,
        measures=[_measure_distribution(name, found, in_force) for name in get_args(MeasureName)],
    )


def score_edges(scores: Sequence[float], good_scores: Sequence[float], limits: VerdictThresholds) -> tuple[float, ...]:
    """Return the borders of `BINS` bins of equal width, and one more where scores lie above: a long tail is one bin.

    Args:
        scores: of inspections.
        good_scores: of the calibration.
        limits: both thresholds must lie inside.
    """
    review, fail = _shown_limit(limits.review), _shown_limit(limits.fail)
    shown = [*scores, *good_scores, review, fail]
    low, top = min(shown), max(shown)
    reach = fail + LONG_TAIL * max(fail - low, abs(fail) / 10)
    high = max(min(top, reach), fail + (fail - low) / 10)
    edges = _equal_steps(low, high)
    return (*edges, top) if top > edges[-1] else edges


def score_bins(
    edges: Sequence[float], found: Sequence[EndedInspection], good_scores: Sequence[float]
) -> list[ScoreBin]:
    """Return the bins between these borders, filled."""
    counts = [dict.fromkeys(("passed", "review", "fail", "ok", "defect", "calibration"), 0) for _ in edges[1:]]
    names = {Verdict.PASS: "passed", Verdict.REVIEW: "review", Verdict.FAIL: "fail"}
    for one in found:
        if one.score is None:
            continue
        at = counts[_bin_of(edges, one.score)]
        at[names[one.verdict]] += 1
        if one.decision is not None:
            at[one.decision.value] += 1
    for score in good_scores:
        counts[_bin_of(edges, score)]["calibration"] += 1
    return [ScoreBin(low=low, high=high, **count) for (low, high), count in zip(pairwise(edges), counts, strict=True)]


def _measure_distribution(
    name: MeasureName, found: Sequence[JudgedImage], gate: QualityGate | None
) -> MeasureDistribution:
    rows = [(getattr(one.measures, name), one.passed) for one in found]
    if not rows:
        limits = list(_limits_of(name, gate))
        return MeasureDistribution(name=name, low=min(limits, default=0.0), high=max(limits, default=0.0), bins=[])
    shown = [value for value, _ in rows] + list(_limits_of(name, gate))
    low, high = min(shown), max(shown)
    room = (high - low) / MEASURE_ROOM  # so that a limit at the end can be seen and moved further
    edges = _equal_steps(low - room, high + room)
    counts = [{"passed": 0, "stopped": 0} for _ in edges[1:]]
    for value, passed in rows:
        counts[_bin_of(edges, value)]["passed" if passed else "stopped"] += 1
    bins = [MeasureBin(low=low, high=high, **count) for (low, high), count in zip(pairwise(edges), counts, strict=True)]
    return MeasureDistribution(name=name, low=edges[0], high=edges[-1], bins=bins)


def _limits_of(name: MeasureName, gate: QualityGate | None) -> Iterator[float]:
    """Yield the limits of a measure that are asked and can be shown beside it."""
    if gate is None:
        return
    fields = ("darkest", "brightest") if name == "brightness" else (name,)
    for field in fields:
        limit = getattr(gate, field)
        if limit not in (None, NOT_ASKED.get(field)):
            yield _shown_limit(limit)


def _shown_limit(limit: float) -> float:
    """Return a limit where a histogram can show it: between the largest numbers there are no bins."""
    return max(-LARGEST_THRESHOLD, min(LARGEST_THRESHOLD, limit))


def _equal_steps(low: float, high: float) -> tuple[float, ...]:
    """Return the borders of `BINS` bins that hold both values."""
    if high <= low:
        high = low + max(abs(low), 1.0) / 100
    return (*(low + (high - low) * step / BINS for step in range(BINS)), high)


def _bin_of(edges: Sequence[float], value: float) -> int:
    return min(max(bisect_right(edges, value) - 1, 0), len(edges) - 2)
