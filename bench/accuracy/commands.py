"""The commands of `glad bench` about accuracy: gate, what the quality gate stops; coverage, what thresholds keep."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, print_table, progress_shown, write_figures
from model_store.cli.common import BundleFolder, parsed_bundle

if TYPE_CHECKING:
    from bench.accuracy.coverage import CoveragePlan, CoverageRow, GoodPopulation
    from bench.accuracy.gate import StoppedImages

CELL_PX = 116
ABREAST = 7


def gate(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Labelled images: DIR/test/good, DIR/test/<defect>.")
    ],
    learn: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Good images to learn the gate from. Default: the bundle's own gate."
        ),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="Folder of images of another part; may be repeated."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Good images that are spoiled, and at most so many others.")] = 60,
    sheet: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also one image spoiled in every way, as a JPEG.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what the quality gate stops: good parts, defects, and good images that are spoiled on purpose.

    Example: glad bench gate bracket --data my-product
    """
    from bench.accuracy.gate import at_the_gate, empty_fixture, other_parts
    from bench.support.command_line import some_images
    from model_store.bundle import open_bundle
    from model_store.cli.common import explained
    from training.data.dataset import good_split, test_images
    from training.quality_gate import learn_gate

    with explained(ValueError), progress_shown("images") as progress:
        manifest = open_bundle(bundle).manifest
        settings, limits, labelled = manifest.settings, manifest.gate, test_images(data)
        split = None if learn is None else good_split(learn, 0.2, 0)
        if split is not None:
            limits = learn_gate(split, settings, progress=progress).gate
        if limits is None:
            raise ValueError(f"{bundle} has no quality gate: give one with `glad gate`, or good images with --learn")
        found = at_the_gate(limits, settings, labelled, count, progress)
        if (data / "sample.json").is_file():
            found.append(empty_fixture(limits, settings))
        found += [
            other_parts(limits, settings, f"{one.name}: another part", some_images(one, count)) for one in other or ()
        ]
        if sheet is not None:
            _draw(sheet, next(image.path for image in labelled if image.defect == "good"))
    _show(found)
    write_figures(json_file, {"limits": limits.model_dump(exclude={"view"}), "sets": [asdict(one) for one in found]})


def _show(found: list[StoppedImages]) -> None:
    rows = [
        (
            one.name,
            str(one.images),
            one.expected or "nothing",
            f"{one.stopped / one.images:.1%}",
            ", ".join(f"{reason} {number}" for reason, number in sorted(one.reasons.items())) or "–",
        )
        for one in found
    ]
    print_table(("images", "number", "expected", "stopped", "first reason"), rows)


def _draw(file: Path, path: Path) -> None:
    """Write one image, spoiled in every way, each with its name above it, as a JPEG."""
    import numpy as np
    from PIL import Image

    from bench.accuracy.gate import spoiled
    from bench.accuracy.spoiled import SPOILINGS
    from glad.images.rendering import contact_sheet

    lines = []
    for start in range(0, len(SPOILINGS), ABREAST):
        names = [spoiling.name for spoiling in SPOILINGS[start : start + ABREAST]]
        pictures = [spoiled(path, start + place) for place in range(len(names))]
        lines.append(contact_sheet([pictures], cell=CELL_PX, titles=[name[:18] for name in names]))
    width = max(line.shape[1] for line in lines)
    padded = [
        np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=line[0, 0, 0]) for line in lines
    ]
    Image.fromarray(np.concatenate(padded)).save(file, "JPEG", quality=80)


def coverage(
    *,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Report of `glad evaluate --json`, or CSV with columns score and group; may be repeated.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE", parser=parsed_bundle, help="Without --scores: the bundle to inspect with; slow."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Without --scores: DIR/test/good holds the good images."),
    ] = None,
    sizes: Annotated[str, typer.Option(help="Images of a calibration; whole parts are drawn.")] = "50,100,300",
    draws: Annotated[int, typer.Option(min=2, help="Calibrations of each size.")] = 200,
    quantile: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of good parts that must not fail.")] = 0.98,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the rules that have one.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure what thresholds from few images keep: calibrate on many draws of good images, and count false rejects on
    the rest.

    Example: glad bench coverage --scores evaluation.json
    """
    from bench.accuracy.coverage import CoveragePlan, measure_coverage
    from model_store.cli.common import explained, numbers

    with explained(ValueError):
        plan = CoveragePlan(numbers("--sizes", sizes, int) or (), draws, quantile, confidence, seed)
        population = _good_population(scores or [], bundle, data)
        rows = measure_coverage(population, plan)
    _show_coverage(rows, plan)
    figures = {
        "images": len(population.scores),
        "parts": population.parts,
        "plan": asdict(plan),
        "rows": [asdict(row) for row in rows],
    }
    write_figures(json_file, figures)


def _good_population(scores: list[Path], bundle: Path | None, data: Path | None) -> GoodPopulation:
    from bench.accuracy.coverage import inspect_population, read_scores

    if scores and bundle is None and data is None:
        return read_scores(scores)
    if scores or bundle is None or data is None:
        raise ValueError("give either --scores, or both --bundle and --data")
    with progress_shown("images") as progress:
        return inspect_population(bundle, data, progress)


def _show_coverage(rows: list[CoverageRow], plan: CoveragePlan) -> None:
    lines = [
        (
            str(row.images),
            f"{row.parts:.0f}",
            row.rule,
            "yes" if row.can_promise else "no",
            f"{row.mean:.2%}",
            f"{row.low:.2%} to {row.high:.2%}",
            f"{row.kept:.1%}",
            "–" if row.kept_by_law is None else f"{row.kept_by_law:.1%}",
        )
        for row in rows
    ]
    wanted = f"draws with at most {100 * (1 - plan.quantile):.3g} %"
    header = ("images", "parts", "rule", "can promise", "false rejects, mean", "in 9 of 10 draws", wanted, "by law")
    print_table(header, lines)
