"""`glad ablate`: what adaptive steps, fusion and ATP gain on one product (the paper's Tables 6 and 7).

All variants inspect the same images with the same noise, autoencoder and features; so the differences are paired, and
their intervals come from bootstrap rounds that draw the same images for both sides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glad.settings.method import ComparatorKind, DoubtfulRange, MethodSettings, NoiseSource
from training.calibration.outcomes import SettingsCandidate
from training.data.dataset import TestImage, read_truth
from training.evaluation.tables import Table
from training.metrics.bootstrap import Estimate, bootstrap, multiplicities
from training.metrics.pixel_metrics import rank_pixels
from training.parallel_inspection import inspect_images
from training.progress import Progress
from training.studies.variant_results import KeptResults, VariantResult

FULL = "ADS + ATP with SAFF (all)"
HEADER = ("variant", "I-AUROC", "against all", "P-AUROC", "against all", "PRO", "against all", "mean step")
EVIDENCE = 8
"""No table of the paper's: what the feature form's score is made of."""
TRAININGS = 9
"""No table of the paper's: bundles of other recipes on the same images."""
TITLES = {
    6: "Components (Table 6)",
    7: "Fixed steps against adaptive (Table 7)",
    EVIDENCE: "Evidence of the feature form",
    TRAININGS: "Other trainings",
}
NOBODY = DoubtfulRange(low=sys.float_info.max, high=sys.float_info.max)
"""A range that no first reading reaches: every image is clearly good without a walk."""
FIXED_SHARES = (350 / 750, 550 / 750, 1.0)
"""The fixed steps of Table 7, as shares of its T = 750."""


@dataclass(frozen=True)
class Variant:
    """A row of the tables: a bundle's weights under settings of its own."""

    name: str
    table: int
    bundle: Path
    settings: MethodSettings


@dataclass(frozen=True)
class AblationRow:
    """A variant's figures, and by how much each differs from the whole method's (paired)."""

    name: str
    table: int
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    denoising_step: float
    scores: tuple[float, ...]
    """Of every image, in their order: for questions that the figures do not answer, such as by severity."""


def variants(
    bundle: Path,
    settings: MethodSettings,
    plain: tuple[Path, float] | None,
    fixed: Sequence[int],
    others: Sequence[tuple[str, Path, MethodSettings]] = (),
) -> tuple[Variant, ...]:
    """Return every row of all tables; those that need a UNet without ATP only where there is one.

    Args:
        bundle: whose every part stands in the last row.
        settings: the bundle's own.
        plain: the bundle without ATP and its delta.
        fixed: steps of Table 7.
        others: bundles of other trainings: name in the table, folder, and settings of their own.

    Raises:
        ValueError: for a fixed step above T, for which the UNet may never have been trained; for a name that is taken.
    """
    if above := [step for step in fixed if step > settings.start]:
        raise ValueError(f"fixed steps {above} lie above the bundle's T of {settings.start}: give smaller ones")
    unfused = settings.changed(fusion={**settings.fusion.model_dump(), "enabled": False})
    rows = []
    if plain is not None:
        folder, delta = plain
        adaptive = SettingsCandidate(settings.start, settings.t_min, delta).settings(unfused)
        rows += [
            Variant("baseline", 6, folder, fixed_at(settings, settings.start)),
            Variant("baseline + ADS", 6, folder, adaptive),
        ]
    rows += [
        Variant("baseline + ATP", 6, bundle, fixed_at(settings, settings.start)),
        Variant("ADS + ATP without SAFF", 6, bundle, unfused),
        *(Variant(f"fixed {step}", 7, bundle, fixed_at(settings, step)) for step in fixed),
        *_evidence_variants(bundle, settings),
        *(Variant(name, TRAININGS, folder, own) for name, folder, own in others),
        Variant(FULL, 6, bundle, settings),
    ]
    names = [row.name for row in rows]
    if taken := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two rows are called {taken[0]!r}: give --against another name")
    return tuple(rows)


def _evidence_variants(bundle: Path, settings: MethodSettings) -> Iterator[Variant]:
    """Yield what only the feature form has: each witness alone, the other source of noise, and who walks."""
    if settings.trigger.comparator is not ComparatorKind.LATENTS:
        return
    for name, weights in (("memory alone", (1, 0)), ("reconstruction alone", (0, 1))):
        evidence = dict(zip(("memory", "reconstruction"), weights, strict=True))
        score = {**settings.score.model_dump(), "evidence": evidence}
        yield Variant(name, EVIDENCE, bundle, settings.changed(score=score, doubtful=None))
    noises = set(NoiseSource) - {settings.noise}
    yield from (Variant(f"noise: {noise}", EVIDENCE, bundle, settings.changed(noise=noise)) for noise in noises)
    if settings.doubtful is not None:
        yield Variant("every image walks", EVIDENCE, bundle, settings.where_all_walk)
    if settings.score.evidence.memory:
        yield Variant("no image walks", EVIDENCE, bundle, settings.changed(doubtful=NOBODY))


def fixed_steps(settings: MethodSettings) -> tuple[int, ...]:
    """Return Table 7's 350, 550 and 750 of T = 750, at the same shares of this T."""
    return tuple(round(share * settings.start) for share in FIXED_SHARES)


def fixed_at(settings: MethodSettings, step: int) -> MethodSettings:
    """Return settings of plain DDIM from one step, the same for every image."""
    return SettingsCandidate(step, 0, 0.0).settings(settings)


def measure(
    chosen: Sequence[Variant],
    images: Sequence[TestImage],
    *,
    progress: Progress,
    workers: int | None = None,
    keep: Path | None = None,
    note: Callable[[], None] = lambda: None,
) -> dict[str, VariantResult]:
    """Inspect every image under every variant; variants with equal weights and settings are walked once.

    Args:
        chosen: the variants.
        images: that each of them inspects.
        progress: shows each variant by its name.
        workers: processes; None: one per core; 1: all in this one.
        keep: folder in which results stay, for a call that goes on after a stop; None: they are not kept.
        note: called after each variant.

    Raises:
        ValueError: for a defect without a mask, because its pixels would count as good ones.
    """
    if unmasked := [image.path for image in images if image.defect != "good" and image.mask is None]:
        raise ValueError(
            f"{unmasked[0]} has no mask ({len(unmasked)} of {len(images)} images): the tables compare pixel figures, "
            "give masks in ground_truth/<defect>"
        )
    kept = None if keep is None else KeptResults(keep, images)
    results: dict[tuple[Path, str], VariantResult] = {}
    for variant in chosen:
        key = variant.bundle, variant.settings.model_dump_json()
        if key not in results:
            results[key] = _measured(variant, images, progress, workers, kept)
            note()
    return {variant.name: results[variant.bundle, variant.settings.model_dump_json()] for variant in chosen}


def _measured(
    variant: Variant, images: Sequence[TestImage], progress: Progress, workers: int | None, kept: KeptResults | None
) -> VariantResult:
    """Return a variant's result: as it was kept, or measured now and kept."""
    if kept is not None and (found := kept.read(variant.bundle, variant.settings)) is not None:
        progress(variant.name, len(images), len(images))
        return found
    result = _measure_one(variant, images, progress, workers)
    if kept is not None:
        kept.write(variant.bundle, variant.settings, result)
    return result


def _measure_one(
    variant: Variant,
    images: Sequence[TestImage],
    progress: Progress,
    workers: int | None,
) -> VariantResult:
    paths = [image.path for image in images]
    inspected = list(
        inspect_images(
            variant.bundle,
            variant.settings,
            paths,
            keep_maps=True,
            progress=partial(progress, variant.name),
            workers=workers,
        )
    )
    maps = [one.placement.restore(one.map) for one in inspected if one.map is not None]
    truths = [read_truth(image.mask, one.placement) for image, one in zip(images, inspected, strict=True)]
    steps = float(np.mean([one.denoising_step for one in inspected]))
    return VariantResult(np.array([one.score for one in inspected]), rank_pixels(maps, truths), steps)


def compare(
    chosen: Sequence[Variant], results: Mapping[str, VariantResult], images: Sequence[TestImage]
) -> tuple[AblationRow, ...]:
    """Return each variant's figures with intervals, and its paired differences to the whole method."""
    defect = [image.defect != "good" for image in images]
    draws = multiplicities([image.group or str(image.path) for image in images])
    whole = results[FULL]

    def estimate(name: str, one: VariantResult) -> Estimate:
        return bootstrap(one.exact(defect)[name], lambda times: one.figures(defect, times)[name], draws)

    def difference(name: str, one: VariantResult) -> Estimate:
        value = one.exact(defect)[name] - whole.exact(defect)[name]
        return bootstrap(
            value, lambda times: one.figures(defect, times)[name] - whole.figures(defect, times)[name], draws
        )

    names = tuple(whole.exact(defect))
    return tuple(
        AblationRow(
            variant.name,
            variant.table,
            {name: estimate(name, results[variant.name]) for name in names},
            {name: difference(name, results[variant.name]) for name in names},
            results[variant.name].denoising_step,
            tuple(results[variant.name].scores.tolist()),
        )
        for variant in chosen
    )


def as_markdown(rows: Sequence[AblationRow]) -> str:
    """Return Tables 6 and 7 as Markdown.

    Each figure stands beside its paired difference to the whole method: below zero where it is worse.
    """
    parts = []
    for table, title in TITLES.items():
        if all(row.table != table for row in rows):
            continue
        shown = [row for row in rows if row.table == table or row.name == FULL]
        parts += [title, Table(HEADER, tuple(_cells(row) for row in shown)).as_markdown()]
    return "\n\n".join(parts)


def _cells(row: AblationRow) -> tuple[str, ...]:
    cells = [row.name]
    for name, figure in row.figures.items():
        gap = row.differences[name]
        cells += [
            f"{figure.value:.3f}",
            "–" if row.name == FULL else f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]",
        ]
    return (*cells, f"{row.denoising_step:.0f}")


def as_json(rows: Sequence[AblationRow], images: Sequence[TestImage]) -> dict[str, Any]:
    """Return rows for JSON; each row's scores are those of `images`, in this order."""
    return {"images": image_names(images), "rows": [asdict(row) for row in rows]}


def image_names(images: Sequence[TestImage]) -> list[str]:
    """Return each image's label and file name, as `as_json` records them."""
    return [f"{image.defect}/{image.path.name}" for image in images]
