"""The page of results: self-contained but for the pictures beside it, readable without a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import mean, median

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from demo.inspected import GOOD, DemoVerdict, InspectedSample, confusion
from demo.yardstick import Yardstick

TEMPLATE = "page.html.j2"
STRIP_WIDTH = 440
ROWS = {"defect": 60, "good": 140}
SHOWN = ("reconstruction.png", "overlay.png")


@dataclass(frozen=True)
class Card:
    """An inspected image with the links to its pictures, relative to the page."""

    result: InspectedSample
    image: str
    reconstruction: str
    overlay: str
    mask: str | None

    @property
    def css_class(self) -> str:
        """The classes that the row's filter selects by."""
        return f"{'good' if self.result.sample.is_good else 'defect'} {'wrong' if self.result.is_wrong else ''}".strip()


@dataclass(frozen=True)
class Dot:
    """An image on the strip of scores: x in its width, the row's spread, and what a pointer over it shows."""

    x: float
    y: float
    css_class: str
    title: str


def write_page(
    folder: Path,
    results: Sequence[InspectedSample],
    *,
    title: str,
    product: str,
    bundle: str,
    yardstick: Yardstick | None = None,
) -> Path:
    """Write folder/index.html, defects first, and return its path. The pictures lie below the same folder.

    Args:
        folder: of the demo.
        results: of the images.
        title: of the page.
        product: that was inspected.
        bundle: its version.
        yardstick: what it said of the same images; None: nothing is shown of it.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    cards = [card(folder, result) for result in in_reading_order(results)]
    page = environment.get_template(TEMPLATE).render(
        title=title,
        product=product,
        bundle=bundle,
        verdicts=list(DemoVerdict),
        confusion=confusion(results),
        yardstick=yardstick,
        yardsticks=None if yardstick is None else yardstick.confusion(result.sample for result in results),
        cards=cards,
        review_from=mean(result.review for result in results),
        fail_from=mean(result.fail for result in results),
        dots=dots(results),
        rows=ROWS,
        strip_width=STRIP_WIDTH,
        review_x=STRIP_WIDTH * mean(result.review / (result.review + result.fail) for result in results),
        fail_x=STRIP_WIDTH / 2,
        wrong=sum(result.is_wrong for result in results),
        latency=latency(results),
        large=large(cards),
        steps=mean_steps(results),
    )
    path = folder / "index.html"
    unfinished = path.with_suffix(".part")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)
    return path


LARGE = 6
"""Defects that are shown large, each of another kind."""


@dataclass(frozen=True)
class CameraLatency:
    """From the camera's POST to the verdict, in seconds."""

    median: float
    p95: float
    longest: float


def latency(results: Sequence[InspectedSample]) -> CameraLatency:
    """Return how long the camera waited for its verdicts."""
    seconds = sorted(result.latency_ms / 1000 for result in results)
    return CameraLatency(median(seconds), seconds[max(0, ceil(0.95 * len(seconds)) - 1)], seconds[-1])


def large(cards: Sequence[Card]) -> list[Card]:
    """Return the defect of each kind that is found with the highest score, the highest first."""
    by_kind: dict[str, Card] = {}
    found = sorted((one for one in cards if not one.result.sample.is_good), key=lambda one: -one.result.score)
    for one in found:
        by_kind.setdefault(one.result.sample.defect, one)
    return list(by_kind.values())[:LARGE]


def artifact_path(folder: Path, result: InspectedSample, name: str) -> Path:
    """Return the place of a downloaded picture of an inspection."""
    return folder / "pictures" / Path(result.sample.name).with_suffix("") / name


def in_reading_order(results: Iterable[InspectedSample]) -> list[InspectedSample]:
    """Return the results with defects first, by kind and severity; among the good parts the highest score first."""
    return sorted(
        results,
        key=lambda result: (
            result.sample.is_good,
            "" if result.sample.is_good else result.sample.name,
            -result.score,
        ),
    )


def card(folder: Path, result: InspectedSample) -> Card:
    """Return the links of one image's pictures."""
    sample = result.sample

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    reconstruction, overlay = (link(artifact_path(folder, result, name)) for name in SHOWN)
    return Card(
        result=result,
        image=link(sample.path),
        reconstruction=reconstruction,
        overlay=overlay,
        mask=link(sample.mask) if sample.mask else None,
    )


def dots(results: Iterable[InspectedSample]) -> list[Dot]:
    """Return every image on the strip: x is the calibrated score, so that the fail threshold stands in the middle."""
    found = []
    for kind, height in ROWS.items():
        of_row = sorted((r for r in results if r.sample.is_good is (kind == GOOD)), key=lambda r: r.calibrated_score)
        for index, result in enumerate(of_row):
            found.append(
                Dot(
                    x=STRIP_WIDTH * result.calibrated_score,
                    y=height + 14 * (index % 3 - 1),
                    css_class=kind,
                    title=f"{result.sample.truth}: {result.verdict}, score {result.score:.4f} ({result.sample.name})",
                )
            )
    return found


def mean_steps(results: Iterable[InspectedSample]) -> list[tuple[str, float, int]]:
    """Return for each kind of image its name, the mean denoising step and the number; the smallest step first."""
    by_kind: dict[str, list[int]] = {}
    for result in results:
        if result.denoising_step:  # none, or 0 of an image that did not walk, is no step
            by_kind.setdefault(result.sample.defect.replace("_", " "), []).append(result.denoising_step)
    rows = ((kind, mean(steps), len(steps)) for kind, steps in by_kind.items())
    return sorted(rows, key=lambda row: row[1])
