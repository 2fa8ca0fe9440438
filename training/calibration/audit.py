"""Thresholds from what people decided on a running service: only its blind random audit moves them.

People look mostly at images that scored high, so their labels say nothing of images at large. The audit does: each
image is drawn with a known probability p when it comes, whatever is found of it, and judged without the verdict. An
image that was drawn stands for 1 / p images, and the thresholds are weighted conformal quantiles of the good ones'
scores (Tibshirani, Barber, Candès, Ramdas 2019; the weights correct for how the sample was drawn). With one p for all
it is the quantile of `training.calibration.thresholds`.

All other labels only measure: how often people agree with the verdict, and what the proposal would have done to them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_store.bundle import Bundle
from model_store.manifest import Verdict, VerdictThresholds
from model_store.promise import CalibrationPromise, least_count, promise
from training.calibration.thresholds import confident_rank, representatives

LABELS = "labels.jsonl"


class _Exported(BaseModel):
    """As much as is needed of what `glad reviews export` writes; a later version may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class AuditAnswer(_Exported):
    """A blind decision on an image that was drawn at random."""

    decision: Literal["ok", "defect"]
    audit: float = Field(gt=0, le=1)
    """The probability of the draw."""
    blind: bool


class ExportedBundle(_Exported):
    """The version that inspected an image."""

    version: str
    hash: str


class ReviewedImage(_Exported):
    """A reviewed image, as a line of `labels.jsonl` has it."""

    inspection_id: str
    product: str
    decision: Literal["ok", "defect"]
    """Of the review that counts."""
    audit: AuditAnswer | None
    verdict: Verdict | None
    score: float | None
    bundle: ExportedBundle | None
    serial: str | None

    @property
    def part(self) -> str:
        """The part that it shows: images of one serial show one, others a part of their own."""
        return f"image {self.inspection_id}" if self.serial is None else f"part {self.serial}"


def read_reviewed(folder: Path) -> list[ReviewedImage]:
    """Return the reviewed images of one product's exported folder.

    Raises:
        ValueError: if it is none, or a line cannot be read.
    """
    file = folder / LABELS
    if not file.is_file():
        raise ValueError(
            f"{folder} has no {LABELS}: make it with `glad reviews export DIR`, and give the folder of one product, "
            "DIR/PRODUCT"
        )
    images = []
    with file.open(encoding="utf-8") as lines:  # not splitlines(): a serial may hold U+2028, which ends no line here
        for number, line in enumerate(lines, 1):
            try:
                images.append(ReviewedImage.model_validate_json(line))
            except ValidationError as error:
                raise ValueError(
                    f"{file}: line {number} is no label ({error.errors()[0]['msg']}): export it again"
                ) from error
    return images


@dataclass(frozen=True)
class AuditedImage:
    """An image of the audit that has a score."""

    inspection_id: str
    part: str
    score: float
    verdict: Verdict
    good: bool
    probability: float


@dataclass(frozen=True)
class ThresholdProposal:
    """Thresholds from the audit, and what is known of them."""

    name: str
    """Made of all that it follows from: the same labels give the same name."""
    review: float
    fail: float
    promised: CalibrationPromise
    parts: int
    """Good parts of the audit."""
    thinned: bool
    """Whether images were left out so that all that count were equally likely to be drawn."""

    def verdict(self, score: float) -> Verdict:
        """Return the verdict that it would give."""
        return VerdictThresholds(review=self.review, fail=self.fail, pixel=self.fail).verdict(score)


def audited_images(images: Sequence[ReviewedImage], bundle: Bundle) -> list[AuditedImage]:
    """Return those of the audit that this version gave a score."""
    return [
        AuditedImage(one.inspection_id, one.part, one.score, one.verdict, one.audit.decision == "ok", one.audit.audit)
        for one in of_version(images, bundle)
        if one.audit is not None and one.audit.blind and one.score is not None and one.verdict is not None
    ]


def of_version(images: Sequence[ReviewedImage], bundle: Bundle) -> list[ReviewedImage]:
    """Return those that this version inspected: scores of another one mean something else.

    Raises:
        ValueError: if the folder is of another product.
    """
    if others := sorted({one.product for one in images} - {bundle.manifest.product}):
        raise ValueError(
            f"the labels are of {', '.join(others)}, the bundle of {bundle.manifest.product}: give the folder of its "
            "product"
        )
    return [one for one in images if one.bundle is not None and one.bundle.hash == bundle.hash]


def propose_thresholds(
    audited: Sequence[AuditedImage], fail_quantile: float, review_quantile: float, confidence: float | None
) -> ThresholdProposal:
    """Return thresholds under which good parts are rejected no more often than promised.

    With a confidence the law of ranks needs images that were equally likely to be drawn: of those that were likelier,
    some are left out, by a hash of their ids.

    Raises:
        ValueError: if too few good parts answer the audit to promise that; says how many it takes.
    """
    good = drawn = [one for one in audited if one.good]
    weights = part_weights(drawn)
    counting = math.floor(sum(weights.values(), Fraction()) / max(weights.values(), default=Fraction(1)))
    if confidence is not None:
        good = _equally_likely(drawn)
        counting = len({one.part for one in good})
    needed = least_count(fail_quantile, confidence)
    if counting < needed:
        raise ValueError(_too_few(len(weights), counting, needed, fail_quantile, confidence))
    fail, review = (
        float(np.nextafter(np.float32(_threshold(good, quantile, confidence)), np.float32(np.inf)))
        for quantile in (fail_quantile, review_quantile)
    )
    return ThresholdProposal(
        name=_name(audited, fail_quantile, review_quantile, confidence),
        review=min(review, fail),
        fail=fail,
        promised=promise(counting, fail_quantile, confidence),
        parts=len(weights),
        thinned=len(good) < len(drawn),
    )


def part_weights(images: Sequence[AuditedImage]) -> dict[str, Fraction]:
    """Return for how many parts each one stands: 1 / p where one image of it was drawn.

    Images are drawn, so a part is the likelier to be there the more images it has, and the larger p is. Had all come
    with the least probability p_0, each image would have stayed with p_0 / p, and the part with 1 - prod(1 - p_0 / p),
    over its images: its weight is this chance, divided by p_0.
    """
    least, absent = _least(images), dict[str, Fraction]()
    for one in images:
        absent[one.part] = absent.get(one.part, Fraction(1)) * (1 - least / _exact(one.probability))
    return {part: (1 - share) / least for part, share in absent.items()}


def _least(images: Sequence[AuditedImage]) -> Fraction:
    return min((_exact(one.probability) for one in images), default=Fraction(1))


@cache
def _exact(probability: float) -> Fraction:
    return Fraction(str(probability))  # in floating point, a sum just below a rank would move it by one


def weighted_quantile(images: Sequence[AuditedImage], quantile: float) -> float:
    """Return the least score at or below which the quantile of the weighted mass lies, or the largest.

    Each part has its weight, spread evenly over its images; the fresh part has the largest weight of all, at infinity:
    at least its own, whatever that is, so that the promise holds.
    """
    weights, sizes = part_weights(images), Counter(one.part for one in images)
    wanted = Fraction(str(quantile)) * (sum(weights.values(), Fraction()) + max(weights.values()))
    mass = Fraction()
    ordered = sorted(images, key=lambda one: one.score)
    for one in ordered:
        mass += weights[one.part] / sizes[one.part]
        if mass >= wanted:
            return one.score
    return ordered[-1].score


def _threshold(good: Sequence[AuditedImage], quantile: float, confidence: float | None) -> float:
    if confidence is None:
        return weighted_quantile(good, quantile)
    drawn = sorted(representatives([one.score for one in good], [one.part for one in good]))
    rank = confident_rank(len(drawn), quantile, confidence)
    return drawn[-1] if rank is None else drawn[rank - 1]


def _equally_likely(images: Sequence[AuditedImage]) -> list[AuditedImage]:
    """Return images of which each was as likely to be drawn as the least likely one."""
    least = _least(images)
    return [one for one in images if _share(one.inspection_id) < least / _exact(one.probability)]


def _share(inspection_id: str) -> Fraction:
    return Fraction(int.from_bytes(hashlib.sha256(f"thin/{inspection_id}".encode()).digest()[:8], "big"), 2**64)


def _too_few(parts: int, counting: int, needed: int, quantile: float, confidence: float | None) -> str:
    sure = "on average" if confidence is None else f"with {100 * confidence:g} % confidence"
    weighed = "" if counting == parts else f", which count as {counting}, because some were less likely to be drawn"
    return (
        f"{parts} good parts answer the audit of this version{weighed}; at most {100 * (1 - quantile):.3g} % false "
        f"rejects, {sure}, take {needed}: {needed - counting} more. Set audit_share in the product's review plan, let "
        "people answer the audit, and export again"
    )


def _name(audited: Sequence[AuditedImage], *rule: object) -> str:
    text = repr((sorted((one.inspection_id, one.good, one.probability, one.score) for one in audited), rule))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ProposalEffect:
    """What a proposal would have done to images that people judged."""

    changes: dict[tuple[Verdict, Verdict], int]
    """(before, after) -> all reviewed images of the version, those that keep their verdict left out."""
    compared: int
    audit_before: dict[str, float]
    """Estimated of all images that came: shares that failed or were for review, of good ones and of defects."""
    audit_after: dict[str, float]
    defects: int
    """Of the audit: few say little."""


def effect_of(
    proposal: ThresholdProposal, images: Sequence[ReviewedImage], audited: Sequence[AuditedImage]
) -> ProposalEffect:
    """Return what a proposal would have done to the images of this version that people judged."""
    scored = [(one.verdict, proposal.verdict(one.score)) for one in images if one.verdict and one.score is not None]
    after = {one.inspection_id: proposal.verdict(one.score) for one in audited}
    return ProposalEffect(
        changes=dict(Counter((before, then) for before, then in scored if before is not then)),
        compared=len(scored),
        audit_before=_shares(audited, {one.inspection_id: one.verdict for one in audited}),
        audit_after=_shares(audited, after),
        defects=sum(not one.good for one in audited),
    )


def _shares(audited: Sequence[AuditedImage], verdicts: dict[str, Verdict]) -> dict[str, float]:
    """Return shares of images at large, estimated from the audit: each stands for 1 / p."""
    shares = {}
    for kind, good in (("good", True), ("defect", False)):
        of_kind = [one for one in audited if one.good is good]
        total = sum(1 / one.probability for one in of_kind)
        for verdict in (Verdict.REVIEW, Verdict.FAIL):
            found = sum(1 / one.probability for one in of_kind if verdicts[one.inspection_id] is verdict)
            shares[f"{kind}_{verdict.value}"] = found / total if total else math.nan
    return shares


def agreement(images: Sequence[ReviewedImage]) -> dict[str, dict[str, int]]:
    """Return how often people decided what, by verdict: it measures, and moves nothing."""
    table = {verdict.value: {"ok": 0, "defect": 0} for verdict in Verdict}
    for one in images:
        if one.verdict is not None:
            table[one.verdict.value][one.decision] += 1
    return table


def as_report(proposal: ThresholdProposal, effect: ProposalEffect, bundle: Bundle) -> dict[str, Any]:
    """Return the proposal as JSON can hold it."""
    return {
        "proposal": proposal.name,
        "product": bundle.manifest.product,
        "version": bundle.manifest.version,
        "bundle": bundle.hash,
        "review": proposal.review,
        "fail": proposal.fail,
        "good_parts": proposal.parts,
        "promise": {
            "false_rejects_at_most": 1 - proposal.promised.quantile,
            "confidence": proposal.promised.confidence,
            "parts": proposal.promised.groups,
            "needed": proposal.promised.needed,
        },
        "compared": effect.compared,
        "changes": [
            {"before": before.value, "after": after.value, "count": count}
            for (before, after), count in sorted(effect.changes.items())
        ],
        "audit_before": {name: None if math.isnan(share) else share for name, share in effect.audit_before.items()},
        "audit_after": {name: None if math.isnan(share) else share for name, share in effect.audit_after.items()},
        "defects": effect.defects,
    }
