"""What other thresholds would have done to the inspections that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, Field

from model_store.store import BundleRef
from service.contract import InspectionId, Result, State, Thresholds, Timestamp, Verdict
from service.queue.history import History, HistoryFilter

PAGE = 200
MOST_COMPARED = 5000
MOST_LOOKED_AT = 20_000
"""Of the product's last inspections, where most are of another version: a preview is no walk through all history."""
SHOWN_EXAMPLES = 20


class Change(BaseModel):
    """How many inspections would have had another verdict."""

    before: Verdict
    after: Verdict
    count: int


class Effect(BaseModel):
    """The new thresholds on the product's last inspections by this version."""

    compared: int = Field(
        description="inspections with a score that are kept, the latest first, at most `last`, found among the "
        f"product's last {MOST_LOOKED_AT}; what the quality gate stopped has none"
    )
    changed: int
    changes: list[Change]
    oldest: Timestamp | None = Field(description="end of the oldest of them")
    examples: list[InspectionId] = Field(description=f"the latest that change, at most {SHOWN_EXAMPLES}")


async def effect_on(
    history: History, ref: BundleRef, limits: Thresholds, last: int, *, most_looked_at: int = MOST_LOOKED_AT
) -> Effect:
    """These limits on the bundle's last inspections. Reads the history from its new end, a page at a time."""
    wanted = HistoryFilter(product=ref.product, state=State.DONE)
    results: list[Result] = []
    position, looked_at = None, 0
    while len(results) < last and looked_at < most_looked_at:
        page = await history.page(
            wanted, after=position, limit=min(PAGE, most_looked_at - looked_at), newest_first=True
        )
        results += [result for result in page.results if result.score is not None and _is_of(ref, result)]
        position, looked_at = page.position, looked_at + len(page.results)
        if not page.more:
            break
    return compare(results[:last], limits)


def _is_of(ref: BundleRef, result: Result) -> bool:
    return result.bundle is not None and result.bundle.hash == ref.hash


def compare(results: Iterable[Result], limits: Thresholds) -> Effect:
    """These limits on inspections that are done, the latest first."""
    pairs = [
        (result, result.verdict, limits.verdict(result.score))
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
