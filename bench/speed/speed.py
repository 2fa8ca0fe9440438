"""`glad bench speed`: images per second beside what is found, of bundles on each engine and of the yardsticks.

Everything inspects the same test images one by one in this process, from the file to score and map, with the same
number of threads. So the times of one run can be divided by each other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from bench.support.gaussian_yardstick import learn_yardsticks
from glad.settings.method import MethodSettings
from glad.settings.presets import MVTEC
from model_store.backbones.loading import load_backbone
from model_store.bundle import Bundle, open_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import EngineUnusable
from model_store.engines.loading import load
from model_store.inspection import inspect
from model_store.manifest import Form, Verdict, form_of
from training.data.dataset import TestImage, good_split
from training.data.image_files import read_pixels
from training.evaluation.rows import GOOD
from training.metrics.bootstrap import Estimate
from training.metrics.image_metrics import image_auroc_estimate
from training.progress import Progress
from training.recipe import CalibrationRecipe
from training.yardstick.patch_memory import YardstickConfiguration, learn_memory

Score = Callable[[Path], float]
"""Inspects an image file."""


@dataclass(frozen=True)
class SpeedPlan:
    """What to measure."""

    bundles: tuple[Path, ...]
    engines: tuple[str, ...] = ("torch",)
    """As GLAD_ENGINE has them. The first serves every bundle; of the others those that can."""
    yardstick: YardstickConfiguration | None = None
    """None: no yardstick is learnt."""
    device: str = "cpu"


@dataclass(frozen=True)
class SpeedRow:
    """One way to inspect the images."""

    name: str
    engine: str
    image_auroc: Estimate
    good_ms: float
    """The median of the good images; those of a line are nearly all good."""
    defective_ms: float | None
    scores: tuple[float, ...]
    verdicts: tuple[Verdict, ...] | None
    """None: it has no thresholds."""

    @property
    def images_per_s(self) -> float:
        """Return how many good images a second it inspects."""
        return 1000 / self.good_ms

    def flips(self, other: SpeedRow) -> int | None:
        """Return of how many images the verdict is another one than in that row; None: one has no verdicts."""
        if self.verdicts is None or other.verdicts is None:
            return None
        return sum(one is not two for one, two in zip(self.verdicts, other.verdicts, strict=True))


@dataclass(frozen=True, eq=False)
class _Method:
    """A way to inspect, ready to be timed."""

    name: str
    engine: str
    score: Score
    verdict: Callable[[float], Verdict] | None


def measure_speed(data: Path, images: Sequence[TestImage], plan: SpeedPlan, progress: Progress) -> list[SpeedRow]:
    """Return a row for each bundle on each engine, and for each yardstick.

    Raises:
        BundleError: if a bundle cannot be opened.
        EngineUnusable: if the first of the engines cannot serve a bundle.
    """
    opened = [open_bundle(folder) for folder in plan.bundles]
    groups = [image.group or str(image.path) for image in images]
    methods = [*_bundle_methods(opened, plan), *_yardsticks(data, plan, progress)]
    return [_measured(method, images, groups, progress) for method in methods]


def _bundle_methods(bundles: Sequence[Bundle], plan: SpeedPlan) -> Iterator[_Method]:
    for bundle in bundles:
        manifest = bundle.manifest
        name, seen = f"{manifest.product} {manifest.version}", set[str]()
        for engine in plan.engines:
            try:
                loaded = load(bundle, plan.device, EngineSpec.parse(engine))
            except EngineUnusable:
                if engine == plan.engines[0]:
                    raise
                continue  # such as a bundle without an export
            seen.add(loaded.engine)
            models = loaded.parts.assemble()
            verdict = None if manifest.calibration is None else manifest.calibration.verdict
            score = partial(_inspected, models=models, settings=manifest.settings, device=plan.device)
            yield _Method(name, loaded.engine, score, verdict)
            if form_of(manifest.components) is Form.PIXEL and len(seen) == 1:
                walked = partial(score, settings=published_steps(manifest.settings))
                yield _Method(f"{name}, the authors' {MVTEC.steps} steps", loaded.engine, walked, verdict)


def published_steps(settings: MethodSettings) -> MethodSettings:
    """Return the settings with as many steps as the authors' published ones have."""
    return settings.changed(steps=MVTEC.steps)


def _inspected(path: Path, *, models: Any, settings: MethodSettings, device: str) -> float:
    (found,) = inspect([read_pixels(path)], models, settings, device=device)
    return found.score


def _yardsticks(data: Path, plan: SpeedPlan, progress: Progress) -> Iterator[_Method]:
    if plan.yardstick is None:
        return
    network = load_backbone(plan.yardstick.backbone).backbone.cut(max(plan.yardstick.embedding.levels))
    memory = learn_memory(data, good_split(data, CalibrationRecipe().holdout, 0), network, plan.yardstick, progress)
    for learnt in learn_yardsticks(memory, progress):
        score = partial(_score_of_one, learnt.inspect)
        yield _Method(learnt.name, f"torch-float32, {plan.device}", score, learnt.calibration.verdict)


def _score_of_one(inspect_all: Callable[[Sequence[Path]], Iterator[Any]], path: Path) -> float:
    (found,) = inspect_all([path])
    return float(found.score)


def _measured(method: _Method, images: Sequence[TestImage], groups: Sequence[str], progress: Progress) -> SpeedRow:
    method.score(images[0].path)  # the first call is another one
    scores, milliseconds = [], []
    for done, image in enumerate(images, start=1):
        began = time.perf_counter()
        scores.append(method.score(image.path))
        milliseconds.append(1e3 * (time.perf_counter() - began))
        progress(f"{method.name} on {method.engine}", done, len(images))
    defect = [image.defect != GOOD for image in images]
    of_good = [ms for ms, bad in zip(milliseconds, defect, strict=True) if not bad]
    of_defects = [ms for ms, bad in zip(milliseconds, defect, strict=True) if bad]
    return SpeedRow(
        name=method.name,
        engine=method.engine,
        image_auroc=image_auroc_estimate(scores, defect, groups),
        good_ms=statistics.median(of_good),
        defective_ms=statistics.median(of_defects) if of_defects else None,
        scores=tuple(scores),
        verdicts=None if method.verdict is None else tuple(method.verdict(score) for score in scores),
    )


def same_bundle_first(rows: Sequence[SpeedRow], row: SpeedRow) -> SpeedRow:
    """Return the first row of the same bundle: what other engines are compared with."""
    return next(one for one in rows if one.name == row.name)


def plot_speed(rows: Sequence[SpeedRow], title: str) -> Figure:
    """Return a figure: images a second to the right, I-AUROC with its interval upwards, a point for each row."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        found = row.image_auroc
        axes.errorbar(
            [row.images_per_s],
            [found.value],
            yerr=[[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]],
            fmt="os^Dvph*"[number % 8],
            color=f"C{number % 10}",
            capsize=3,
            label=f"{row.name} ({row.engine})",
        )
    axes.set_xscale("log")
    axes.set_xlabel(f"good images a second, one by one, {torch.get_num_threads()} threads")
    axes.set_ylabel("I-AUROC, 95 % interval")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False, fontsize="small")
    return figure


def row_figures(row: SpeedRow) -> dict[str, Any]:
    """Return a row as plain JSON, without what the images got one by one."""
    told = {name: value for name, value in asdict(row).items() if name not in {"scores", "verdicts"}}
    return {**told, "images_per_s": row.images_per_s}
