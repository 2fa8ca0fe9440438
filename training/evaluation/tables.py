"""The figures as Markdown: the paper's table, the intervals, the table by defect, the repeatability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.evaluation.comparison import DIFFERENCES
from training.metrics.aupimo import LOWER
from training.metrics.bootstrap import Estimate

IMAGE = {"I-AUROC": "auroc", "I-AP": "ap", "I-F1-max": "f1_max"}
YARDSTICK_HEADER = ("I-AUROC", "P-AUROC", "PRO", "found", "false rejects")
"""*found*: the share of defective images that fail at the detector's own threshold."""
PIXEL = {"P-AUROC": "auroc", "P-AP": "ap", "P-F1-max": "f1_max", "PRO": "pro"}


@dataclass(frozen=True)
class Table:
    """A table of texts, each row as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_markdown(self) -> str:
        """Return the table as Markdown, one line per row."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paper_table(figures: dict[str, Any]) -> Table:
    """Return a table in the form of the paper's Table 5, in percent.

    One line is for detection, one for localization; then comes AUPIMO.
    """
    lines = []
    if "image" in figures:
        lines.append(_paper_line(IMAGE, figures["image"]))
    if "pixel" in figures:
        lines.append(_paper_line(PIXEL, figures["pixel"]))
    if "aupimo" in figures.get("pixel", {}):
        lines.append(_paper_line({"AUPIMO": "aupimo"}, figures["pixel"]))
    return Table(("", _bundle_name(figures)), tuple(lines))


def interval_table(figures: dict[str, Any]) -> Table:
    """Return each metric with its 95 % interval, in percent."""
    metrics = [(name, figures["image"][key]) for name, key in IMAGE.items() if "image" in figures]
    pixel = figures.get("pixel", {})
    metrics += [(name, pixel[key]) for name, key in {**PIXEL, "AUPIMO": "aupimo"}.items() if key in pixel]
    if "false_reject_rate" in figures:
        metrics.append((f"false rejects of {figures['images']['good']} good", figures["false_reject_rate"]))
    rows = [(name, f"{100 * e['value']:.1f}", f"{100 * e['low']:.1f} – {100 * e['high']:.1f}") for name, e in metrics]
    return Table(("metric", "%", "95 % interval"), tuple(rows))


def yardstick_row(figures: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells under `YARDSTICK_HEADER` of one detector's figures: a bundle's or a yardstick's."""
    verdicts = figures.get("found_at_its_threshold", {})
    cells = (
        figures.get("image", {}).get("auroc"),
        figures.get("pixel", {}).get("auroc"),
        figures.get("pixel", {}).get("pro"),
        verdicts.get("found"),
        verdicts.get("false_rejects"),
    )
    return tuple("–" if cell is None else str(Estimate(**cell)) for cell in cells)


def yardstick_table(figures: dict[str, Any]) -> Table:
    """Return the bundle's row above that of its yardstick, which `figures` must have, and their difference if known."""
    rows = [(_bundle_name(figures), *yardstick_row(figures)), ("yardstick", *yardstick_row(figures["yardstick"]))]
    if "minus_yardstick" in figures:
        rows.append(("difference", *difference_row(figures["minus_yardstick"])))
    return Table(("", *YARDSTICK_HEADER), tuple(rows))


def difference_row(paired: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells under `YARDSTICK_HEADER` of what `training.evaluation.comparison.differences` gave."""
    return tuple(_signed(paired[name]) if name in paired else "–" for name in DIFFERENCES)


def defect_table(figures: dict[str, Any]) -> Table:
    """Return one row per defect and severity, against all good images; verdicts only where there are any."""
    rows = figures["by_defect"]
    judged = any("failed" in row for row in rows)
    verdicts = ("fail", "pass") if judged else ()
    header = ("defect", "severity", "images", "I-AUROC", "P-AUROC", "PRO", *verdicts)
    return Table((*header, "mean denoising step"), tuple(_defect_row(row, judged) for row in rows))


def verdict_table(figures: dict[str, Any]) -> Table:
    """Return how many good and defective images got each verdict."""
    sides: dict[str, dict[str, int]] = figures["verdicts"]
    names = tuple(sides["good"])
    return Table(("images", *names), tuple((side, *(str(of[name]) for name in names)) for side, of in sides.items()))


def gate_table(figures: dict[str, Any]) -> Table:
    """Return how many images of each set the quality gate would stop."""
    sets: dict[str, dict[str, Any]] = figures["gate"]
    rows = (
        (name, str(of["images"]), str(of["gated"]), ", ".join(f"{why} {n}" for why, n in of["reasons"].items()) or "–")
        for name, of in sets.items()
    )
    return Table(("images", "all", "stopped by the quality gate", "why"), tuple(rows))


def repeatability_lines(repeatability: dict[str, Any]) -> list[str]:
    """Return the repeatability in words and figures, a line each."""
    camera = repeatability["camera"]
    lines = [
        f"{repeatability['images']} images, {repeatability['repeats']} times each, under camera noise: "
        f"gain {camera['gain']} 8-bit "
        f"values per electron, read noise {camera['read_noise']}.",
        f"Standard deviation of the score: median {repeatability['score_std']['median']:.4f}, "
        f"largest {repeatability['score_std']['largest']:.4f}.",
    ]
    if "never_changes" in repeatability:
        ratio = repeatability["std_over_distance"]
        lines += [
            f"Verdict never changes: {Estimate(**repeatability['never_changes'])} of the images. "
            f"Two repeats of an image agree: {repeatability['pairwise_agreement']:.4f} on average.",
            f"Standard deviation over the distance from the nearer threshold: median {ratio['median']:.3f}, "
            f"95 % quantile {ratio['q95']:.3f}.",
        ]
    return lines


def flip_table(repeatability: dict[str, Any]) -> Table:
    """Return the images whose verdict changes; empty where none does or there are no verdicts."""
    flips: Sequence[dict[str, Any]] = repeatability.get("flips", ())
    names = tuple(flips[0]["verdicts"]) if flips else ()
    rows = (
        (one["file"], one["defect"], f"{one['score']:.4f}", f"{one['mean_score']:.4f} ± {one['score_std']:.4f}",
         *(str(one["verdicts"][name]) for name in names))
        for one in flips
    )  # fmt: skip
    return Table(("file", "defect", "score", "repeated", *names), tuple(rows))


def notes(figures: dict[str, Any]) -> list[str]:
    """Return the notes that a reader needs beside the figures."""
    aupimo = figures.get("pixel", {}).get("aupimo")
    gated = sum(of["gated"] for of in figures.get("gate", {}).values())
    texts = [figures["left_out"]] if "left_out" in figures else []
    if gated:
        texts.append(
            f"The quality gate stops {gated} of the images. Their verdict is review; the detection figures, which rest "
            "on scores, count them all the same."
        )
    if aupimo is not None and aupimo["finest_rate"] > LOWER:
        texts.append(
            "AUPIMO: the good images' pixels are too few for its lowest false positive rate. The finest rate they can "
            f"show is {aupimo['finest_rate']:.1e}, the lowest needed {LOWER:.0e}; below it, what is found without any "
            "false positive counts. Add good images."
        )
    return [*texts, figures["yardstick_note"]] if "yardstick_note" in figures else texts


def as_markdown(figures: dict[str, Any]) -> str:
    """Return all tables as Markdown, with a blank line between them."""
    parts = []
    if "image" in figures:
        parts.append(paper_table(figures).as_markdown())
    parts += [interval_table(figures).as_markdown(), *notes(figures)]
    if "yardstick" in figures:
        parts.append(yardstick_table(figures).as_markdown())
    if "verdicts" in figures:
        parts.append(verdict_table(figures).as_markdown())
    if "gate" in figures:
        parts.append(gate_table(figures).as_markdown())
    if figures["by_defect"]:
        parts.append(defect_table(figures).as_markdown())
    if "repeatability" in figures:
        parts += ["\n".join(repeatability_lines(figures["repeatability"]))]
        if (flips := flip_table(figures["repeatability"])).rows:
            parts.append(flips.as_markdown())
    return "\n\n".join(parts)


def _bundle_name(figures: dict[str, Any]) -> str:
    bundle = figures.get("bundle", {})
    return f"{bundle.get('product', '')} {bundle.get('version', '')}".strip()


def _signed(estimate: dict[str, float]) -> str:
    return "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**estimate)


def _paper_line(names: dict[str, str], figures: dict[str, Any]) -> tuple[str, str]:
    return "/".join(names), "/".join(f"{100 * figures[key]['value']:.1f}" for key in names.values())


def _defect_row(row: dict[str, Any], judged: bool) -> tuple[str, ...]:
    pixel, region = row.get("pixel_auroc"), row.get("pro")
    start = (
        row["defect"],
        str(row["severity"] or "–"),
        str(row["images"]),
        str(Estimate(**row["image_auroc"])),
        "–" if pixel is None else str(Estimate(**pixel)),
        "–" if region is None else f"{region:.3f}",
    )
    verdicts = (str(row["failed"]), str(row["passed"])) if judged else ()
    return (*start, *verdicts, f"{row['denoising_step']:.0f}")
