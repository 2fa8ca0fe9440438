"""What thresholds can promise, told before hours are spent on them and after.

What K groups can promise at all is what the largest of their scores promises: a fresh part goes beyond it with a chance
of 1 / (K + 1), on average over draws of the groups; with a confidence c over draws, the share of photographs beyond it
is at most p where (1 - p)^K = 1 - c, because at a share of p or more, K independent groups miss all of it with a chance
of (1 - p)^K at most. More groups than it takes allow a lower rank, and with it fewer missed defects.

How the scores came about decides whether that is a promise (`CalibrationKind`). Let M be the memory of good patches of
K groups, S_k the scores of group k against M without its own patches, S the scores of a fresh group against M.

1. A score falls, or stays, when patches are added to a memory: distances to the nearest patch do.
2. Put the fresh group's patches into the memory too, and leave out each group's own in turn. This treats the K + 1
   groups alike, so their scores S'_k, S' are exchangeable, and the conformal quantile of the S'_k holds for S'.
3. S' = S: leaving the fresh group out gives back M. S'_k <= S_k by 1: that memory has the fresh group's patches more.
   The quantile of the S_k is thus no smaller, and holds for S as well.

This is a promise on average. With a confidence over draws it is an estimate: the S_k share one memory and are not
independent given it. All of it needs what else the score uses, such as scales, to be learnt from other images or from
none. A coreset, a score divided by a local density, networks fitted again: 1 or 2 fail, and it is an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_store.manifest import Calibration, CalibrationKind
from model_store.promise import USUAL_CONFIDENCE, CalibrationPromise, is_proven, least_for_one_draw, promise
from training.calibration.thresholds import calibrate
from training.recipe import CalibrationRecipe

_WHY_ESTIMATED = {
    CalibrationKind.LEAVE_GROUP_OUT: "the scores share one memory",
    CalibrationKind.ESTIMATE: "the scores are of other models than the bundle's",
}


@dataclass(frozen=True)
class GoodScores:
    """The results of good images from which thresholds are found; all in one order, that of the images."""

    scores: tuple[float, ...]
    map_peaks: tuple[float, ...]
    """The largest value of each image's map."""
    groups: tuple[str, ...] | None = None
    """The group of each image; None: each is a group of its own."""
    kind: CalibrationKind = CalibrationKind.HELD_OUT


def promise_in_words(
    images: int,
    groups: Sequence[str] | None,
    recipe: CalibrationRecipe,
    kind: CalibrationKind = CalibrationKind.HELD_OUT,
) -> str:
    """Return what thresholds from these good images can promise, and what it would take where that is too little.

    Args:
        groups: the group of each image; None or empty: each is a group of its own.
    """
    parts = len(set(groups)) if groups else images
    found = promise(parts, recipe.fail_quantile, recipe.confidence)
    who = _count(parts, "good image") + ", each counted as a part" if parts == images else _parts_of(parts, images)
    sure = "on average over draws" if found.confidence is None else f"with {_percent(found.confidence)} confidence"
    wanted = f"{_percent(1 - found.quantile)} false rejects"
    why = "" if is_proven(kind, found.confidence) else f"; this is an estimate, because {_WHY_ESTIMATED[kind]}"
    if not found.kept:
        return (
            f"{who}: {wanted} cannot be promised; expect up to {_percent(found.rate)} ({sure}){why}. "
            f"{found.needed} parts would be needed."
        )
    if why:
        return f"{who}: expect at most {wanted}, {sure}{why}, and no promise."
    return f"{who}: at most {wanted} are promised, {sure}{_for_one_draw(found, kind)}."


def thresholds_from_scores(good: GoodScores, recipe: CalibrationRecipe) -> tuple[Calibration, dict[str, Any]]:
    """Return the thresholds, and what they promise as a report for the manifest.

    Raises:
        ValueError: as in `calibrate`.
    """
    calibration = calibrate(good.scores, good.map_peaks, recipe, groups=good.groups, kind=good.kind)
    groups = calibration.groups or calibration.good_images
    found = promise(groups, recipe.fail_quantile, recipe.confidence)
    words = promise_in_words(len(good.scores), good.groups, recipe, good.kind)
    report: dict[str, Any] = {"conformal": found.kept, "groups": groups, "kind": good.kind.value, "promise": words}
    if not found.kept:
        report["warning"] = f"{words} Until then, fail is the largest good score seen."
    return calibration, report


def _for_one_draw(found: CalibrationPromise, kind: CalibrationKind) -> str:
    """Return beside a promise on average what could be promised for the one draw that a user has."""
    best = least_for_one_draw(found, kind)
    if best is None:
        return ""
    return f"; one draw can exceed it, and with {_percent(USUAL_CONFIDENCE)} confidence {_percent(best)} is the least"


def _parts_of(parts: int, images: int) -> str:
    return f"{_count(parts, 'part')} ({_count(images, 'good image')})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
