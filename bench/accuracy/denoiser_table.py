"""Figures of denoisers on the same images, with intervals by image, and each row's paired difference to the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.accuracy.denoiser_reading import DenoiserReading
from bench.accuracy.twin_images import StudyImages
from training.evaluation.tables import Table
from training.metrics.bootstrap import Estimate, multiplicities, weights_of, with_interval
from training.metrics.counts import Weights
from training.studies.variant_results import VariantResult

RANKING = ("image_auroc", "pixel_auroc", "pro")
LEFT, ELSEWHERE = "defect_left", "error_elsewhere"
FIGURES = (*RANKING, LEFT, ELSEWHERE)
HEADER = (
    "",
    "I-AUROC",
    "against the first",
    "P-AUROC",
    "PRO",
    "against the first",
    "of the defect is left",
    "error elsewhere",
)

Figures = Mapping[str, Weights]
"""Name -> the figure in each round, (rounds,)."""


@dataclass(frozen=True)
class DenoiserRow:
    """The figures of one way of training: the mean over its seeds, and each seed's own."""

    title: str
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    """To the first row, paired by image, and by seed where both have it."""
    by_seed: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class MeasuredReading:
    """The figures of one denoiser: over all images, and over each round's."""

    whole: Figures
    rounds: Figures


def compare_denoisers(
    readings: Mapping[str, Mapping[str, DenoiserReading]], images: StudyImages
) -> tuple[DenoiserRow, ...]:
    """Return a row for each way of training.

    Args:
        readings: title -> seed -> reading; the first row is what the others are held against.
        images: that were read.
    """
    draws = multiplicities([str(image.path) for image in images.tests])
    measured = {
        title: {seed: _measured(one, images, draws) for seed, one in of_seeds.items()}
        for title, of_seeds in readings.items()
    }
    first = next(iter(measured.values()))
    return tuple(_row(title, of_seeds, first) for title, of_seeds in measured.items())


def _row(title: str, of_seeds: Mapping[str, MeasuredReading], first: Mapping[str, MeasuredReading]) -> DenoiserRow:
    shared = [seed for seed in of_seeds if seed in first]
    mean = _mean(of_seeds.values())
    ours, theirs = (_mean(runs[seed] for seed in shared or runs) for runs in (of_seeds, first))
    return DenoiserRow(
        title,
        {name: with_interval(float(mean.whole[name][0]), mean.rounds[name]) for name in FIGURES},
        {
            name: with_interval(
                float(ours.whole[name][0] - theirs.whole[name][0]), ours.rounds[name] - theirs.rounds[name]
            )
            for name in FIGURES
        },
        {seed: {name: float(run.whole[name][0]) for name in FIGURES} for seed, run in of_seeds.items()},
    )


def _mean(runs: Iterable[MeasuredReading]) -> MeasuredReading:
    listed = list(runs)
    whole, rounds = (
        {name: np.mean([getattr(run, side)[name] for run in listed], axis=0) for name in FIGURES}
        for side in ("whole", "rounds")
    )
    return MeasuredReading(whole, rounds)


def _measured(reading: DenoiserReading, images: StudyImages, draws: NDArray[np.int64]) -> MeasuredReading:
    ranked, defect = reading.ranked(images), images.defective
    parts = [_figures(reading, ranked, defect, times) for times in weights_of(draws)]
    rounds = {name: np.concatenate([part[name] for part in parts]) for name in FIGURES}
    return MeasuredReading(_figures(reading, ranked, defect, np.ones((1, len(defect)))), rounds)


def _figures(reading: DenoiserReading, ranked: VariantResult, defect: Sequence[bool], times: Weights) -> Figures:
    of_defects, once = times[:, np.flatnonzero(defect)], np.ones(len(reading.squares))
    return {
        **ranked.figures(defect, times),
        LEFT: _ratio(of_defects, reading.kept, reading.squares),
        ELSEWHERE: np.sqrt(_ratio(of_defects, reading.elsewhere, once)),
    }


def _ratio(times: Weights, above: Weights, below: Weights) -> Weights:
    """Return the ratio of two sums over defects in each round; NaN in a round that drew none."""
    with np.errstate(invalid="ignore"):
        return np.asarray((times @ above) / (times @ below))


def denoiser_table(rows: Sequence[DenoiserRow]) -> Table:
    """Return the rows as a table."""

    def gap(number: int, row: DenoiserRow, name: str) -> str:
        found = row.differences[name]
        return "–" if number == 0 else f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"

    def share(row: DenoiserRow) -> str:
        found = row.figures[LEFT]
        return f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"

    cells = [
        (
            row.title,
            str(row.figures["image_auroc"]),
            gap(number, row, "image_auroc"),
            f"{row.figures['pixel_auroc'].value:.3f}",
            f"{row.figures['pro'].value:.3f}",
            gap(number, row, "pro"),
            share(row),
            f"{row.figures[ELSEWHERE].value:.3f}",
        )
        for number, row in enumerate(rows)
    ]
    return Table(HEADER, tuple(cells))
