"""The part of `glad calibrate` that proposes thresholds from reviews of a running service; it changes nothing."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from model_store.bundle import Bundle
    from training.calibration.audit import ProposalEffect, ReviewedImage, ThresholdProposal

FEW_DEFECTS = 20
"""Below so many defects in the audit their shares say little."""


def propose_from_reviews(bundle_folder: Path, labels: Path, confidence: float | None, json_file: Path | None) -> None:
    """Print thresholds that the blind random audit supports, their effect, and the command that applies them.

    Raises:
        ValueError: if the labels cannot be read, or too few answer the audit.
    """
    from model_store.bundle import open_bundle
    from training.calibration.audit import (
        agreement,
        as_report,
        audited_images,
        effect_of,
        of_version,
        propose_thresholds,
        read_reviewed,
    )

    bundle = open_bundle(bundle_folder)
    images = read_reviewed(labels)
    of_this, audited = of_version(images, bundle), audited_images(images, bundle)
    _tell_labels(images, of_this, len(audited), agreement(of_this))
    limits = bundle.manifest.thresholds
    proposal = propose_thresholds(
        audited, limits.fail_quantile, limits.review_quantile, confidence or limits.confidence
    )
    effect = effect_of(proposal, of_this, audited)
    _tell_proposal(bundle, proposal, effect)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(as_report(proposal, effect, bundle), indent=2) + "\n", encoding="utf-8")


def _tell_labels(
    images: Sequence[ReviewedImage],
    of_this: Sequence[ReviewedImage],
    audited: int,
    table: Mapping[str, Mapping[str, int]],
) -> None:
    typer.echo(f"{len(of_this)} reviewed images of this version; {len(images) - len(of_this)} of others are left out")
    typer.echo("what people decided, by verdict (this measures, and moves nothing):")
    for verdict, counts in table.items():
        typer.echo(f"  {verdict:<8} {counts['ok']:>6} ok {counts['defect']:>6} defect")
    typer.echo(f"{audited} of them answer the blind random audit and have a score: these alone move thresholds")


def _tell_proposal(bundle: Bundle, proposal: ThresholdProposal, effect: ProposalEffect) -> None:
    limits, promised = bundle.manifest.thresholds, proposal.promised
    sure = "on average" if promised.confidence is None else f"with {100 * promised.confidence:g} % confidence"
    thinned = f", of which {promised.groups} count so that all were equally likely" if proposal.thinned else ""
    typer.echo(
        f"proposal {proposal.name}: review from {proposal.review:.4f}, fail from {proposal.fail:.4f} "
        f"(calibrated: {limits.review:.4f}, {limits.fail:.4f})"
    )
    typer.echo(
        f"{proposal.parts} good parts of the audit{thinned}: at most {100 * (1 - promised.quantile):.3g} % of good "
        f"parts that come as these did fail, {sure}; {100 * promised.rate:.3g} % is the least that so many can promise"
    )
    for (before, after), count in sorted(effect.changes.items()):
        typer.echo(f"  {before.value} -> {after.value}: {count} of {effect.compared} reviewed images")
    for kind in ("good", "defect"):
        for verdict in ("review", "fail"):
            name = f"{kind}_{verdict}"
            typer.echo(
                f"  of {kind} parts at large, estimated from the audit: {_percent(effect.audit_before[name])} "
                f"{verdict} before, {_percent(effect.audit_after[name])} after"
            )
    if effect.defects < FEW_DEFECTS:
        typer.echo(f"the audit has {effect.defects} defects: what is said of them is hardly more than a hint")
    typer.echo("nothing was changed. To apply it:")
    version = f"{bundle.manifest.product}/{bundle.manifest.version}"
    words = ["glad", "thresholds", "set", version, "--review", repr(proposal.review), "--fail", repr(proposal.fail)]
    note = f"proposal {proposal.name} from {proposal.parts} good parts of the audit"
    typer.echo(f"  {shlex.join([*words, '--note', note])}")


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.2g} %"
