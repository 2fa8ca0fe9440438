"""`glad_inspect.train` and `glad_inspect.evaluate`: thin faces of `training`, which is imported when one is called.

Nothing else of this package reaches `training`: who only inspects needs neither it nor what it imports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glad_inspect import file_in_the_way
from glad_inspect.measured import (
    DefectFigures,
    DetectorFigures,
    EvaluatedBundle,
    MeasuredFigure,
    MeasuredImage,
    TrainedBundle,
    UnusualImage,
)

if TYPE_CHECKING:
    from model_store.bundle import Bundle
    from training.evaluation.rows import Evaluation


class TrainingUnavailable(ImportError):
    """What `train` and `evaluate` need is not installed, or another package of its name stands before it."""


@contextmanager
def _training_needed(what: str) -> Iterator[None]:
    """Make it a sentence that the training package cannot be imported here.

    Raises:
        TrainingUnavailable: says what to do.
    """
    _refuse_foreign_package(what)
    try:
        yield
    except ModuleNotFoundError as error:
        from glad.__main__ import extra_for, how_to_install, package_of

        missing = error.name or ""
        extra = extra_for("train", missing)
        if extra is None:
            raise
        raise TrainingUnavailable(
            f"glad_inspect.{what} needs {package_of(missing)}, which is not installed: {how_to_install(extra)}",
            name=missing,
        ) from error


def _refuse_foreign_package(what: str) -> None:
    found = file_in_the_way("training")
    if found is not None:
        raise TrainingUnavailable(
            f"glad_inspect.{what} needs glad-inspect's own package `training`, but Python finds {found} first: "
            "give that another name, or run your program from another folder"
        )


def train(
    recipe: str | Path,
    data: str | Path,
    *,
    product: str | None,
    version: str | None,
    title: str,
    out: str | Path,
    run: str | Path | None,
    confidence: float | None,
    changes: Mapping[str, Any],
    smallest_defect: int | None,
    export: bool | None,
    workers: int | None,
    progress: bool,
) -> TrainedBundle:
    """See `glad_inspect.train`."""
    with _training_needed("train"):
        from typer import echo

        from model_store.cli.common import new_bundle_folder, version_of_now
        from training.checked_training import Wanted, check_before_training
        from training.export.make import export_for_this_device
        from training.export.onnx import ExportFailed
        from training.package import Naming, product_of_folder
        from training.pipeline import train as train_bundle
        from training.progress import named_bars, progress_hidden
        from training.recipe import FeatureRecipe
        from training.report.writing import renew_report
        from training.run_lock import locked_run

        folder, command = Path(data), "glad_inspect.train"
        naming = Naming(product or product_of_folder(folder), version or version_of_now(), title)
        target = new_bundle_folder(Path(out), naming.product, naming.version)
        checkpoints = Path("runs") / naming.product if run is None else Path(run)
        values = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changes.items()]
        wanted = Wanted(str(recipe), folder, checkpoints, target, naming, values, confidence, smallest_defect)
        say = echo if progress else _say_nothing
        with progress_hidden(not progress), named_bars() as show:
            checked = check_before_training(wanted, progress=show, workers=workers)
            chosen, plan = checked.recipe, checked.plan
            with locked_run(checkpoints):
                bundle = train_bundle(
                    chosen, folder, checkpoints, target, naming, command=command, say=say, workers=workers, plan=plan
                )
                exported, problem = None, None
                if isinstance(chosen, FeatureRecipe) if export is None else export:
                    try:
                        made = export_for_this_device(
                            target, folder, checkpoints / "parity", command=command, progress=show
                        )
                        exported, problem = made.folder, "; ".join(made.problems) or None
                    except (ValueError, ExportFailed) as error:
                        problem = str(error)
                page = renew_report(checkpoints, bundle)
    return _trained(bundle, plan.warnings, exported, problem, page)


def _say_nothing(text: str) -> None:
    """Take the place of `print`."""


def _trained(
    bundle: Bundle, warned: tuple[str, ...], export: Path | None, problem: str | None, page: Path | None
) -> TrainedBundle:
    manifest, calibration = bundle.manifest, bundle.manifest.thresholds
    report = manifest.quality["calibration"]
    return TrainedBundle(
        folder=bundle.path,
        product=manifest.product,
        version=manifest.version,
        hash=bundle.hash,
        thresholds=calibration,
        good_images=calibration.good_images,
        promise=report["promise"],
        warning=report.get("warning"),
        unusual=tuple(UnusualImage(one["image"], one["score"]) for one in report.get("most_unusual", ())),
        data_warnings=warned,
        export=export,
        export_problem=problem,
        report=page,
    )


def evaluate(
    bundle: str | Path,
    data: str | Path,
    *,
    version: str | None,
    store: str | Path | None,
    yardstick: bool,
    report: str | Path | None,
    workers: int | None,
    progress: bool,
) -> EvaluatedBundle:
    """See `glad_inspect.evaluate`."""
    with _training_needed("evaluate"):
        from model_store.bundle_lookup import find_bundle
        from model_store.cli.common import find_store
        from training.evaluation.evaluate import evaluate as evaluate_bundle
        from training.evaluation.misses import inspect_worst
        from training.evaluation.record import with_record
        from training.evaluation.report import write_report
        from training.progress import named_bars, progress_hidden
        from training.yardstick.report_row import with_learnt_yardstick

        ref, folder = find_bundle(bundle, find_store(store), version).ref, Path(data)
        with progress_hidden(not progress), named_bars() as show:
            outcome = evaluate_bundle(ref.path, folder, progress=show, command="glad_inspect.evaluate", workers=workers)
            if yardstick:
                outcome = with_learnt_yardstick(outcome, ref.path, folder, progress=show)
            if report is not None:
                outcome = with_record(outcome)
                misses = inspect_worst(ref.path, folder, outcome.rows, 12, progress=partial(show, "worst misses"))
                write_report(outcome, misses, ref.manifest.calibration, Path(report))
    return _evaluated(outcome, None if report is None else Path(report))


def _evaluated(outcome: Evaluation, report: Path | None) -> EvaluatedBundle:
    figures, about = outcome.figures, outcome.figures["bundle"]
    return EvaluatedBundle(
        product=about["product"],
        version=about["version"],
        hash=about["hash"],
        good_images=figures["images"]["good"],
        defective_images=figures["images"]["defect"],
        metrics=_detector(figures),
        by_defect=tuple(_defect(one) for one in figures["by_defect"]),
        yardstick=_detector(figures["yardstick"]) if "yardstick" in figures else None,
        minus_yardstick={name: _figure(one) for name, one in figures.get("minus_yardstick", {}).items()},
        yardstick_note=figures.get("yardstick_note"),
        images=tuple(
            MeasuredImage(row.file, row.defect, row.severity, row.score, row.verdict, row.gated or None)
            for row in outcome.rows
        ),
        report=report,
        figures=figures,
    )


def _detector(figures: Mapping[str, Any]) -> DetectorFigures:
    places = {
        **{f"image_{name}": ("image", name) for name in ("auroc", "ap", "f1_max")},
        **{f"pixel_{name}": ("pixel", name) for name in ("auroc", "ap", "f1_max")},
        **{name: ("pixel", name) for name in ("pro", "aupimo")},
        **{name: ("found_at_its_threshold", name) for name in ("found", "false_rejects")},
    }
    found = {field: figures.get(part, {}).get(name) for field, (part, name) in places.items()}
    return DetectorFigures(**{field: None if one is None else _figure(one) for field, one in found.items()})


def _defect(row: Mapping[str, Any]) -> DefectFigures:
    return DefectFigures(
        defect=row["defect"],
        severity=row["severity"],
        images=row["images"],
        image_auroc=_figure(row["image_auroc"]),
        pixel_auroc=_figure(row["pixel_auroc"]) if "pixel_auroc" in row else None,
        pro=row.get("pro"),
        failed=row.get("failed"),
        passed=row.get("passed"),
    )


def _figure(estimate: Mapping[str, float]) -> MeasuredFigure:
    ends = [estimate[end] if math.isfinite(estimate[end]) else None for end in ("low", "high")]
    return MeasuredFigure(estimate["value"], *ends)
