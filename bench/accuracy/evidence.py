"""What the evidence of a memory is worth when it is read in other ways, chosen without a single label of a defect.

The yardstick reads the length of each difference from the nearest good patch. Here differences are averaged as vectors
over a window first, and weighed by a comparator that is learnt from synthetic anomalies (`glad.residual_comparator`).

Whether that helps must not be decided on anomalies that the comparator has learnt from, nor on parts that it has seen:
each kind of anomaly is held out in turn, and half of the parts; the half that was not learnt from is measured. The
reading with the highest mean over the kinds is chosen, and only that one meets the test images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glad.embedding import top_mean
from glad.images.placement import Fitted, fit
from glad.images.preparation import prepare_fitted
from glad.residual_comparator import ResidualComparator, SecondMoments, average_vectors, fit_residual_comparator
from model_store.manifest import CalibrationKind
from training.data.dataset import read_pixels
from training.metrics.image_metrics import image_auroc
from training.progress import Progress
from training.synthesis.anomalies import KINDS, make_anomaly
from training.yardstick.patch_memory import (
    EmbeddedImage,
    LearntMemory,
    LearntYardstick,
    calibrated,
    good_scores,
    inspect_one,
)

LEAST_VISIBLE = 30
"""Pixels that an anomaly must have changed: about half a place of the grid."""


@dataclass(frozen=True)
class EvidencePlan:
    """What is tried, and on how many synthetic anomalies."""

    windows: tuple[int, ...] = (1, 3, 5, 7)
    shrinkage: float = 0.4
    anomalies: int = 936
    """In all, spread evenly over kinds and good images."""
    kinds: tuple[str, ...] = KINDS
    seed: int = 0


@dataclass(frozen=True)
class Reading:
    """A way to read the differences from a memory."""

    window: int
    learnt: bool
    """By a comparator; otherwise by length."""

    def __str__(self) -> str:
        how = "comparator" if self.learnt else "length"
        return f"{how}, averaged {self.window}×{self.window}" if self.window > 1 else how


@dataclass(frozen=True)
class ReadingOutcome:
    """How well a reading ranks anomalies of kinds that it has not learnt from above good images of other parts."""

    reading: Reading
    by_kind: Mapping[str, float]
    """Image AUROC, the mean of both halves of the parts."""

    @property
    def mean(self) -> float:
        """Return the mean over the kinds."""
        return fmean(self.by_kind.values())


@dataclass(frozen=True, eq=False)
class Sample:
    """A good image, or one with a synthetic anomaly, and its difference from a memory without its own part."""

    differences: Tensor
    """(C, h, w) float16."""
    judged: Tensor
    """(h, w) bool."""
    changed: Tensor
    """(h, w) bool: the judged places that the anomaly has changed; none on a good image."""
    group: int
    kind: str
    """"" of a good image."""


@dataclass(frozen=True, eq=False)
class EvidenceStudy:
    """The readings that were tried, best first, and the detector that the best one makes."""

    outcomes: tuple[ReadingOutcome, ...]
    detector: LearntYardstick


def study_evidence(
    paths: Sequence[Path], memory: LearntMemory, plan: EvidencePlan, progress: Progress
) -> EvidenceStudy:
    """Return what each reading of the memory finds, and the best one, calibrated.

    Args:
        paths: of the memory's good images, in its order.
        memory: of the frozen yardstick.
        plan: what is tried.

    Raises:
        ValueError: if the images are of fewer than two parts in either half, or an anomaly cannot be made.
    """
    began = time.perf_counter()
    samples = [*_good_samples(memory, progress), *_anomalous_samples(paths, memory, plan, progress)]
    outcomes = sorted(_tried(samples, plan, memory.top, progress), key=lambda one: one.mean, reverse=True)
    detector = _learn(outcomes[0].reading, memory, samples, plan)
    return EvidenceStudy(tuple(outcomes), replace(detector, seconds=memory.seconds + time.perf_counter() - began))


def _sample(memory: LearntMemory, image: EmbeddedImage, changed: Tensor, group: int, kind: str) -> Sample:
    """Return an image's differences from the memory without its own part."""
    differences = memory.bank.residuals(image.features.float(), image.judged, without=group)
    return Sample(differences.half(), image.judged, changed & image.judged, group, kind)


def halves(groups: Sequence[int], seed: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return two halves of the parts, drawn by the seed.

    Raises:
        ValueError: if there are fewer than four parts.
    """
    parts = sorted(set(groups))
    if len(parts) < 4:
        raise ValueError(
            f"{len(parts)} parts; the evidence is learnt on half of them and measured on the other: give at least 4"
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(parts))
    first = frozenset(parts[i] for i in order[: len(parts) // 2])
    return first, frozenset(parts) - first


def _good_samples(memory: LearntMemory, progress: Progress) -> Iterator[Sample]:
    for done, (image, number) in enumerate(zip(memory.good.images, memory.numbers, strict=True), start=1):
        yield _sample(memory, image, torch.zeros_like(image.judged), number, "")
        progress("good images against other parts", done, len(memory.numbers))


def _anomalous_samples(
    paths: Sequence[Path], memory: LearntMemory, plan: EvidencePlan, progress: Progress
) -> Iterator[Sample]:
    embedder, using = memory.embedder, memory.embedder.configuration
    # Rounds of all kinds go to one half of the parts and the other in turn: two rounds, and each half knows each kind.
    sides = [
        [at for at, part in enumerate(memory.numbers) if part in half] for half in halves(memory.numbers, plan.seed)
    ]
    for turn in range(plan.anomalies):
        round_, kind = divmod(turn, len(plan.kinds))
        side = sides[round_ % 2]
        at = side[(round_ // 2 * len(plan.kinds) + kind) % len(side)]
        damaged, mask = _damaged(fit(read_pixels(paths[at]), using.side), plan.kinds[kind], plan.seed, turn)
        image = embedder.embed_prepared(prepare_fitted(damaged, using.preparation, embedder.backbone.mean))
        changed = F.max_pool2d(torch.from_numpy(mask)[None].float(), using.embedding.stride)[0] > 0
        yield _sample(memory, image, changed, memory.numbers[at], plan.kinds[kind])
        progress("synthetic anomalies", turn + 1, plan.anomalies)


def _damaged(fitted: Fitted, kind: str, seed: int, turn: int) -> tuple[Fitted, NDArray[np.bool_]]:
    """Return an image with an anomaly of a kind, and which of its pixels changed: (side, side)."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7011, turn])))
    placement, unit = fitted.placement, fitted.pixels.astype(np.float32) / 255
    pair = make_anomaly(kind, rng, unit, placement.valid_pixels(), placement.scale, least_visible=LEAST_VISIBLE)
    return replace(fitted, pixels=np.round(pair.anomalous * 255).astype(np.uint8)), pair.mask


def _tried(samples: Sequence[Sample], plan: EvidencePlan, top: float, progress: Progress) -> Iterator[ReadingOutcome]:
    first, second = halves([one.group for one in samples], plan.seed)
    for done, window in enumerate(plan.windows, start=1):
        averaged = [_averaged(one, window) for one in samples]
        ways = [
            _by_kind(
                [one for one in averaged if one.group in learnt_from],
                [one for one in averaged if one.group in measured_on],
                window,
                plan,
                top,
            )
            for learnt_from, measured_on in ((first, second), (second, first))
        ]
        for learnt in (False, True):
            found = {kind: fmean(way[learnt][kind] for way in ways) for kind in plan.kinds}
            yield ReadingOutcome(Reading(window, learnt), found)
        progress("readings, each kind held out in turn", done, len(plan.windows))


def _averaged(sample: Sample, window: int) -> Sample:
    return replace(sample, differences=average_vectors(sample.differences.float(), sample.judged, window).half())


def _by_kind(
    learning: Sequence[Sample],
    measured: Sequence[Sample],
    window: int,
    plan: EvidencePlan,
    top: float,
) -> dict[bool, dict[str, float]]:
    """Return per reading (learnt or not) the image AUROC of each kind, which the comparator did not learn from."""
    good = moments([one for one in learning if not one.kind])
    kinds = {kind: moments([one for one in learning if one.kind == kind]) for kind in plan.kinds}
    found: dict[bool, dict[str, float]] = {False: {}, True: {}}
    for held_out in plan.kinds:
        others = [kinds[kind] for kind in plan.kinds if kind != held_out]
        fitted = fit_residual_comparator(good, sum_of(others), window=window, shrinkage=plan.shrinkage)
        # The vectors are averaged already, so the comparator of this window must not average them again.
        weighed = replace(fitted, window=1)
        shown = [one for one in measured if one.kind in ("", held_out)]
        defective = np.array([bool(one.kind) for one in shown])
        for learnt in (False, True):
            scores = [_score(one, weighed if learnt else None, top) for one in shown]
            found[learnt][held_out] = image_auroc(scores, defective)
    return found


def _score(averaged: Sample, comparator: ResidualComparator | None, top: float) -> float:
    differences = averaged.differences.float()
    if comparator is None:
        return top_mean(differences.norm(dim=0), averaged.judged, top)
    return top_mean(comparator.distances(differences, averaged.judged), averaged.judged, top)


def moments(averaged: Sequence[Sample]) -> SecondMoments:
    """Return the second moments of good images' judged places, or of the places that anomalies have changed.

    Raises:
        ValueError: without images.
    """
    if not averaged:
        raise ValueError(
            "a kind of anomaly has no image among half of the parts: raise the number of anomalies, or name fewer kinds"
        )
    places = (one.changed if one.kind else one.judged for one in averaged)
    return sum_of(
        [SecondMoments.from_places(one.differences[:, where].T) for one, where in zip(averaged, places, strict=True)]
    )


def sum_of(parts: Sequence[SecondMoments]) -> SecondMoments:
    """Return the second moments of all parts together."""
    return SecondMoments(torch.stack([part.total for part in parts]).sum(dim=0), sum(part.count for part in parts))


def _learn(reading: Reading, memory: LearntMemory, samples: Sequence[Sample], plan: EvidencePlan) -> LearntYardstick:
    """Return the detector of a reading, learnt from all parts and all kinds."""
    bank = memory.bank
    averaged = [_averaged(one, reading.window) for one in samples]
    clean = [one for one in averaged if not one.kind]
    comparator = ResidualComparator(torch.eye(len(averaged[0].differences)), reading.window)
    if reading.learnt:
        comparator = fit_residual_comparator(
            moments(clean),
            moments([one for one in averaged if one.kind]),
            window=reading.window,
            shrinkage=plan.shrinkage,
        )
    weighed = replace(comparator, window=1)
    results = [
        inspect_one(Path(), image, partial(_weighed, one, weighed), memory.top)
        for image, one in zip(memory.good.images, clean, strict=True)
    ]
    scores = good_scores(results, memory.good.groups, CalibrationKind.ESTIMATE)
    size = bank.patches.nbytes + comparator.weights.nbytes

    def distances(image: EmbeddedImage) -> Tensor:
        return comparator.distances(bank.residuals(image.features, image.judged), image.judged)

    return calibrated(f"memory, {reading}", memory.embedder, distances, scores, size)


def _weighed(averaged: Sample, comparator: ResidualComparator, _: EmbeddedImage) -> Tensor:
    return comparator.distances(averaged.differences.float(), averaged.judged)


def study_figures(study: EvidenceStudy, plan: EvidencePlan) -> dict[str, Any]:
    """Return the study as plain JSON."""
    tried = [
        {"reading": str(one.reading), "mean": round(one.mean, 6), "by_kind": dict(one.by_kind)}
        for one in study.outcomes
    ]
    return {"plan": asdict(plan), "chosen": tried[0]["reading"], "tried": tried}
