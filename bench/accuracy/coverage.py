"""The false rejects of thresholds that were found on few images: many draws, each counted on the images it left.

The unit of the promise is a photograph of a fresh part, in which each part counts alike; so is the count.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from model_store.bundle import open_bundle
from model_store.promise import least_count
from training.calibration.thresholds import conformal_quantile, threshold
from training.data.dataset import test_images
from training.evaluation.rows import GOOD
from training.parallel_inspection import inspect_images
from training.progress import Count

Drawn = NDArray[np.bool_]
Floats = NDArray[np.float64]
ROUNDING = 1e-9
"""Of shares and counts that are compared with what is promised."""


@dataclass(frozen=True)
class GoodPopulation:
    """Scores of good images of one line, each with the part that it shows."""

    scores: tuple[float, ...]
    groups: tuple[str, ...]

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(set(self.groups))


@dataclass(frozen=True)
class CoveragePlan:
    """What is drawn, and what is promised."""

    sizes: tuple[int, ...] = (50, 100, 300)
    """Images of a calibration; whole parts are drawn until they are reached."""
    draws: int = 200
    quantile: float = 0.98
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class CoverageRow:
    """What one rule rejects, over all draws of one size. Shares are in [0, 1]."""

    rule: str
    images: int
    parts: float
    """In the mean over draws."""
    can_promise: bool
    """Whether so many parts can promise the share 1 - quantile at all, by this rule's own count."""
    mean: float
    low: float
    """The 5 % quantile over draws; `high`: the 95 % quantile."""
    high: float
    kept: float
    """The share of draws whose false rejects are at most 1 - quantile."""
    kept_by_law: float | None = None
    """The same as the exact law has it, with the chance in the images that were left; None: parts with several."""


@dataclass(frozen=True)
class CoverageRule:
    """A way to find a threshold, and what it counts."""

    name: str
    threshold: Callable[[Sequence[float], Sequence[str], CoveragePlan], float]
    confident: bool = False
    """Whether its promise has a confidence; else it holds on average over draws."""
    by_image: bool = False
    """Whether it takes each image for a part of its own."""


def largest_of_each_part(scores: Sequence[float], groups: Sequence[str], plan: CoveragePlan) -> float:
    """Return the confident rank among the parts' largest scores: a promise for whole parts."""
    largest: dict[str, float] = {}
    for score, group in zip(scores, groups, strict=True):
        largest[group] = max(score, largest.get(group, -math.inf))
    return threshold(tuple(largest.values()), plan.quantile, plan.confidence)


RULES = (
    CoverageRule("on average", lambda scores, groups, plan: conformal_quantile(scores, plan.quantile, groups)),
    CoverageRule(
        "with confidence",
        lambda scores, groups, plan: threshold(scores, plan.quantile, plan.confidence, groups),
        confident=True,
    ),
)
"""The rules in use."""
RIVALS = (
    CoverageRule(
        "on average, images taken for parts",
        lambda scores, groups, plan: conformal_quantile(scores, plan.quantile),
        by_image=True,
    ),
    CoverageRule(
        "with confidence, images taken for parts",
        lambda scores, groups, plan: threshold(scores, plan.quantile, plan.confidence),
        confident=True,
        by_image=True,
    ),
    CoverageRule("with confidence, largest of each part", largest_of_each_part, confident=True),
)
"""Rules for comparison; where each image is a part of its own, they are the ones in use."""


def measure_coverage(population: GoodPopulation, plan: CoveragePlan) -> list[CoverageRow]:
    """Return for each size and rule the false rejects over all draws.

    Raises:
        ValueError: if a size leaves too few images to count a share of 1 - quantile on.
    """
    _refuse_too_large(population, plan)
    alone = population.parts == len(population.scores)
    rows = []
    for size in plan.sizes:
        draws = list(_draws(population, size, plan))
        parts = float(np.mean([len(set(np.asarray(population.groups)[drawn])) for drawn in draws]))
        for rule in RULES if alone else RULES + RIVALS:
            rates = np.array([_false_rejects(population, drawn, rule, plan) for drawn in draws])
            by_law = _kept_by_law(rule, len(population.scores) - size, size, plan) if alone else None
            rows.append(replace(_row(rule, size, parts, rates, plan), kept_by_law=by_law))
    return rows


def _refuse_too_large(population: GoodPopulation, plan: CoveragePlan) -> None:
    at_least = math.ceil(1 / (1 - plan.quantile))
    left = len(population.scores) - max(plan.sizes)
    if min(plan.sizes) < 1 or left < at_least:
        raise ValueError(
            f"--sizes is {','.join(map(str, plan.sizes))}, and there are {len(population.scores)} scores: a size must "
            f"be at least 1 and leave at least {at_least} images to count on; give more scores or smaller sizes"
        )


def _draws(population: GoodPopulation, size: int, plan: CoveragePlan) -> Iterator[Drawn]:
    """Yield for each draw which images calibrate, as bool: whole parts, until there are `size` images."""
    names, part_of = np.unique(np.asarray(population.groups), return_inverse=True)
    images = np.bincount(part_of)
    rng = np.random.Generator(np.random.Philox([plan.seed, size]))
    for _ in range(plan.draws):
        order = rng.permutation(len(names))
        enough = int(np.searchsorted(np.cumsum(images[order]), size)) + 1
        yield np.isin(part_of, order[:enough])


def _false_rejects(population: GoodPopulation, drawn: Drawn, rule: CoverageRule, plan: CoveragePlan) -> float:
    """Return the share of the other images above the rule's threshold, each part alike."""
    scores, groups = np.asarray(population.scores), np.asarray(population.groups)
    limit = rule.threshold(scores[drawn].tolist(), groups[drawn].tolist(), plan)
    _, part_of = np.unique(groups[~drawn], return_inverse=True)
    of_parts = np.bincount(part_of, weights=scores[~drawn] > limit) / np.bincount(part_of)
    return float(of_parts.mean())


def _row(rule: CoverageRule, size: int, parts: float, rates: Floats, plan: CoveragePlan) -> CoverageRow:
    low, high = np.quantile(rates, [0.05, 0.95])
    needed = least_count(plan.quantile, plan.confidence if rule.confident else None)
    return CoverageRow(
        rule.name,
        size,
        parts,
        can_promise=(size if rule.by_image else parts) >= needed,
        mean=float(rates.mean()),
        low=float(low),
        high=float(high),
        kept=float(np.mean(rates <= 1 - plan.quantile + ROUNDING)),
    )


def _kept_by_law(rule: CoverageRule, left: int, size: int, plan: CoveragePlan) -> float:
    """Return the chance that of `left` fresh images at most 1 - quantile lie above the k-th smallest of `size` scores.

    Their number follows a beta-binomial law (size + 1 - k, k).
    """
    ranks = range(1, size + 1)  # as scores: the threshold is then the rank
    rank = round(rule.threshold(ranks, [str(number) for number in ranks], plan))
    return float(betabinom.cdf(math.floor(left * (1 - plan.quantile) + ROUNDING), left, size + 1 - rank, rank))


def read_scores(files: Sequence[Path]) -> GoodPopulation:
    """Return the good images' scores of reports of `glad evaluate --json`, or of CSV files.

    A CSV file has a column `score`, and may have one that ends in `group`. Parts of different files are different ones.

    Raises:
        ValueError: for a file without usable scores; names it.
    """
    scores, groups = [], []
    for number, file in enumerate(files):
        found = _rows_of_csv(file) if file.suffix.lower() == ".csv" else _rows_of_report(file)
        if not found:
            raise ValueError(f"{file} has no good image: give a report of `glad evaluate --json` with good images")
        for place, (score, group) in enumerate(found):
            if not math.isfinite(score):
                raise ValueError(f"{file}: the score of good image {place + 1} is {score}; give finite ones")
            scores.append(score)
            groups.append(f"{number}:{group or f'#{place}'}")
    return GoodPopulation(tuple(scores), tuple(groups))


def _rows_of_report(file: Path) -> list[tuple[float, str]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return [(float(row["score"]), str(row.get("group") or "")) for row in rows if row["defect"] == GOOD]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no report of `glad evaluate --json`, nor named .csv: {error!r}") from error


def _rows_of_csv(file: Path) -> list[tuple[float, str]]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        rows = csv.DictReader(opened)
        column = next((name for name in rows.fieldnames or () if name.endswith("group")), None)
        if "score" not in (rows.fieldnames or ()):
            raise ValueError(f"{file} has columns {rows.fieldnames}; it needs `score`, and may have one of groups")
        try:
            return [(float(row["score"]), row[column] if column else "") for row in rows]
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {rows.line_num} of {file} has a score that is no number: {error}") from error


def inspect_population(bundle: Path, data: Path, progress: Count) -> GoodPopulation:
    """Return the scores of the good labelled images of `data`, inspected with a bundle; slow.

    Raises:
        DataError, BundleError: as they are opened.
    """
    opened = open_bundle(bundle)
    good = [image for image in test_images(data) if image.defect == GOOD]
    found = inspect_images(opened.path, opened.manifest.settings, [image.path for image in good], progress=progress)
    scores = tuple(result.score for result in found)
    return GoodPopulation(scores, tuple(image.group or image.path.name for image in good))
