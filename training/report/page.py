"""The page of a report: the verdict first, then what it rests on, then what it takes to repeat it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from training.evaluation.tables import Table
from training.html_page import data_url, render_template
from training.report.contents import LossCurve, StageTime, TrainingReport
from training.report.plots import ROUNDING, good_scores, loss_plot

TEMPLATE = "training.html.j2"
FRAMINGS = {
    "letterbox": "each image is seen whole, scaled to {side} × {side} pixels",
    "stretch": "each image is seen whole, stretched to {side} × {side} pixels",
    "tiles": "each image is seen in tiles of {side} × {side} pixels",
}


def page(report: TrainingReport, pictures: Path) -> str:
    """Return the page as one self-contained HTML text.

    Args:
        report: what it says.
        pictures: the folder where the report's pictures lie; one that is not there is left out.
    """
    inlined = _inlined(report, pictures)
    calibration = report.calibration
    return render_template(
        TEMPLATE,
        report=report,
        title=f"Training of {report.product} {report.version}".strip(),
        origin=origin_in_words(report),
        state=state_in_words(report),
        promise="" if any(report.promise in warning for warning in report.warnings) else report.promise,
        duration=in_hours(report.seconds) if report.stages else "",
        calibration=calibration,
        histogram=data_url("png", good_scores(calibration)) if calibration is not None else None,
        verdicts=_verdicts(report),
        good=[(one, inlined.get(one.picture or "")) for one in report.pictures.good],
        found=found_table(report.quality.get("synthetic_sensitivity")),
        sensitivity=inlined.get(report.pictures.sensitivity or ""),
        anomalies=[(one, inlined[one.picture]) for one in report.pictures.anomalies if one.picture in inlined],
        course=inlined.get(report.pictures.course or ""),
        sheet=inlined.get(report.pictures.sheet or ""),
        curves=[(curve, data_url("png", loss_plot(curve)), _of_curve(curve)) for curve in report.curves if curve.loss],
        stages=_stage_table(report.stages, report.curves),
        exports=_export_table(report),
        gated=_gated(report),
        seen=FRAMINGS.get(report.framing, report.framing).format(side=report.resolution),
        commands=next_commands(report),
        recipe=recipe_as_toml(report.recipe),
        software=Table(("package", "version"), tuple(report.software.items())),
    )


def origin_in_words(report: TrainingReport) -> str:
    """Return what was trained on what, where and when, in a line."""
    data, parts = report.data, [f"Recipe {report.recipe.get('name', 'without a name')}"]
    if "train_images" in data:
        counted = report.quality.get("calibration", {}).get("calibration_images", data.get("calibration"))
        parts.append(f"{data['train_images']} good images to train on; thresholds from {counted}")
    if report.machine:
        parts.append(report.machine)
    return ". ".join([*parts, f"{report.made_at:%Y-%m-%d %H:%M} UTC"])


def state_in_words(report: TrainingReport) -> str:
    """Return the verdict in a sentence."""
    if not report.finished:
        return "This training has not ended: the page shows how far it has come."
    if report.calibration is None:
        return "Trained, and not calibrated: without thresholds it gives no verdict."
    if not report.warnings:
        return "Trained and calibrated. Nothing speaks against measuring it on defects now."
    what = "one thing" if len(report.warnings) == 1 else f"{len(report.warnings)} things"
    return f"Trained and calibrated, but look at {what} before it is used."


def in_hours(seconds: float) -> str:
    """Return a time as people say it, such as "7 min 12 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def next_commands(report: TrainingReport) -> list[tuple[str, str]]:
    """Return the next steps, each with its command."""
    if not report.finished or report.calibration is None:
        return []
    folder, data = shlex.quote(report.folder), shlex.quote(report.data.get("path") or "DIR")
    return [
        ("Measure it on labelled images, good and defective", f"glad evaluate {folder} --data {data}"),
        ("Put it into the store and use it", f"glad bundle publish {folder} --activate"),
        (
            "Find the thresholds anew, when more good images have come or the camera or the light has changed",
            f"glad calibrate {folder} --data {data} --keep-settings",
        ),
    ]


def recipe_as_toml(recipe: Mapping[str, Any]) -> str:
    """Return a recipe as the text of a .toml file, which `glad train` reads; what is None is left out."""
    return tomlkit.dumps(_without_none(recipe))


def _without_none(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _without_none(inner) for name, inner in value.items() if inner is not None}
        case list() | tuple():
            return [_without_none(inner) for inner in value]
        case _:
            return value


def _inlined(report: TrainingReport, folder: Path) -> dict[str, str]:
    files = {name: folder / name for name in report.pictures.files}
    kinds = {".jpg": "jpeg", ".png": "png"}
    return {name: data_url(kinds[file.suffix], file.read_bytes()) for name, file in files.items() if file.is_file()}


def found_table(record: Mapping[str, Any] | None) -> Table | None:
    """Return what is found of synthetic defects, a row for each kind; None: it was not measured.

    Args:
        record: `synthetic_sensitivity` of a manifest's quality.
    """
    if record is None:
        return None
    contrasts: Mapping[str, str] = record["contrast_grey_levels"]
    cells = {(line["kind"], line["contrast"]): _found_cell(line) for line in record["lines"]}
    learnt = {line["kind"]: line["trained_on"] for line in record["lines"]}
    rows = tuple(
        (
            kind,
            {True: "yes", False: "no"}.get(known, "not known"),
            *(cells.get((kind, name), "–") for name in contrasts),
        )
        for kind, known in learnt.items()
    )
    return Table(("kind", "trained on", *(f"{name} contrast ({levels})" for name, levels in contrasts.items())), rows)


def _found_cell(line: Mapping[str, Any]) -> str:
    every = f"{line['all']['found']} of {line['all']['anomalies']}"
    return f"({every})" if line["from_px"] is None else f"from {line['from_px']:g} px; {every}"


def _verdicts(report: TrainingReport) -> dict[str, int]:
    """Return how many of the good images get each verdict."""
    if report.calibration is None:
        return {}
    given = [report.calibration.verdict(score - ROUNDING).value for score in report.calibration.good_scores]
    return {name: given.count(name) for name in ("pass", "review", "fail")}


def _of_curve(curve: LossCurve) -> str:
    """Return the course of a loss in words."""
    part = max(1, len(curve.loss) // 10)
    first, last = math.fsum(curve.loss[:part]) / part, math.fsum(curve.loss[-part:]) / part
    speed = "" if curve.images_per_s is None else f", {curve.images_per_s:.3g} images per second"
    return f"from {first:.3g} to {last:.3g} in {curve.steps[-1] + 1} steps{speed}"


def _stage_table(stages: Sequence[StageTime], curves: Sequence[LossCurve]) -> Table:
    speeds = {curve.stage: curve.images_per_s for curve in curves}
    rows = [_stage_row(stage, speeds.get(stage.name)) for stage in stages]
    if rows:
        total = sum(stage.seconds for stage in stages)
        memory = max(stage.peak_memory_bytes for stage in stages)
        rows.append(("all together", in_hours(total), _gigabytes(memory), "", ""))
    return Table(("stage", "time", "largest memory", "images per second", ""), tuple(rows))


def _stage_row(stage: StageTime, speed: float | None) -> tuple[str, ...]:
    notes = [] if stage.finished else ["not ended"]
    if stage.resumed:
        notes.append("stopped and resumed once" if stage.resumed == 1 else f"stopped and resumed {stage.resumed} times")
    shown = "" if speed is None else f"{speed:.3g}"
    return stage.name, in_hours(stage.seconds), _gigabytes(stage.peak_memory_bytes), shown, ", ".join(notes)


def _gigabytes(amount: int) -> str:
    return f"{amount / 2**30:.1f} GiB" if amount else "–"


def _export_table(report: TrainingReport) -> Table:
    rows = tuple(
        (
            f"{export.engine}: {proof.runner}",
            "equal" if proof.passed else "NOT equal",
            f"{proof.verdict_flips} of {proof.images}",
            f"{proof.largest_score_difference:.1e}",
        )
        for export in report.exports
        for proof in export.proofs
    )
    return Table(("export", "beside PyTorch", "other verdicts", "largest difference of a score"), rows)


def _gated(report: TrainingReport) -> str:
    share = report.quality.get("gate", {}).get("good_parts_gated_at_most")
    if share is None:
        return ""
    return (
        f"Images that are too dark, too bright, blurred or without the part go to people without a score. At most "
        f"{100 * share:.1f} % of the good parts do, as long as they come from the same line."
    )
