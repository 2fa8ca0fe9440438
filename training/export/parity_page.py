"""The page of a parity comparison: the verdict in words, then what it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model_store.files import replace_file
from training.evaluation.plots import DEFECT_COLOUR, GOOD_COLOUR, INK
from training.evaluation.tables import Table
from training.export.component_parity import ComponentRow
from training.export.parity import ImageRow, Parity, Summary
from training.export.tolerances import Tolerances
from training.html_page import as_png, data_url, render_template

TEMPLATE = "parity.html.j2"
MOST_ROWS = 20


@dataclass(frozen=True)
class ComparedEngines:
    """The two engines that were compared."""

    reference: str
    """The engine's name for readers, such as `PyTorch`."""
    candidate: str
    software: Mapping[str, str]
    """Name -> version."""


def write_page(parity: Parity, compared: ComparedEngines, path: Path) -> None:
    """Write the page, whole or not at all."""
    replace_file(path, page(parity, compared).encode())


def page(parity: Parity, compared: ComparedEngines) -> str:
    """Return the page as one self-contained HTML text."""
    return render_template(
        TEMPLATE,
        title=f"Parity of {parity.product} {parity.version}",
        origin=f"{compared.candidate} beside {compared.reference} on {parity.device}, {len(parity.images)} images",
        verdict=verdict(parity, compared),
        problems=parity.problems[:MOST_ROWS],
        left_out=max(0, len(parity.problems) - MOST_ROWS),
        limits=_limits(parity.summary, parity.tolerances),
        components=_components(parity),
        images=_images(parity),
        thresholds=parity.thresholds,
        scatter=data_url("png", scatter(parity)),
        software=Table(("software", "version"), tuple(compared.software.items())),
    )


def verdict(parity: Parity, compared: ComparedEngines) -> str:
    """Return one sentence, such as `float32 on ONNX Runtime: equal within tolerance, 0 verdict flips of 40`."""
    outcome = "equal within tolerance" if parity.passed else "NOT equal; it may not replace the reference"
    flips = f"{parity.summary.verdict_flips} verdict flips of {len(parity.images)}"
    if parity.thresholds is None:
        flips = f"no verdicts to compare on {len(parity.images)} images: the bundle is not calibrated"
    undecided = parity.summary.undecided
    ties = f"; rounding decided the denoising step of {undecided}, which are not compared" if undecided else ""
    return f"{parity.precision} on {compared.candidate}: {outcome}, {flips}{ties}"


def scatter(parity: Parity) -> bytes:
    """Return reference score against candidate score with the thresholds, as PNG.

    Scores that are not finite are left out.
    """
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    for defective, label, colour, marker in (
        (False, "good", GOOD_COLOUR, "o"),
        (True, "synthetic anomaly", DEFECT_COLOUR, "^"),
    ):
        rows = [row for row in parity.images if row.defective == defective and _finite(row)]
        pair = [row.reference_score for row in rows], [row.candidate_score for row in rows]
        axis.scatter(*pair, color=colour, marker=marker, alpha=0.75, label=label)
    axis.axline((0, 0), slope=1, color=INK, linewidth=0.8, alpha=0.5)
    _thresholds(axis, parity)
    axis.set(xlabel="reference score", ylabel="candidate score")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return as_png(figure)


def _thresholds(axis: Axes, parity: Parity) -> None:
    if parity.thresholds is None:
        return
    marks = (("review from", parity.thresholds.review, ":"), ("fail from", parity.thresholds.fail, "-"))
    for label, value, style in marks:
        axis.axvline(value, color=INK, linestyle=style, linewidth=1.2, label=label)
        axis.axhline(value, color=INK, linestyle=style, linewidth=1.2)


def _finite(row: ImageRow) -> bool:
    return math.isfinite(row.reference_score) and math.isfinite(row.candidate_score)


def _limits(summary: Summary, tolerances: Tolerances) -> Table:
    rows = tuple(
        (
            name.replace("_", " "),
            f"{getattr(summary, name):.3g}",
            f"{getattr(tolerances, name):g}",
            field.description or "",
        )
        for name, field in type(tolerances).model_fields.items()
    )
    return Table(("what", "found", "limit", "meaning"), rows)


def _components(parity: Parity) -> Table:
    names = dict.fromkeys(row.component for row in parity.components)
    rows = tuple(_component([row for row in parity.components if row.component == name]) for name in names)
    return Table(("model", "largest error", "mean error", "worst at", "dependence on the batch"), rows)


def _component(rows: list[ComponentRow]) -> tuple[str, ...]:
    worst = max(rows, key=lambda row: _badness(row.relative_error))
    mean = max((row.mean_error / row.rms if row.rms else row.mean_error for row in rows), key=_badness)
    moved = max((row.row_difference for row in rows), key=_badness)
    place = ", ".join(filter(None, (worst.detail, f"batch {worst.batch}")))
    return worst.component, f"{worst.relative_error:.2e}", f"{mean:.2e}", place, f"{moved:.2e}"


def _images(parity: Parity) -> Table:
    header = ("image", "reference", "candidate", "difference / unit", "map correlation", "steps", "verdicts")
    worst = sorted(parity.images, key=_severity, reverse=True)[:MOST_ROWS]
    return Table(header, tuple(_image(row) for row in worst))


def _severity(row: ImageRow) -> tuple[bool, float]:
    return row.flipped, _badness(row.relative_difference)


def _image(row: ImageRow) -> tuple[str, ...]:
    return (
        row.file,
        f"{row.reference_score:.6g}",
        f"{row.candidate_score:.6g}",
        f"{row.relative_difference:.2e}",
        f"{row.map_correlation:.6f}",
        _both(row.reference_step, row.candidate_step),
        _both(row.reference_verdict, row.candidate_verdict),
    )


def _both(ours: object, theirs: object) -> str:
    """Return one text where both agree, else both; an en dash stands for what is absent."""
    first, second = ("–" if one is None else str(one) for one in (ours, theirs))
    return first if first == second else f"{first} → {second}"


def _badness(value: float) -> float:
    """Return the value by which rows are ordered; NaN is the worst."""
    return math.inf if math.isnan(value) else value
