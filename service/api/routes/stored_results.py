"""The last inspections by a version, which show how its scores lie and what other limits would have done."""

from __future__ import annotations

from collections.abc import Callable

from glad_client.answers import MAX_EFFECT_READ
from model_store.store import BundleRef
from service.api.dependencies import Services
from service.contract.shifts import parse_shifts
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


async def expected_changes(services: Services, product: str, changed: int, compared: int) -> dict[str, float | None]:
    """Return about how many a day and a shift would change, as fields of an effect; None if none were compared."""
    if compared == 0:
        return {"per_day": None, "per_shift": None}
    per_day = changed / compared * await services.history.ended_in_last_day(product)
    shifts = len(parse_shifts(services.settings.shifts))
    return {"per_day": round(per_day, 1), "per_shift": round(per_day / shifts, 1)}
