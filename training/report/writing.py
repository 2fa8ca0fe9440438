"""Writes the report of a training: at its end, after an export, and anew from a run or a bundle."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from model_store.bundle import Bundle, BundleParts
from model_store.engines.export_manifest import EXPORT_NAME, Export
from model_store.files import replace_file
from model_store.manifest import EXPORTS, REPORT
from training.data.data_warnings import data_warnings
from training.finetune.reconstruction_watch import COURSE, course_sheet
from training.html_page import as_jpeg, render_template
from training.recipe import RecipeBase
from training.report.contents import (
    REPORT_HTML,
    REPORT_JSON,
    DescribedBundle,
    ExportShown,
    Pictures,
    TrainingReport,
    read_report,
    report_warnings,
)
from training.report.page import page
from training.report.pictures import PICTURES, FinishedModels, draw_anomalies, draw_good_images
from training.report.run_records import machine_in_words, read_curves, read_stages
from training.training_run import MARK

COURSE_PICTURE = "course.jpg"
SHEET_OF_RUN = "synthetic-anomalies.png"
"""In a run's pictures: the anomalies that are trained with."""
SHEET_PICTURE = "synthetic-anomalies.jpg"
SHEET_WIDTH = 900
SENSITIVITY_PICTURE = "synthetic-sensitivity.png"
"""In a run's folder: what share of synthetic anomalies is found, by size."""
QUALITY, SHEET_QUALITY = 80, 60


@dataclass(frozen=True)
class RunRecord:
    """What a report takes from a run besides the bundle."""

    run: Path
    target: Path
    """The bundle's folder."""
    data: Path | None = None
    """The folder of images; None: not known."""


def write_readme(run: Path, target: Path, command: str) -> None:
    """Write README.txt, which says what the folder of a run is, and what may be deleted."""
    folders = {"run": shlex.quote(str(run)), "target": shlex.quote(str(target))}
    text = render_template(
        "run_readme.txt.j2", product=target.parent.name, version=target.name, command=command, **folders
    )
    replace_file(run / "README.txt", (text + "\n").encode())


def report_training(
    record: RunRecord,
    models: FinishedModels,
    recipe: RecipeBase,
    described: BundleParts,
    *,
    say: Callable[[str], None],
) -> tuple[Path, ...]:
    """Draw the pictures and write report.html and report.json into the run's folder.

    Returns:
        The files that the bundle takes: the page, the JSON and the pictures. None where the report failed, which is
        said: it must not cost the bundle.
    """
    try:
        return _report_training(record, models, recipe, described)
    except Exception as error:
        for old in (REPORT_HTML, REPORT_JSON):
            (record.run / old).unlink(missing_ok=True)
        say(f"warning: the bundle has no report of its training: {type(error).__name__}: {error}")
        return ()


def _report_training(
    record: RunRecord, models: FinishedModels, recipe: RecipeBase, described: BundleParts
) -> tuple[Path, ...]:
    folder = record.run / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    unusual = described.quality.get("calibration", {}).get("most_unusual", ())
    good = draw_good_images(models, unusual, folder)
    anomalies = draw_anomalies(models, recipe.synthesis, folder, seed=recipe.seed)
    pictures = Pictures(
        good=good, anomalies=anomalies, course=_course(folder), sheet=_sheet(folder), sensitivity=_sensitivity(folder)
    )
    report = new_report(record, described, pictures)
    written = write_files(report, folder, record.run / REPORT_HTML)
    return (*written, *(folder / name for name in pictures.files))


def new_report(record: RunRecord, described: DescribedBundle, pictures: Pictures) -> TrainingReport:
    """Return the report of a training that has ended."""
    origin, settings = described.provenance, described.settings
    of_data = () if record.data is None else data_warnings(record.data)
    report = TrainingReport(
        product=described.product,
        version=described.version,
        title=described.title,
        folder=str(record.target),
        made_at=datetime.now(UTC).replace(microsecond=0),
        machine=machine_in_words(),
        command=origin.command,
        recipe=origin.recipe,
        seed=origin.seed,
        software=origin.software,
        data={**origin.data, "path": "" if record.data is None else str(record.data), "digest": _digest(record.run)},
        resolution=settings.resolution,
        framing=settings.framing.kind,
        calibration=described.calibration,
        quality=dict(described.quality),
        stages=read_stages(record.run),
        curves=read_curves(record.run),
        pictures=pictures,
    )
    return report.model_copy(update={"warnings": report_warnings(report, of_data)})


def _digest(run: Path) -> str:
    """Return the digest of the images of a run; "" where there is no run."""
    mark = run / MARK
    return str(json.loads(mark.read_text(encoding="utf-8"))["images"]) if mark.is_file() else ""


def write_files(report: TrainingReport, pictures: Path, html: Path) -> tuple[Path, Path]:
    """Write a report's page, and the JSON beside it under the same name.

    Args:
        report: to be written.
        pictures: the folder where its pictures lie.
        html: the page's file.
    """
    html.parent.mkdir(parents=True, exist_ok=True)
    as_json = html.with_suffix(".json")
    replace_file(as_json, (report.model_dump_json(indent=2) + "\n").encode())
    replace_file(html, page(report, pictures).encode())
    return html, as_json


def renew_report(run: Path, bundle: Bundle) -> Path | None:
    """Write the run's report again, with the bundle's hash and its exports; return the page, None if there is none."""
    report = read_report(run)
    if report is None:
        return None
    return write_files(with_bundle(report, bundle), run / PICTURES, run / REPORT_HTML)[0]


def with_bundle(report: TrainingReport, bundle: Bundle) -> TrainingReport:
    """Return a report with its bundle's hash, and the exports that lie in it."""
    return report.model_copy(update={"bundle_hash": bundle.hash, "exports": tuple(_exports(bundle))})


def report_of_bundle(bundle: Bundle, html: Path) -> tuple[Path, Path]:
    """Write the report of a bundle: that of its training, or what its manifest tells where that is not there."""
    folder = bundle.path / REPORT
    report = read_report(folder) or report_from_manifest(bundle)
    report = report.model_copy(update={"folder": str(bundle.path)})  # where it lies by now
    return write_files(with_bundle(report, bundle), folder, html)


def report_from_manifest(bundle: Bundle) -> TrainingReport:
    """Return what a bundle's manifest tells of its training: without times, curves and pictures."""
    unknown = RunRecord(bundle.path / "no run", bundle.path)
    report = new_report(unknown, bundle.manifest, Pictures())
    return report.model_copy(update={"machine": "", "made_at": bundle.manifest.provenance.created_at})


def report_of_run(run: Path, html: Path) -> tuple[Path, Path]:
    """Write the report of a run anew: of a training that has ended, or of what there is of one that goes on."""
    report = read_report(run) if (run / REPORT_JSON).is_file() else None
    if report is None or not report.finished:
        report = _unfinished(run)
    fresh = {"stages": read_stages(run) or report.stages, "curves": read_curves(run) or report.curves}
    report = report.model_copy(update=fresh)
    return write_files(report, run / PICTURES, html)


def _unfinished(run: Path) -> TrainingReport:
    """Return the report of a training that has no bundle yet."""
    recipe: Mapping[str, Any] = json.loads((run / MARK).read_text(encoding="utf-8"))["recipe"]
    folder = run / PICTURES
    drawn = Pictures(course=_course(folder), sheet=_sheet(folder)) if folder.is_dir() else Pictures()
    report = TrainingReport(
        product=run.resolve().name,
        version="",
        finished=False,
        made_at=datetime.now(UTC).replace(microsecond=0),
        machine=machine_in_words(),
        command="",
        recipe=dict(recipe),
        seed=int(recipe.get("seed", 0)),
        software={},
        data={"digest": _digest(run)},
        resolution=int(recipe["settings"]["resolution"]),
        framing=str(recipe["settings"]["framing"]["kind"]),
        stages=read_stages(run),
        curves=read_curves(run),
        pictures=drawn,
    )
    return report.model_copy(update={"warnings": report_warnings(report, ())})


def _exports(bundle: Bundle) -> Sequence[ExportShown]:
    found = []
    for file in sorted((bundle.path / EXPORTS).glob(f"[!.]*/{EXPORT_NAME}")):
        try:
            export = Export.model_validate_json(file.read_bytes())
        except (OSError, ValueError):  # one that this version cannot read serves nobody, and is told elsewhere
            continue
        if export.bundle == bundle.hash:
            found.append(ExportShown(engine=export.engine, proofs=export.proofs))
    return found


def _course(folder: Path) -> str | None:
    sheet = course_sheet(folder.parent / COURSE)
    if sheet is None:
        return None
    (folder / COURSE_PICTURE).write_bytes(as_jpeg(sheet, quality=QUALITY))
    return COURSE_PICTURE


def _sensitivity(folder: Path) -> str | None:
    file = folder.parent / SENSITIVITY_PICTURE
    if not file.is_file():
        return None
    shutil.copyfile(file, folder / file.name)
    return file.name


def _sheet(folder: Path) -> str | None:
    file = folder / SHEET_OF_RUN
    if not file.is_file():
        return None
    with Image.open(file) as sheet:
        pixels = sheet.convert("RGB")
    pixels.thumbnail((SHEET_WIDTH, 10 * SHEET_WIDTH))
    pixels.save(folder / SHEET_PICTURE, "JPEG", quality=SHEET_QUALITY)
    return SHEET_PICTURE
