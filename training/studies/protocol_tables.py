"""The tables of `glad reproduce --train`: each class and part of the method beside the paper, and what made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.evaluation.tables import Table
from training.metrics.bootstrap import Estimate
from training.studies.ablation import FULL
from training.studies.published_figures import CLASSES, COMPONENTS

IMAGE, PIXEL = "image_auroc", "pixel_auroc"
VARIANTS_HEADER = ("variant", "I-AUROC", "paper on MVTec-AD", "P-AUROC", "paper on MVTec-AD")
CLASSES_HEADER = ("class", "trained on", "good", "defective", "I-AUROC", "paper", "P-AUROC", "paper")
OF_THE_PAPER = (
    "The paper trained Stable Diffusion's UNet and inspected at 512 × 512; its figures of variants are means over all "
    "15 classes of MVTec-AD with 1,725 test images. Only a recipe of that kind on whole classes can confirm or refute "
    "them. Another recipe shows which way a part of the method works there, as far as the intervals of the paired "
    "differences in each class's own file leave 0 out."
)


@dataclass(frozen=True)
class MeasuredClass:
    """The figures of a class under every variant, and how many images made them."""

    product: str
    trained_on: int
    good: int
    defective: int
    figures: Mapping[str, Mapping[str, Estimate]]
    """Variant -> figure, as in `studies.ablation` -> estimate, a share."""


@dataclass(frozen=True)
class ProtocolResult:
    """The tables of a run."""

    made_of: str
    """The classes, images and recipe, in sentences."""
    classes: Table
    """The whole method on each class, with intervals."""
    variants: Table
    """Tables 6 and 7: the mean over the classes."""

    def as_markdown(self) -> str:
        """Return the sentences and both tables."""
        whole = f"The whole method on each class, in percent with 95 % intervals:\n\n{self.classes.as_markdown()}"
        parts = f"Tables 6 and 7, means over these classes in percent:\n\n{self.variants.as_markdown()}"
        return "\n\n".join((self.made_of, whole, parts, OF_THE_PAPER))

    def as_json(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return {"the_paper": OF_THE_PAPER, **asdict(self)}


def describe_run(dataset: str, recipe: str, resolution: int, measured: Sequence[MeasuredClass]) -> str:
    """Return what the tables were made of: which share of the data set, how many images, which recipe.

    Args:
        recipe: its name and changes, as given.
        resolution: of the images as the models see them, in pixels.
    """
    perfect = [one.product for one in measured if one.figures[FULL][IMAGE].value == 1]
    of_perfect = (
        f" Of {', '.join(perfect)} every defect scores above every good image, so the interval has no width: it says "
        "that of these images alone, and nothing of others."
    )
    good, defective = (sum(getattr(one, key) for one in measured) for key in ("good", "defective"))
    return (
        f"{len(measured)} of {len(CLASSES[dataset])} classes of {dataset}, {good + defective} test images "
        f"({good} good, {defective} defective). Recipe {recipe}, images of {resolution} × {resolution} pixels."
    ) + (of_perfect if perfect else "")


def classes_table(dataset: str, measured: Sequence[MeasuredClass]) -> Table:
    """Return the whole method's figures of each class beside the paper's; the last row is the mean of each column."""
    paper = CLASSES[dataset]
    rows = []
    for one in measured:
        image, pixel = (one.figures[FULL][key] for key in (IMAGE, PIXEL))
        published = [f"{value:.1f}" for value in paper[one.product]]
        images = (str(one.trained_on), str(one.good), str(one.defective))
        rows.append((one.product, *images, _percent(image), published[0], _percent(pixel), published[1]))
    ours = [_mean(measured, FULL, key) for key in (IMAGE, PIXEL)]
    theirs = [f"{np.mean([paper[one.product][which] for one in measured]):.1f}" for which in (0, 1)]
    rows.append(("mean", "", "", "", ours[0], theirs[0], ours[1], theirs[1]))
    return Table(CLASSES_HEADER, tuple(rows))


def variants_table(measured: Sequence[MeasuredClass]) -> Table:
    """Return the mean over the classes of each variant's I-AUROC and P-AUROC in percent, beside the paper's."""
    rows = [
        (name, _mean(measured, name, IMAGE), f"{image:.1f}", _mean(measured, name, PIXEL), f"{pixel:.1f}")
        for name, (image, pixel) in COMPONENTS.items()
    ]
    return Table(VARIANTS_HEADER, tuple(rows))


def _mean(measured: Sequence[MeasuredClass], variant: str, figure: str) -> str:
    return f"{100 * np.mean([one.figures[variant][figure].value for one in measured]):.1f}"


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"
