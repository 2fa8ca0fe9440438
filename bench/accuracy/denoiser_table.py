"""Figures of denoisers on the same images, with intervals by image, and each row's paired difference to the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accuracy.denoiser_reading import DenoiserReading
from bench.accuracy.twin_images import StudyImages
from training.evaluation.tables import Table
from training.metrics.bootstrap import Estimate, bootstrap, multiplicities
from training.metrics.counts import Weights
from training.studies.ablation import VariantResult

RANKING = ("image_auroc", "pixel_auroc", "pro")
LEFT, ELSEWHERE = "defect_left", "error_elsewhere"
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

Measure = Callable[[Weights], Weights]
"""How often each image counts, (rounds, images), to a figure of each round."""


@dataclass(frozen=True)
class DenoiserRow:
    """The figures of one way of training: the mean over its seeds, and each seed's own."""

    title: str
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    """To the first row, paired by image."""
    by_seed: Mapping[str, Mapping[str, float]]


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
        title: {seed: _figures(one, images) for seed, one in of_seeds.items()} for title, of_seeds in readings.items()
    }
    first = next(iter(measured.values()))
    return tuple(_row(title, of_seeds, first, draws) for title, of_seeds in measured.items())


def _row(
    title: str,
    of_seeds: Mapping[str, Mapping[str, Measure]],
    first: Mapping[str, Mapping[str, Measure]],
    draws: NDArray[np.int64],
) -> DenoiserRow:
    once = np.ones((1, draws.shape[1]))
    names = (*RANKING, LEFT, ELSEWHERE)

    def mean(runs: Mapping[str, Mapping[str, Measure]], name: str) -> Measure:
        return lambda times: np.mean([run[name](times) for run in runs.values()], axis=0)

    def less(name: str) -> Measure:
        return lambda times: mean(of_seeds, name)(times) - mean(shared, name)(times)

    shared = {seed: run for seed, run in first.items() if seed in of_seeds} or first  # pairs seeds where it can
    return DenoiserRow(
        title,
        {name: bootstrap(float(mean(of_seeds, name)(once)[0]), mean(of_seeds, name), draws) for name in names},
        {name: bootstrap(float(less(name)(once)[0]), less(name), draws) for name in names},
        {seed: {name: float(run[name](once)[0]) for name in names} for seed, run in of_seeds.items()},
    )


def _figures(reading: DenoiserReading, images: StudyImages) -> dict[str, Measure]:
    ranked, defect = reading.ranked(images), images.defective
    found: dict[str, Measure] = {name: _ranking(ranked, defect, name) for name in RANKING}
    chosen, once = np.flatnonzero(defect), np.ones(len(reading.squares))
    found[LEFT] = lambda times: _ratio(times[:, chosen], reading.kept, reading.squares)
    found[ELSEWHERE] = lambda times: np.sqrt(_ratio(times[:, chosen], reading.elsewhere, once))
    return found


def _ratio(times: Weights, above: Weights, below: Weights) -> Weights:
    """Return the ratio of two sums over defects in each round; NaN in a round that drew none."""
    with np.errstate(invalid="ignore"):
        return np.asarray((times @ above) / (times @ below))


def _ranking(ranked: VariantResult, defect: Sequence[bool], name: str) -> Measure:
    return lambda times: ranked.figures(defect, times)[name]


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


def denoiser_figures(rows: Sequence[DenoiserRow]) -> list[dict[str, Any]]:
    """Return the rows for JSON."""
    return [asdict(row) for row in rows]
