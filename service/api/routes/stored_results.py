"""The last inspections by a version, which show how its scores lie and what other limits would have done."""

from __future__ import annotations

from collections.abc import Callable

from glad_client.answers import MAX_EFFECT_READ
from model_store.store import BundleRef
from service.api.dependencies import Services
from service.queue.recent import EndedInspection

MAX_COMPARED = 5000


async def read_recent(
    services: Services,
    ref: BundleRef,
    counts: Callable[[EndedInspection], bool],
    last: int,
    *,
    anew: bool = False,
) -> list[EndedInspection]:
    """Return a version's last inspections that are done and count, the latest first.

    Args:
        services: of this process.
        ref: the version.
        counts: returns whether an inspection counts.
        last: how many, at most.
        anew: with what people have decided by now.
    """
    return await services.recent.read(ref.product, ref.hash, counts, last, max_read=MAX_EFFECT_READ, anew=anew)


def has_score(one: EndedInspection) -> bool:
    """Return whether it was inspected: what the quality gate stopped has no score."""
    return one.score is not None


def is_by_score(one: EndedInspection) -> bool:
    """Return whether its score decided its verdict, so that other thresholds could have changed it."""
    return one.by_score


def has_measures(one: EndedInspection) -> bool:
    """Return whether what the quality gate measured is kept."""
    return one.measures is not None


async def share_of_a_day(services: Services, product: str, changed: int, compared: int) -> float | None:
    """Return about how many a day would change, of so many that were compared; None if none were."""
    if compared == 0:
        return None
    return round(changed / compared * await services.history.ended_in_last_day(product), 1)
