"""The effect that other thresholds would have had on the inspections that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from glad_client.answers import MAX_EFFECT_READ, SHOWN_EXAMPLES, Change, Effect
from model_store.manifest import VerdictThresholds
from model_store.store import BundleRef
from service.api.routes.stored_results import read_recent, share_of_a_day
from service.contract import Result, Verdict
from service.queue.history import History


async def preview_effect(
    history: History, ref: BundleRef, thresholds: VerdictThresholds, last: int, *, max_read: int = MAX_EFFECT_READ
) -> Effect:
    """Return what these thresholds would have done to the bundle's last inspections.

    Args:
        history: read from its newest end, a page at a time.
        ref: the version whose inspections count.
        thresholds: to try.
        last: how many inspections to compare.
        max_read: how many of the product's inspections to read for that.
    """
    results = await read_recent(history, ref, _scored, last, max_read=max_read)
    effect = compare_verdicts(results, thresholds)
    per_day = await share_of_a_day(history, ref.product, effect.changed, effect.compared)
    return effect.model_copy(update={"per_day": per_day})


def _scored(result: Result) -> Result | None:
    return None if result.score is None else result


def compare_verdicts(results: Iterable[Result], thresholds: VerdictThresholds) -> Effect:
    """Return what these thresholds would have done to inspections that are done, given latest first."""
    pairs = [
        (result, result.verdict, Verdict(thresholds.verdict(result.score)))
        for result in results
        if result.verdict is not None and result.score is not None
    ]
    changed = [(result, before, after) for result, before, after in pairs if before is not after]
    counts = Counter((before, after) for _, before, after in changed)
    return Effect(
        compared=len(pairs),
        changed=len(changed),
        changes=[Change(before=before, after=after, count=count) for (before, after), count in sorted(counts.items())],
        oldest=pairs[-1][0].finished_at if pairs else None,
        examples=[result.id for result, _, _ in changed[:SHOWN_EXAMPLES]],
    )
