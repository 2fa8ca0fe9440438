"""The files of an evaluation: JSON, CSV, Markdown, and a page with curves and the worst misses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_store.csv_lines import csv_line
from model_store.files import replace_file
from model_store.manifest import VerdictThresholds
from training.evaluation import tables
from training.evaluation.misses import Miss
from training.evaluation.plots import roc_curves, score_histograms
from training.evaluation.rows import Evaluation
from training.html_page import as_jpeg, data_url, render_template

TEMPLATE = "evaluation.html.j2"


@dataclass(frozen=True)
class ReportFiles:
    """The files that were written."""

    json: Path
    csv: Path
    markdown: Path
    page: Path


def write_report(
    evaluation: Evaluation, misses: Sequence[Miss], limits: VerdictThresholds | None, json_file: Path
) -> ReportFiles:
    """Write figures and rows as JSON and, beside it under the same name, the rows as CSV, Markdown and a page.

    The JSON comes last: where it lies, so do the others.
    """
    files = ReportFiles(json_file, *(json_file.with_suffix(ending) for ending in (".csv", ".md", ".html")))
    content = {**evaluation.figures, "rows": [asdict(row) for row in evaluation.rows]}
    heading = f"# {title_of(evaluation.figures)}\n\n{origin_of(evaluation.figures)}\n\n"
    replace_file(files.csv, _as_csv(evaluation).encode())
    replace_file(files.markdown, (heading + tables.as_markdown(evaluation.figures) + "\n").encode())
    replace_file(files.page, page(evaluation, misses, limits).encode())
    replace_file(files.json, (json.dumps(content, indent=2) + "\n").encode())
    return files


def page(evaluation: Evaluation, misses: Sequence[Miss], limits: VerdictThresholds | None) -> str:
    """Return the page as one self-contained HTML text: pictures are embedded."""
    figures = evaluation.figures
    repeated = figures.get("repeatability")
    return render_template(
        TEMPLATE,
        title=title_of(figures),
        origin=origin_of(figures),
        summaries=_summaries(figures),
        notes=tables.notes(figures),
        defects=tables.defect_table(figures),
        histograms=data_url("png", score_histograms(evaluation.rows, limits)),
        curves=data_url("png", roc_curves(evaluation.curves)) if evaluation.curves.image else None,
        repeatability=tables.repeatability_lines(repeated) if repeated else [],
        flips=tables.flip_table(repeated) if repeated else None,
        limits=limits,
        missed=[(miss.row, _jpeg(miss)) for miss in misses if not miss.row.is_good],
        alarms=[(miss.row, _jpeg(miss)) for miss in misses if miss.row.is_good],
    )


def title_of(figures: dict[str, Any]) -> str:
    """Return the title: which bundle was measured."""
    return f"Evaluation of {figures['bundle']['product']} {figures['bundle']['version']}"


def origin_of(figures: dict[str, Any]) -> str:
    """Return how many images were measured, when, where and by which command."""
    images, measured = figures["images"], figures["measured"]
    return (
        f"{images['good']} good and {images['defect']} defective images, {measured['at']}, {measured['machine']}. "
        f"{_walked(figures)}Bundle {figures['bundle']['hash'][:12]}. {measured['command']}"
    ).strip()


def _walked(figures: dict[str, Any]) -> str:
    """Return which share of each kind of image walked; nothing where all did, or none was asked."""
    shares = {kind: step.get("walked_share", 1.0) for kind, step in figures.get("denoising_step", {}).items()}
    if all(share == 1 for share in shares.values()):
        return ""
    return f"Walked: {', '.join(f'{share:.0%} of {kind}' for kind, share in shares.items())}. "


def _summaries(figures: dict[str, Any]) -> list[tables.Table]:
    summaries = [tables.paper_table(figures)] if "image" in figures else []
    summaries.append(tables.interval_table(figures))
    if "yardstick" in figures:
        summaries.append(tables.yardstick_table(figures))
    if "verdicts" in figures:
        summaries.append(tables.verdict_table(figures))
    return [*summaries, tables.gate_table(figures)] if "gate" in figures else summaries


def _as_csv(evaluation: Evaluation) -> str:
    return "".join((csv_line(asdict(evaluation.rows[0])), *(csv_line(asdict(row).values()) for row in evaluation.rows)))


def _jpeg(miss: Miss) -> str:
    return data_url("jpeg", as_jpeg(miss.strip))
