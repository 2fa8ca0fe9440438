"""The effect that other thresholds would have had on the inspections that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from glad_client.answers import SHOWN_EXAMPLES, Change, Effect
from model_store.manifest import VerdictThresholds
from model_store.store import BundleRef
from service.api.dependencies import Services
from service.api.routes.stored_results import expected_changes, is_by_score, read_recent
from service.contract import Verdict
from service.queue.recent import EndedInspection


async def preview_effect(services: Services, ref: BundleRef, thresholds: VerdictThresholds, last: int) -> Effect:
    """Return what these thresholds would have done to the bundle's last inspections.

    Args:
        services: of this process.
        ref: the version whose inspections count.
        thresholds: to try.
        last: how many inspections to compare.
    """
    effect = compare_verdicts(await read_recent(services, ref, is_by_score, last), thresholds)
    expected = await expected_changes(services, ref.product, effect.changed, effect.compared)
    return effect.model_copy(update=expected)


def compare_verdicts(inspections: Iterable[EndedInspection], thresholds: VerdictThresholds) -> Effect:
    """Return what these thresholds would have done to inspections that are done, given latest first."""
    pairs = [(one, one.verdict, Verdict(thresholds.verdict(one.score))) for one in inspections if one.score is not None]
    changed = [(one, before, after) for one, before, after in pairs if before is not after]
    counts = Counter((before, after) for _, before, after in changed)
    return Effect(
        compared=len(pairs),
        changed=len(changed),
        changes=[Change(before=before, after=after, count=count) for (before, after), count in sorted(counts.items())],
        oldest=pairs[-1][0].finished_at if pairs else None,
        examples=[one.id for one, _, _ in changed[:SHOWN_EXAMPLES]],
    )
