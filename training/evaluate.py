"""`glad evaluate`: a bundle's figures on a labelled folder, by defect and severity, as JSON and as a Markdown table."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.imaging import Placement
from model_store.bundle import open_bundle
from training.data import test_images
from training.metrics import (
    Estimate,
    f1_max,
    image_ap,
    image_auroc_estimate,
    pixel_auroc_estimate,
    pro,
    pro_estimate,
    rate_estimate,
)
from training.scan import scan

VERDICTS = ("pass", "review", "fail")


@dataclass(frozen=True)
class Row:
    """One image's outcome."""

    file: str
    defect: str
    severity: int | None
    group: str
    score: float
    verdict: str
    denoising_step: int
    triggered: bool


@dataclass(frozen=True)
class Evaluation:
    """All that was measured; `figures` is what goes into JSON."""

    figures: dict[str, Any]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Located:
    """One image's map and truth, content only: (height, width) each, at the model's scale, without the padding."""

    row: int
    map: NDArray[np.float32]
    truth: NDArray[np.bool_]


def truth_of(mask: Path | None, placement: Placement) -> NDArray[np.bool_]:
    """A ground-truth mask at its image's model scale: (height, width); a pixel counts when any of it is defective."""
    if mask is None:
        return np.zeros((placement.height, placement.width), dtype=np.bool_)
    with Image.open(mask) as opened:
        truth = opened.convert("L").point(lambda v: 255 if v > 127 else 0)
        return np.asarray(truth.resize((placement.width, placement.height), Image.Resampling.BOX)) > 0


def severity_of(path: Path) -> int | None:
    """The severity in a sample product's file name (`s2_0007.png`), or None."""
    head = path.stem.split("_")[0]
    return int(head[1:]) if head[:1] == "s" and head[1:].isdigit() else None


def evaluate(
    bundle_folder: Path,
    data: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
    workers: int | None = None,
) -> Evaluation:
    """Inspect every image of `data`/test and measure. Raises DataError or BundleError before anything long begins."""
    bundle = open_bundle(bundle_folder)
    settings, calibration = bundle.manifest.settings, bundle.manifest.thresholds
    labelled = test_images(data)
    paths = [t.path for t in labelled]
    scanned = list(scan(bundle_folder, settings, paths, keep_maps=True, progress=progress, workers=workers))
    rows = tuple(
        Row(
            file=t.path.relative_to(data).as_posix(),
            defect=t.defect,
            severity=severity_of(t.path) if t.defect != "good" else None,
            group=t.group or t.path.relative_to(data).as_posix(),
            score=s.score,
            verdict=calibration.verdict(s.score),
            denoising_step=s.denoising_step,
            triggered=s.triggered,
        )
        for t, s in zip(labelled, scanned, strict=True)
    )
    located = [
        Located(i, s.placement.restore(s.map.astype(np.float32)), truth_of(t.mask, s.placement))
        for i, (t, s) in enumerate(zip(labelled, scanned, strict=True))
        if s.map is not None and (t.defect == "good" or t.mask is not None)
    ]
    figures = _figures(rows, located)
    figures["thresholds"] = {"review": calibration.review, "fail": calibration.fail, "pixel": calibration.pixel}
    figures["bundle"] = {
        "product": bundle.manifest.product, "version": bundle.manifest.version, "hash": bundle.hash,
        "delta": settings.trigger.delta,
    }  # fmt: skip
    figures["measured"] = {
        "command": command,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }
    return Evaluation(figures, rows)


def _figures(rows: Sequence[Row], located: Sequence[Located]) -> dict[str, Any]:
    scores = np.array([r.score for r in rows])
    defect = np.array([r.defect != "good" for r in rows])
    groups = [r.group for r in rows]
    figures: dict[str, Any] = {
        "images": {"good": int((~defect).sum()), "defect": int(defect.sum())},
        "false_reject_rate": asdict(
            rate_estimate(sum(r.verdict == "fail" for r in rows if r.defect == "good"), int((~defect).sum()))
        ),
        "verdicts": {
            truth: {v: sum(r.verdict == v for r in rows if (r.defect == "good") == (truth == "good")) for v in VERDICTS}
            for truth in ("good", "defect")
        },
        "denoising_step": {k: _mean_step(rows, k) for k in sorted({r.defect for r in rows})},
    }
    if defect.any():
        figures["image"] = {
            "auroc": asdict(image_auroc_estimate(scores, defect, groups)),
            "ap": image_ap(scores, defect),
            "f1_max": f1_max(scores, defect),
        }
    if any(one.truth.any() for one in located):
        where, maps, truths = [groups[one.row] for one in located], [o.map for o in located], [o.truth for o in located]
        figures["pixel"] = {
            "auroc": asdict(pixel_auroc_estimate(maps, truths, where)),
            "pro": asdict(pro_estimate(maps, truths, where)),
        }
    figures["by_defect"] = _by_defect(rows, located)
    return figures


def _mean_step(rows: Sequence[Row], defect: str) -> dict[str, float]:
    chosen = [r for r in rows if r.defect == defect]
    return {
        "mean": float(np.mean([r.denoising_step for r in chosen])),
        "triggered_share": float(np.mean([r.triggered for r in chosen])),
    }


def _by_defect(rows: Sequence[Row], located: Sequence[Located]) -> list[dict[str, Any]]:
    scores = np.array([r.score for r in rows])
    table = []
    kinds = sorted({(r.defect, r.severity or 0) for r in rows if r.defect != "good"})
    for defect, severity in kinds:
        member = [r.defect == "good" or (r.defect == defect and (r.severity or 0) == severity) for r in rows]
        chosen = [i for i, m in enumerate(member) if m]
        positives = [rows[i] for i in chosen if rows[i].defect != "good"]
        entry: dict[str, Any] = {
            "defect": defect,
            "severity": severity or None,
            "images": len(positives),
            "image_auroc": asdict(
                image_auroc_estimate(
                    scores[chosen], [rows[i].defect != "good" for i in chosen], [rows[i].group for i in chosen]
                )
            ),
            "failed": sum(r.verdict == "fail" for r in positives),
            "passed": sum(r.verdict == "pass" for r in positives),
            "denoising_step": float(np.mean([r.denoising_step for r in positives])),
        }
        places = [one for one in located if member[one.row]]
        if any(one.truth.any() for one in places):
            maps, truths = [one.map for one in places], [one.truth for one in places]
            where = [rows[one.row].group for one in places]
            entry["pixel_auroc"] = asdict(pixel_auroc_estimate(maps, truths, where))
            entry["pro"] = pro(maps, truths)
        table.append(entry)
    return table


def as_markdown(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table, one row per defect and severity."""
    lines = []
    if image := figures.get("image"):
        lines.append(f"I-AUROC {Estimate(**image['auroc'])}, I-AP {image['ap']:.3f}, I-F1-max {image['f1_max']:.3f}")
    if "pixel" in figures:
        lines.append(f"P-AUROC {Estimate(**figures['pixel']['auroc'])}, PRO {Estimate(**figures['pixel']['pro'])}")
    lines.append(f"False rejects {Estimate(**figures['false_reject_rate'])} of {figures['images']['good']} good images")
    if not figures["by_defect"]:
        return "\n".join(lines)
    lines += [
        "",
        "| defect | severity | images | I-AUROC | P-AUROC | PRO | fail | pass | mean denoising step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["by_defect"]:
        pixel, region = row.get("pixel_auroc"), row.get("pro")
        lines.append(
            f"| {row['defect']} | {row['severity'] or '–'} | {row['images']} | {Estimate(**row['image_auroc'])} | "
            f"{'–' if pixel is None else Estimate(**pixel)} | {'–' if region is None else f'{region:.3f}'} | "
            f"{row['failed']} | {row['passed']} | {row['denoising_step']:.0f} |"
        )
    return "\n".join(lines)


def write_evaluation(evaluation: Evaluation, json_file: Path) -> None:
    """The figures and every image's row as JSON; the rows also as CSV beside it."""
    json_file.parent.mkdir(parents=True, exist_ok=True)
    content = {**evaluation.figures, "rows": [asdict(r) for r in evaluation.rows]}
    json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with json_file.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(evaluation.rows[0])))
        writer.writeheader()
        writer.writerows(asdict(r) for r in evaluation.rows)
