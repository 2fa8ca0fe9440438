"""What a bundle finds of synthetic anomalies: as sentences, as a table, and as the record in its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from training.evaluation.tables import Table
from training.sensitivity.choosing import CONTRASTS
from training.sensitivity.measure import CONFIDENCE, LEAST_BEYOND, SHARE, FoundCount, Sensitivity, SensitivityLine
from training.sensitivity.planting import LINES

TOLD = "medium"
"""The contrast that sentences are about; the table has the others too."""


def sentences(found: Sensitivity) -> tuple[str, ...]:
    """Return for each kind a sentence about anomalies of medium contrast, the one that is found smallest first."""
    lines = [line for line in found.lines if line.contrast == TOLD and line.all.anomalies]
    ordered = sorted(lines, key=lambda line: (line.from_px is None, line.from_px or 0.0, -line.all.share))
    return tuple(sentence(line, found.learnt) for line in ordered)


def sentence(line: SensitivityLine, learnt: frozenset[str] | None = None) -> str:
    """Return what was found of one kind at one contrast, and how sure that is."""
    about = f"{line.kind} of {line.contrast} contrast"
    if learnt is not None and line.kind not in learnt:
        about += " (not trained on)"
    if line.all.anomalies < LEAST_BEYOND:
        return (
            f"{about}: {line.all.found} of {line.all.anomalies} found; that is too few to say from which size on "
            f"{_percent(SHARE)} are (at least {LEAST_BEYOND} are needed)."
        )
    beyond = f"{line.beyond.found} of {line.beyond.anomalies}"
    if line.from_px is None:
        return f"{about}: at no size {_percent(SHARE)} are found; of the largest ones {beyond}."
    return (
        f"{about}: {_percent(SHARE)} found from about {_size(line)} of your originals on ({beyond} that large; with "
        f"{_percent(CONFIDENCE)} confidence at least {_percent(line.beyond.at_least)})."
    )


def as_table(found: Sensitivity) -> Table:
    """Return the size from which 90 % are found, by kind and contrast; else how many of all that were tried."""
    by_place = {(line.kind, line.contrast): line for line in found.lines}
    kinds = dict.fromkeys(line.kind for line in found.lines)
    header = ("kind", "trained on", *(f"{name} ({low}–{high})" for name, (low, high) in CONTRASTS.items()))
    rows = [
        (kind, _learnt(kind, found.learnt), *(_cell(by_place[kind, contrast]) for contrast in CONTRASTS))
        for kind in kinds
    ]
    return Table(header, tuple(rows))


def size_table(found: Sensitivity) -> Table:
    """Return the share found of all kinds together, by contrast and size."""
    together = all_kinds(found)
    rows = [(contrast, *(_share(count) for count in together[contrast])) for contrast in CONTRASTS]
    return Table(("all kinds", *size_names(found.size_edges)), tuple(rows))


def all_kinds(found: Sensitivity) -> dict[str, tuple[FoundCount, ...]]:
    """Return for each contrast what was found of all kinds together, by size."""
    lines = {contrast: [line for line in found.lines if line.contrast == contrast] for contrast in CONTRASTS}
    return {
        contrast: tuple(
            FoundCount(sum(line.by_size[at].anomalies for line in own), sum(line.by_size[at].found for line in own))
            for at in range(len(found.size_edges))
        )
        for contrast, own in lines.items()
    }


def explanation(found: Sensitivity) -> str:
    """Return what the table shows, for beneath it."""
    short = "" if len(found.tried) == found.chosen else f" of {found.chosen}, for which the time was too short"
    return (
        f"First the share of all kinds that fails, then the size from which {_percent(SHARE)} of a kind fail: lengths, "
        "or sides of a square of the same area, in pixels of your originals; in brackets, where the tried ones show no "
        "such size, how many of all. "
        f"Contrast is the mean change in grey levels of 255. {_number(len(found.tried), short)} on good images that "
        f"no training saw, of which {found.good.found} of {found.good.anomalies} fail without an anomaly. Real defects "
        "may be easier or harder."
    )


def as_record(found: Sensitivity, images: str) -> dict[str, Any]:
    """Return what a manifest keeps.

    Args:
        images: which good images they were, in words.
    """
    return {
        "what": f"synthetic anomalies on good images whose score reaches fail, {found.fail:.6g}; no test defect",
        "images": images,
        "good_images": found.good.anomalies,
        "good_that_fail": found.good.found,
        "anomalies": len(found.tried),
        "chosen": found.chosen,
        "seed": found.seed,
        "share": SHARE,
        "confidence": CONFIDENCE,
        "contrast_grey_levels": {name: f"{low}–{high}" for name, (low, high) in CONTRASTS.items()},
        "sentences": list(sentences(found)),
        "all_kinds": {contrast: _sizes_record(counts, found) for contrast, counts in all_kinds(found).items()},
        "lines": [_line_record(line, found) for line in found.lines if line.all.anomalies],
    }


def as_json(found: Sensitivity, images: str) -> dict[str, Any]:
    """Return all that was measured, each anomaly too."""
    tried = [
        {
            "kind": one.chosen.draw.kind,
            "contrast": one.chosen.contrast,
            "size_px": round(one.chosen.size_px, 2),
            "grey_levels": round(one.chosen.measures.contrast, 2),
            "image": f"{one.chosen.path.parent.name}/{one.chosen.path.name}",
            "score": round(one.score, 6),
            "found": one.found,
        }
        for one in found.tried
    ]
    return {**as_record(found, images), "tried": tried}


def _line_record(line: SensitivityLine, found: Sensitivity) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "trained_on": None if found.learnt is None else line.kind in found.learnt,
        "contrast": line.contrast,
        "size_is": "length" if line.kind in LINES else "side of a square of the same area",
        "from_px": None if line.from_px is None else round(line.from_px, 1),
        "beyond": _count_record(line.beyond),
        "all": _count_record(line.all),
        "by_size": _sizes_record(line.by_size, found),
    }


def _sizes_record(counts: Sequence[FoundCount], found: Sensitivity) -> dict[str, str]:
    """Return what was found of each class of size that has any."""
    by_size = zip(size_names(found.size_edges), counts, strict=True)
    return {size: f"{count.found} of {count.anomalies}" for size, count in by_size if count.anomalies}


def _count_record(count: FoundCount) -> dict[str, Any]:
    return {"anomalies": count.anomalies, "found": count.found, "at_least": round(count.at_least, 3)}


def size_names(edges: Iterable[float]) -> Iterator[str]:
    """Yield the classes of size in words, such as `6–12 px`."""
    edges = tuple(edges)
    yield from (f"{low:g}–{high:g} px" for low, high in pairwise(edges))
    yield f"from {edges[-1]:g} px"


def _size(line: SensitivityLine) -> str:
    assert line.from_px is not None
    size = f"{line.from_px:.2g}" if line.from_px < 100 else f"{line.from_px:.0f}"
    return f"{size} px of length" if line.kind in LINES else f"{size} × {size} px"


def _cell(line: SensitivityLine) -> str:
    if not line.all.anomalies:
        return "–"
    if line.from_px is None:
        return f"({line.all.found} of {line.all.anomalies})"
    return _size(line).replace(" of length", " long")


def _share(count: FoundCount) -> str:
    return f"{_percent(count.share)} of {count.anomalies}" if count.anomalies else "–"


def _number(anomalies: int, of_how_many: str) -> str:
    return f"{anomalies} anomal{'y' if anomalies == 1 else 'ies'}{of_how_many}"


def _learnt(kind: str, learnt: frozenset[str] | None) -> str:
    return "not known" if learnt is None else "yes" if kind in learnt else "no"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
