"""`glad bench yardstick`: yardsticks and bundles on one class's images; `evidence` and `readings`: other readings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.support.command_line import JsonFile, print_table, write_figures
from model_store.cli.common import BundleFolder, BundleFolders

if TYPE_CHECKING:
    from bench.accuracy.yardstick_figures import DetectorResult
    from model_store.backbones.base import FrozenBackbone
    from training.data.dataset import TestImage
    from training.parallel_inspection import ImageResult
    from training.progress import Progress
    from training.yardstick.patch_memory import LearntYardstick, YardstickConfiguration

TIMED = 8
"""Good images whose time is taken, and as many defective ones; one more of each goes before, unmeasured."""
HALF_BYTES = 2


def yardstick(
    *,
    data: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="One class: DIR/train/good, DIR/test/good, DIR/test/<defect>."),
    ],
    bundle: BundleFolders = None,
    backbone: Annotated[
        str | None, typer.Option(help="package:NAME, a folder or a hub id. Default: the frozen yardstick's.")
    ] = None,
    side: Annotated[int | None, typer.Option(min=32, help="Of the square image. Default: the frozen one's.")] = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Take times; leave them out where other work runs beside.")
    ] = True,
    strata: Annotated[
        int, typer.Option(min=0, help="Also I-AUROC within so many strata of the images' brightness; 0: not.")
    ] = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure what a pretrained network gives without training, beside bundles: the same images, split and rules.

    Example: glad bench yardstick --data my-product --bundle bracket
    """
    from bench.accuracy.brightness import brightness_of, strata_of, within_brightness
    from bench.accuracy.yardstick_figures import compare_detectors
    from model_store.cli.common import explained
    from training.data.dataset import test_images
    from training.evaluation.rows import GOOD
    from training.progress import named_bars
    from training.yardstick.patch_memory import YARDSTICK

    changes = {name: value for name, value in (("backbone", backbone), ("side", side)) if value is not None}
    using = YARDSTICK.model_copy(update=changes)
    with explained(ValueError), named_bars() as show:
        images = test_images(data)
        results = list(yardstick_results(data, images, using, bundle or [], timing=timing, progress=show))
        figures, paired = compare_detectors(results, images, data, show)
        content = figures_content(data, using, figures, paired)
        if strata:
            brightness = brightness_of([image.path for image in images], show)
            defect = [image.defect != GOOD for image in images]
            within = within_brightness(figures, brightness, strata_of(brightness, strata), defect)
            content["within_brightness"] = within
    show_methods(figures, paired, results[0].name)
    if strata:
        show_within(within)
    write_figures(json_file, content)


def evidence(
    *,
    data: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="One class: DIR/train/good, DIR/test/good, DIR/test/<defect>."),
    ],
    anomalies: Annotated[int, typer.Option(min=26, help="Synthetic anomalies to learn and to choose by.")] = 936,
    windows: Annotated[str, typer.Option(help="Sides of the windows over which differences are averaged.")] = "1,3,5,7",
    side: Annotated[
        int | None, typer.Option(min=32, help="Of the square image. Default: the frozen yardstick's.")
    ] = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Take times; leave them out where other work runs beside.")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Measure what a memory's evidence gains by averages and by a learnt comparator, beside the yardstick.

    The reading is chosen on synthetic anomalies of kinds held out in turn, and on parts held out; the test images meet
    the chosen one only.

    Example: glad bench evidence --data my-product
    """
    from bench.accuracy.evidence import EvidencePlan, study_evidence, study_figures
    from bench.accuracy.yardstick_figures import compare_detectors
    from model_store.backbones.loading import load_backbone
    from model_store.cli.common import explained, numbers
    from training.data.dataset import good_split, test_images
    from training.progress import named_bars
    from training.recipe import CalibrationRecipe
    from training.yardstick.patch_memory import YARDSTICK, learn_memory, learn_patch_memory

    with explained(ValueError), named_bars() as show:
        using = YARDSTICK if side is None else YARDSTICK.model_copy(update={"side": side})
        plan = EvidencePlan(numbers("--windows", windows, int) or EvidencePlan.windows, anomalies=anomalies)
        images, split = test_images(data), good_split(data, CalibrationRecipe().holdout, 0)
        network = load_backbone(using.backbone).backbone.cut(max(using.embedding.levels))
        memory = learn_memory(data, split, network, using, show)
        first = learn_patch_memory(memory, show)
        study = study_evidence((*split.train, *split.calibration), memory, plan, show)
        results = [_inspected(one, images, network, timing=timing, progress=show) for one in (first, study.detector)]
        figures, paired = compare_detectors(results, images, data, show)
    tried = [
        (str(one.reading), f"{one.mean:.3f}", *(f"{one.by_kind[kind]:.2f}" for kind in plan.kinds))
        for one in study.outcomes
    ]
    print_table(("reading", "mean", *plan.kinds), tried)
    typer.echo("")
    show_methods(figures, paired, first.name)
    content = figures_content(data, using, figures, paired)
    write_figures(json_file, {**content, "choice": study_figures(study, plan)})


def readings(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="One class: DIR/train/good, DIR/test/good, DIR/test/<defect>."),
    ],
    exposures: Annotated[
        int, typer.Option(min=0, help="Photographs of each good test image, to see how far scores move; 0: not.")
    ] = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure what the denoiser says of an image when it is asked in other ways: with other noise, with none, inverted.

    Each reading alone, and beside the memory with the weight of the bundle's own. Without thresholds: what is found is
    an oracle's.

    Example: glad bench readings bracket --data my-product
    """
    from bench.accuracy.readings import BundleUnderTest, ScaledReadings, read_images, spreads, with_spreads
    from bench.accuracy.yardstick_figures import compare_detectors
    from model_store.bundle import open_bundle
    from model_store.cli.common import explained
    from training.data.dataset import good_split, test_images
    from training.progress import named_bars
    from training.recipe import CalibrationRecipe

    with explained(ValueError), named_bars() as show:
        if exposures == 1:
            raise ValueError("--exposures is 1: a spread takes at least 2; give 0 to leave it out")
        images, split = test_images(data), good_split(data, CalibrationRecipe().holdout, 0)
        under = BundleUnderTest.load(open_bundle(bundle))
        scaled = ScaledReadings.learn(under, split.calibration, show)
        results = read_images(scaled, images, show)
        figures, paired = compare_detectors(results, images, data, show)
        found = spreads(scaled, images, results, exposures, show) if exposures else {}
        figures = with_spreads(figures, found, under.settings.steps)
    show_readings(figures, paired)
    content = {"data": data.name, "exposures": exposures, "methods": figures, "minus_memory_alone": paired}
    write_figures(json_file, content)


def show_readings(figures: Sequence[dict[str, Any]], paired: dict[str, dict[str, Any]]) -> None:
    """Print the figures of `with_spreads` as a table."""
    from training.evaluation.tables import YARDSTICK_HEADER, difference_row, yardstick_row
    from training.metrics.bootstrap import Estimate

    shown = len(YARDSTICK_HEADER) - 2  # without what rests on thresholds
    gap = ("I-AUROC minus memory alone", "found by an oracle at 2 %", "spread / IQR of the good", "UNet calls")
    print_table(
        ("", *YARDSTICK_HEADER[:shown], *gap),
        [
            (
                one["name"],
                *yardstick_row(one)[:shown],
                difference_row(paired[one["name"]])[0] if one["name"] in paired else "–",
                str(Estimate(**one["oracle"]["found"])),
                f"{one['spread']['of_iqr']:.2f}" if one["spread"] else "–",
                str(one["unet_calls"]),
            )
            for one in figures
        ],
    )


def yardstick_results(
    data: Path,
    images: Sequence[TestImage],
    using: YardstickConfiguration,
    bundles: Sequence[Path],
    *,
    timing: bool,
    progress: Progress,
) -> Iterator[DetectorResult]:
    """Yield what each yardstick and each bundle says of the images; all of them are opened before any works."""
    from bench.support.gaussian_yardstick import learn_yardsticks
    from model_store.backbones.loading import load_backbone
    from model_store.bundle import open_bundle
    from training.data.dataset import good_split
    from training.recipe import CalibrationRecipe
    from training.yardstick.patch_memory import learn_memory

    opened = [open_bundle(folder) for folder in bundles]
    split = good_split(data, CalibrationRecipe().holdout, 0)
    network = load_backbone(using.backbone).backbone.cut(max(using.embedding.levels))
    for learnt in learn_yardsticks(learn_memory(data, split, network, using, progress), progress):
        yield _inspected(learnt, images, network, timing=timing, progress=progress)
    for one in opened:
        yield _bundle_result(one.path, images, timing=timing, progress=progress)


def _inspected(
    learnt: LearntYardstick, images: Sequence[TestImage], network: FrozenBackbone, *, timing: bool, progress: Progress
) -> DetectorResult:
    from bench.accuracy.yardstick_figures import DetectorCost, DetectorResult
    from training.yardstick.patch_memory import inspect_all

    paths = [image.path for image in images]
    results = inspect_all(learnt, paths, progress)
    weights = sum(parameter.numel() for parameter in network.state_dict().values()) * HALF_BYTES
    good_ms, defective_ms = image_times(learnt.inspect, images) if timing else (None, None)
    cost = DetectorCost(learnt.seconds if timing else None, good_ms, defective_ms, learnt.model_bytes + weights)
    about = {
        "scales": learnt.embedder.scales,
        "promise": learnt.promise,
        "calibration": learnt.calibration.model_dump(mode="json", exclude={"good_scores"}),
    }
    return DetectorResult(learnt.name, results, learnt.calibration, cost, about)


def _bundle_result(folder: Path, images: Sequence[TestImage], *, timing: bool, progress: Progress) -> DetectorResult:
    """Return what a bundle says by its own settings and thresholds; its quality gate takes no part."""
    from bench.accuracy.yardstick_figures import DetectorCost, DetectorResult
    from model_store.bundle import open_bundle
    from training.parallel_inspection import inspect_images

    bundle = open_bundle(folder)
    manifest, paths = bundle.manifest, [image.path for image in images]
    name = f"{manifest.product} {manifest.version}"
    settings, show = manifest.settings, partial(progress, f"inspecting: {name}")
    results = tuple(inspect_images(folder, settings, paths, keep_maps=True, progress=show))
    one_by_one = partial(inspect_images, folder, settings, workers=1)
    good_ms, defective_ms = image_times(one_by_one, images) if timing else (None, None)
    sizes = [file.bytes for component in manifest.components.values() for file in component.files.values()]
    cost = DetectorCost(None, good_ms, defective_ms, sum(sizes))
    about = {"bundle": bundle.hash, "resolution": settings.resolution}
    return DetectorResult(name, results, manifest.calibration, cost, about)


def image_times(
    inspect: Callable[[Sequence[Path]], Iterator[ImageResult]], images: Sequence[TestImage]
) -> tuple[float | None, float | None]:
    """Return the median milliseconds of a good and of a defective image, taken evenly from all; None: there is none.

    Args:
        inspect: inspects image files one by one, when the next one is asked for.
        images: of the test.
    """
    from training.evaluation.rows import GOOD

    good = [image.path for image in images if image.defect == GOOD]
    defective = [image.path for image in images if image.defect != GOOD]
    return _median_ms(inspect, good), _median_ms(inspect, defective)


def _median_ms(inspect: Callable[[Sequence[Path]], Iterator[ImageResult]], paths: Sequence[Path]) -> float | None:
    few = paths[:: max(1, len(paths) // (TIMED + 1))][: TIMED + 1]
    if len(few) < 2:
        return None
    times = [time.perf_counter() for _ in inspect(few)]
    return 1000 * median(after - before for before, after in pairwise(times))


def figures_content(
    data: Path, using: YardstickConfiguration, figures: Sequence[dict[str, Any]], paired: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what the JSON of a comparison with the yardstick holds."""
    import torch

    from training.yardstick.patch_memory import YARDSTICK

    return {
        "data": data.name,
        "yardstick": using.model_dump(mode="json"),
        "frozen": using == YARDSTICK,
        "threads": torch.get_num_threads(),
        "methods": figures,
        "minus_yardstick": paired,
    }


def show_methods(figures: Sequence[dict[str, Any]], paired: dict[str, dict[str, Any]], first: str) -> None:
    """Print the figures of `detector_figures` as a table, and the differences from the first as another."""
    from training.evaluation.tables import YARDSTICK_HEADER, difference_row, yardstick_row
    from training.metrics.bootstrap import Estimate

    costs = ("training, s", "a good image, ms", "a defective one", "model, MB")
    print_table(
        ("", *YARDSTICK_HEADER, "found by an oracle at 2 %", *costs),
        [
            (one["name"], *yardstick_row(one), str(Estimate(**one["oracle"]["found"])), *_costs(one["cost"]))
            for one in figures
        ],
    )
    typer.echo("")
    print_table((f"minus {first}", *YARDSTICK_HEADER), [(name, *difference_row(one)) for name, one in paired.items()])
    for one in figures:
        if promise := one["about"].get("promise"):
            typer.echo(f"\n{one['name']}: {promise}")


def show_within(within: dict[str, Any]) -> None:
    """Print the figures of `within_brightness` as a table."""
    from training.metrics.bootstrap import Estimate

    typer.echo("")
    darkness = Estimate(**within["darkness_alone"])
    gaps = {name: str(Estimate(**gap)) for name, gap in within["minus_yardstick"].items()}
    print_table(
        (f"I-AUROC within {within['strata']} strata of brightness (darkness alone: {darkness})", "", "minus yardstick"),
        [(name, str(Estimate(**value)), gaps.get(name, "–")) for name, value in within["image_auroc"].items()],
    )


def _costs(cost: dict[str, Any]) -> tuple[str, ...]:
    whole = tuple(cost[name] for name in ("train_seconds", "good_image_ms", "defective_image_ms"))
    size = cost["model_bytes"]
    return (*("–" if one is None else f"{one:.0f}" for one in whole), "–" if size is None else f"{size / 1e6:.1f}")
