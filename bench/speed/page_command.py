"""`glad bench page`: how soon the page at a line shows something, as a command with a table."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench.support.command_line import JsonFile, print_table, progress_shown, write_figures
from model_store.cli.common import BundleFolder, explained

WHAT = {
    "first_paint_ms": "first paint, nothing of the page known yet",
    "again_ms": "first paint, opened again",
    "after_event_ms": "verdict on screen, after its event",
    "after_end_ms": "verdict on screen, after the inspection's end",
    "picture_ms": "picture on screen, after the event",
}
"""Name of a figure -> what the table calls it."""


def page(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Images. Default: rendered parts of the sample product."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="So many are posted, one after the other.")] = 50,
    openings: Annotated[int, typer.Option(min=1, help="So often the page is opened anew for its first paint.")] = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure in a browser how soon the page at a line paints, and how soon a verdict is on screen after its event.

    Needs Playwright and a Chromium; serves the bundle for as long as it takes.

    Example: glad bench page bracket --images 10
    """
    import training.evaluation.tables  # noqa: F401 - what print_table needs is missed now, not at the end
    from bench.speed.page import NotMeasured, measure_page
    from bench.support.command_line import some_images
    from bench.support.servers import NotServed, served

    with explained(NotServed, NotMeasured), TemporaryDirectory(prefix="glad-page-") as scratch:
        files = some_images(data or _rendered_parts(Path(scratch)), images)
        with served(bundle, "auto") as service, progress_shown("verdicts") as progress:
            contents = [file.read_bytes() for file in files]
            posted = [contents[number % len(contents)] for number in range(images)]
            found = measure_page(service.url, service.product, posted, openings, progress).to_json()
    rows = [
        (WHAT[name], *(f"{of[which]:.0f}" for which in ("median", "worst"))) for name, of in found["summary"].items()
    ]
    print_table(("ms", "median", "worst"), rows)
    write_figures(json_file, found)


def _rendered_parts(folder: Path) -> Path:
    from training.sample_product import write_dataset

    write_dataset(folder, seed=1, train=0, calibration=0, good=8, defects=4)
    return folder
