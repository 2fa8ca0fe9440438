"""From rows and maps to figures: overall and by defect and severity, as plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from model_store.manifest import VerdictThresholds
from training.evaluation.comparison import defective, failed, share_estimate, verdict_shares
from training.evaluation.rows import Curves, Evaluation, EvaluationRow, Located, RankedMaps, thinned
from training.metrics import counts
from training.metrics.aupimo import aupimo
from training.metrics.bootstrap import Estimate, multiplicities, rate_estimate
from training.metrics.image_metrics import image_auroc_estimate, image_counts, image_metrics
from training.metrics.pixel_metrics import Ranked, pixel_auroc, pixel_metrics, pro, rank_pixels
from training.progress import Count

VERDICTS = ("pass", "review", "fail")


def measure(
    rows: Sequence[EvaluationRow],
    located: Sequence[Located],
    limits: VerdictThresholds | None,
    progress: Count,
) -> Evaluation:
    """Return all figures and curves.

    Args:
        limits: the bundle's thresholds; None: what rests on verdicts is left out.
    """
    kinds = sorted({(row.defect, row.severity or 0) for row in rows if not row.is_good})
    progress(0, 1 + len(kinds))
    overall = measure_overall(rows, located, limits)
    by_defect = []
    for done, (defect, severity) in enumerate(kinds, start=1):
        progress(done, 1 + len(kinds))
        by_defect.append(_of_kind(rows, located, defect, severity))
    progress(1 + len(kinds), 1 + len(kinds))
    steps = {kind: _mean_step(rows, kind) for kind in sorted({row.defect for row in rows})}
    return replace(overall, figures={**overall.figures, "denoising_step": steps, "by_defect": by_defect})


def measure_overall(
    rows: Sequence[EvaluationRow], located: Sequence[Located], limits: VerdictThresholds | None
) -> Evaluation:
    """Return the figures of all images together, and the curves."""
    good = sum(row.is_good for row in rows)
    figures: dict[str, Any] = {
        "images": {"good": good, "defect": len(rows) - good},
        **_verdict_figures(rows, limits),
    }
    ranked = _ranked(located)
    if good < len(rows):
        figures["image"] = asdict(image_metrics(_scores(rows), defective(rows), [row.group for row in rows]))
    if ranked is not None:
        figures["pixel"] = _pixel_figures(rows, located, ranked)
    maps = None if ranked is None else RankedMaps(tuple(one.row for one in located), ranked)
    return Evaluation(figures, tuple(rows), _curves(rows, ranked), maps)


def _verdict_figures(rows: Sequence[EvaluationRow], limits: VerdictThresholds | None) -> dict[str, Any]:
    """Return all overall figures that rest on verdicts."""
    if limits is None:
        return {}
    good = [row for row in rows if row.is_good]
    sides = {"good": good, "defect": [row for row in rows if not row.is_good]}
    return {
        "thresholds": {"review": limits.review, "fail": limits.fail, "pixel": limits.pixel},
        "false_reject_rate": asdict(_false_rejects(good)),
        "found_at_its_threshold": verdict_shares(rows),
        "verdicts": {side: {v: sum(r.verdict == v for r in of) for v in VERDICTS} for side, of in sides.items()},
    }


def _false_rejects(good: Sequence[EvaluationRow]) -> Estimate:
    """Return the share of good images that fail, its interval by part: exact where each part was photographed once."""
    groups = [row.group for row in good]
    if len(set(groups)) == len(groups):
        return rate_estimate(int(failed(good).sum()), len(good))
    return share_estimate(failed(good), np.ones(len(good), np.bool_), groups)


def _pixel_figures(rows: Sequence[EvaluationRow], located: Sequence[Located], ranked: Ranked) -> dict[str, Any]:
    draws = multiplicities([rows[one.row].group for one in located])
    figures = asdict(pixel_metrics(ranked, draws))
    marked = [one.truth.any() for one in located]
    if not all(marked):
        overlaps = aupimo([one.map for one in located], [one.truth for one in located], draws)
        figures["aupimo"] = {**asdict(overlaps.mean), "finest_rate": overlaps.finest_rate}
    return figures


def _curves(rows: Sequence[EvaluationRow], ranked: Ranked | None) -> Curves:
    image = None
    if any(not row.is_good for row in rows):
        image = thinned(counts.curve(image_counts(_scores(rows), defective(rows), np.ones(len(rows)))))
    if ranked is None:
        return Curves(image, None, None)
    return Curves(image, thinned(counts.curve(ranked.ranks.by_pixel)), thinned(counts.curve(ranked.ranks.by_region)))


def _of_kind(rows: Sequence[EvaluationRow], located: Sequence[Located], defect: str, severity: int) -> dict[str, Any]:
    """Return the figures of one defect in one severity against all good images."""
    member = [row.is_good or (row.defect == defect and (row.severity or 0) == severity) for row in rows]
    chosen = [row for row, is_member in zip(rows, member, strict=True) if is_member]
    positives = [row for row in chosen if not row.is_good]
    places = [one for one in located if member[one.row]]
    groups = [row.group for row in chosen]
    entry: dict[str, Any] = {
        "defect": defect,
        "severity": severity or None,
        "images": len(positives),
        "image_auroc": asdict(image_auroc_estimate(_scores(chosen), defective(chosen), groups)),
        "denoising_step": float(np.mean([row.denoising_step for row in positives])),
    }
    if all(row.verdict is not None for row in positives):
        entry["failed"] = sum(row.verdict == "fail" for row in positives)
        entry["passed"] = sum(row.verdict == "pass" for row in positives)
    if (ranked := _ranked(places)) is not None:
        entry["pixel_auroc"] = asdict(pixel_auroc(ranked, multiplicities([rows[one.row].group for one in places])))
        entry["pro"] = pro(ranked)
    return entry


def _ranked(located: Sequence[Located]) -> Ranked | None:
    if not any(one.truth.any() for one in located):
        return None
    return rank_pixels([one.map for one in located], [one.truth for one in located])


def _mean_step(rows: Sequence[EvaluationRow], defect: str) -> dict[str, float]:
    chosen = [row for row in rows if row.defect == defect]
    return {
        "mean": float(np.mean([row.denoising_step for row in chosen])),
        "triggered_share": float(np.mean([row.triggered for row in chosen])),
        "walked_share": float(np.mean([row.denoising_step > 0 for row in chosen])),  # 0: clear at its first reading
    }


def _scores(rows: Sequence[EvaluationRow]) -> list[float]:
    return [row.score for row in rows]
