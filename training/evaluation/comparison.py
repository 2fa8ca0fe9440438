"""Two detectors on the same images: the paired differences of their figures, and shares with intervals by group.

*Found* is the share of defective images at or above a detector's own fail threshold, beside the false rejects that this
threshold makes. A difference and its interval are of the same bootstrap draws for both detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.rows import Evaluation, EvaluationRow
from training.metrics import counts
from training.metrics.bootstrap import Estimate, bootstrap, multiplicities, rate_estimate
from training.metrics.counts import Counts, Weights
from training.metrics.image_metrics import image_auroc, image_counts
from training.metrics.pixel_metrics import PRO_LIMIT, pro

DIFFERENCES = ("image_auroc", "pixel_auroc", "pro", "found", "false_rejects")
"""The figures that are compared."""


def differences(one: Evaluation, other: Evaluation) -> dict[str, Any]:
    """Return each figure of one detector minus the other's, with the interval over rounds that are drawn for both.

    A figure that either lacks is left out: those of pixels without masks, those of verdicts without thresholds.

    Raises:
        ValueError: if they were measured on other images than each other.
    """
    if [row.file for row in one.rows] != [row.file for row in other.rows]:
        raise ValueError("two detectors are compared on the same images, in the same order: inspect them again")
    draws = multiplicities([row.group for row in one.rows])
    first, second = compared_figures(one), compared_figures(other)
    return {
        name: asdict(bootstrap(first[name] - second[name], partial(_gap, one, other, name), draws))
        for name in first
        if name in second
    }


def compared_figures(measured: Evaluation) -> dict[str, float]:
    """Return those of `DIFFERENCES` that an evaluation has, exact."""
    is_defective, fails = defective(measured.rows), failed(measured.rows)
    figures = {}
    if is_defective.any():
        figures["image_auroc"] = image_auroc(_scores(measured), is_defective)
    if measured.maps is not None:
        figures["pixel_auroc"] = float(counts.auroc(measured.maps.ranked.ranks.by_pixel))
        figures["pro"] = pro(measured.maps.ranked)
    if all(row.verdict is not None for row in measured.rows):
        once = np.ones((1, len(measured.rows)))
        sides = {"found": is_defective, "false_rejects": ~is_defective}
        figures |= {name: float(share(fails, among, once)[0]) for name, among in sides.items() if among.any()}
    return figures


def verdict_shares(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    """Return what is found and what is rejected falsely at a detector's own threshold, as plain JSON.

    A share of no images is left out.

    Args:
        rows: with verdicts.
    """
    is_defective, groups = defective(rows), [row.group for row in rows]
    sides = {"found": is_defective, "false_rejects": ~is_defective}
    return {name: asdict(share_estimate(failed(rows), among, groups)) for name, among in sides.items() if among.any()}


def share_estimate(chosen: NDArray[np.bool_], among: NDArray[np.bool_], groups: Sequence[str]) -> Estimate:
    """Return which share of the images in `among` is chosen, with its interval by group.

    Where none or all of them are chosen every round says the same; the interval is then the exact one, as if each group
    were one image.
    """
    value = float(share(chosen, among, np.ones((1, len(chosen))))[0])
    if value in (0.0, 1.0):
        parts = len({group for group, is_among in zip(groups, among, strict=True) if is_among})
        return rate_estimate(round(value) * parts, parts)
    return bootstrap(value, lambda times: share(chosen, among, times), multiplicities(groups))


def share(chosen: NDArray[np.bool_], among: NDArray[np.bool_], times: Weights) -> Weights:
    """Return which share of the images in `among` is chosen, per round: (rounds,). NaN in rounds without any.

    Args:
        times: (rounds, images), how often each image counts.
    """
    weights = times * among
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * chosen).sum(axis=1) / weights.sum(axis=1))


def defective(rows: Sequence[EvaluationRow]) -> NDArray[np.bool_]:
    """Return which of the images are defective."""
    return np.array([not row.is_good for row in rows])


def failed(rows: Sequence[EvaluationRow]) -> NDArray[np.bool_]:
    """Return which of the images fail."""
    return np.array([row.verdict == "fail" for row in rows])


def _gap(one: Evaluation, other: Evaluation, name: str, times: Weights) -> Weights:
    return _drawn(one, name, times) - _drawn(other, name, times)


def _drawn(measured: Evaluation, name: str, times: Weights) -> Weights:
    """Return a figure of `compared_figures` for each bootstrap round: (rounds,)."""
    is_defective = defective(measured.rows)
    match name:
        case "image_auroc":
            return counts.auroc(image_counts(_scores(measured), is_defective, times))
        case "found":
            return share(failed(measured.rows), is_defective, times)
        case "false_rejects":
            return share(failed(measured.rows), ~is_defective, times)
    assert measured.maps is not None
    histograms, of_maps = measured.maps.ranked.histograms, times[:, list(measured.maps.rows)]
    negative = of_maps @ histograms.negative
    if name == "pixel_auroc":
        return counts.auroc(Counts(of_maps @ histograms.pixels, negative))
    return counts.area_to(Counts(of_maps @ histograms.regions, negative), PRO_LIMIT)


def _scores(measured: Evaluation) -> list[float]:
    return [row.score for row in measured.rows]
