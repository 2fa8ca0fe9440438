"""The command of `glad bench` about accuracy: gate, what the quality gate stops."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, print_table, progress_shown, write_figures

if TYPE_CHECKING:
    from bench.accuracy.gate import StoppedImages

CELL_PX = 116
ABREAST = 7


def gate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    *,
    data: Annotated[Path, typer.Option(help="Labelled images: DIR/test/good, DIR/test/<defect>.")],
    learn: Annotated[
        Path | None, typer.Option(help="Good images to learn the gate from. Default: the bundle's own gate.")
    ] = None,
    other: Annotated[list[Path] | None, typer.Option(help="Folder of images of another part; may be repeated.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Good images that are spoiled, and at most so many others.")] = 60,
    sheet: Annotated[Path | None, typer.Option(help="Also one image spoiled in every way, as a JPEG.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what the quality gate stops: good parts, defects, and good images that are spoiled on purpose."""
    from bench.accuracy.gate import at_the_gate, empty_fixture, other_parts
    from bench.support.inputs import some_images
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
