"""Reviewed images as a data folder, in the layout that training and evaluation read (docs/data.md).

    PRODUCT/test/good/SN-1_019abc….png                people found nothing
    PRODUCT/test/scratch/SN-2_019abc….png             a defect that somebody drew
    PRODUCT/ground_truth/scratch/SN-2_019abc…_mask.png
    PRODUCT/test/scratch_no_mask/SN-3_019abc….png     a defect that nobody drew: a folder with masks needs one of each
    PRODUCT/groups.csv                                which images show one part
    PRODUCT/labels.jsonl                              which review gave which label
    PRODUCT/missing.csv                               which reviewed images could not be copied, if any, and why

A name carries the inspection's id, so that an image is found again whatever its label has become.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image, ImageDraw

from glad.image_codec import ImageError, sniff_format
from glad_client.fields import InspectionId, Message, Name, Sha256, Text, Timestamp
from glad_client.results import BundleId, Decision, Result, Review, Thresholds, Verdict
from model_store.csv_lines import csv_line

GOOD = "good"
DEFECT = "defect"
"""The folder of defects without a code."""
UNMARKED = "_no_mask"
LABELS, GROUPS, MISSING = "labels.jsonl", "groups.csv", "missing.csv"
LARGEST_SHARE = 0.5
"""Boxes that cover more of an image do not say where the defect is, and training refuses such masks as inverted."""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}
LONGEST_STEM = 40
_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
_OURS = re.compile(rf"(?:.*_)?({_ID})(_mask)?\.[a-z]+")


class LabelledImage(Message):
    """A line of `labels.jsonl`: an image, its label, and the review that gave it."""

    file: str
    """Relative to the product's folder, with slashes."""
    mask: str | None
    inspection_id: InspectionId
    product: Name
    label: str
    """The folder in `test/`."""
    decision: Decision
    by: Text
    at: Timestamp
    review: Review
    """The one that counts."""
    audit: Review | None
    """The blind answer to the random audit, with the probability of the draw; only such ones move thresholds."""
    reviews: tuple[Review, ...]
    verdict: Verdict | None
    score: float | None
    thresholds: Thresholds | None
    bundle: BundleId | None
    serial: Text | None
    lot: Text | None
    view: Text | None
    station: Text | None
    accepted_at: Timestamp
    image_sha256: Sha256 | None

    @property
    def group(self) -> str:
        """The part that the image shows; without a serial it is a part of its own."""
        return f"part-{self.serial}" if self.serial is not None else f"image-{self.inspection_id}"

    def to_line(self) -> str:
        """Return it as a line."""
        return self.model_dump_json() + "\n"


class MissingReason(StrEnum):
    """Why the image of a reviewed inspection cannot be exported."""

    NOT_KEPT = "no longer kept"
    OTHER_BYTES = "the stored image is not the one that was inspected"
    UNREADABLE = "the store of images did not answer: export again later"


@dataclass(frozen=True)
class MissingImage:
    """A line of `missing.csv`: a reviewed inspection whose image could not be exported."""

    inspection_id: str
    serial: str | None
    label: str
    """The folder in `test/` that it would lie in."""
    reason: MissingReason


def label_image(result: Result, suffix: str) -> LabelledImage | None:
    """Return how a reviewed image lies in a data folder; None if no review of it counts, or it is no production.

    Args:
        result: the inspection.
        suffix: of the image's file, as `suffix_of` gives it.
    """
    counting = result.counting_review
    if counting is None or result.limit_sample is not None:
        return None
    label = _label(result, counting)
    stem = file_stem(result.serial, result.id)
    has_mask = label != GOOD and not label.endswith(UNMARKED)
    return LabelledImage(
        file=f"test/{label}/{stem}{suffix}",
        mask=f"ground_truth/{label}/{stem}_mask.png" if has_mask else None,
        label=label,
        decision=counting.decision,
        by=counting.by,
        at=counting.at,
        review=counting,
        audit=next((one for one in reversed(result.reviews) if one.counts and one.audit is not None), None),
        inspection_id=result.id,
        **{name: getattr(result, name) for name in _COPIED},
    )


_COPIED = (
    "product", "reviews", "verdict", "score", "thresholds", "bundle", "serial", "lot", "view", "station",
    "accepted_at", "image_sha256",
)  # fmt: skip


def _label(result: Result, review: Review) -> str:
    if review.decision is Decision.OK:
        return GOOD
    code = review.defect_code or DEFECT
    kind = f"{code}_defect" if code.lower() == GOOD else code
    return kind if is_marked(result, review) else f"{kind}{UNMARKED}"


def is_marked(result: Result, review: Review) -> bool:
    """Return whether somebody drew where the defect is, so that a mask can be made of it."""
    if not review.regions or result.width is None or result.height is None:
        return False
    covered = sum(width * height for _, _, width, height in review.regions)
    return covered <= LARGEST_SHARE * result.width * result.height


def draw_mask(result: Result, review: Review) -> bytes:
    """Return the ground truth as a PNG of the upright image's size: white in the boxes that a person drew."""
    assert result.width is not None, "only a marked image has a mask"
    assert result.height is not None, "only a marked image has a mask"
    mask = Image.new("L", (result.width, result.height), 0)
    draw = ImageDraw.Draw(mask)
    for x, y, width, height in review.regions or ():
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=255)
    content = io.BytesIO()
    mask.save(content, "PNG")
    return content.getvalue()


def file_stem(serial: str | None, inspection_id: str) -> str:
    """Return a file's name without its suffix: of letters, digits, - and _ alone, whatever the serial holds."""
    known = re.sub(r"[^A-Za-z0-9_-]+", "-", serial or "")[:LONGEST_STEM].strip("_-")
    return f"{known}_{inspection_id}" if known else inspection_id


def suffix_of(content: bytes) -> str:
    """Return the suffix for an image file that begins so."""
    try:
        return SUFFIXES[sniff_format(content)]
    except ImageError:
        return ".bin"


def inspection_of(name: str) -> str | None:
    """Return the id of the inspection whose image or mask has this file name; None for a file of somebody else."""
    match = _OURS.fullmatch(name)
    return match[1] if match else None


def groups_header() -> str:
    """Return the first line of the groups file."""
    return csv_line(("file", "part_group", "lot"))


def group_line(image: LabelledImage) -> str:
    """Return an image's line of the groups file: the part that it shows, and its lot for people."""
    return csv_line((image.file, image.group, None if image.lot is None else f"lot-{image.lot}"))


def missing_header() -> str:
    """Return the first line of the list of missing images."""
    return csv_line(("inspection_id", "serial", "label", "reason"))


def missing_line(missing: MissingImage) -> str:
    """Return a missing image's line of that list."""
    return csv_line((missing.inspection_id, missing.serial, missing.label, missing.reason))


def read_label(line: str) -> LabelledImage:
    """Return a line of `labels.jsonl`.

    Raises:
        ValueError: if it is none.
    """
    return LabelledImage.model_validate_json(line)
