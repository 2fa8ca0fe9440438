"""The last inspections by a version, which show how its scores lie and what other limits would have done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from glad_client.answers import MAX_EFFECT_READ
from model_store.store import BundleRef
from service.contract import Result, State
from service.queue.history import History, HistoryFilter

T = TypeVar("T")

PAGE = 200
MAX_COMPARED = 5000


async def read_recent(
    history: History,
    ref: BundleRef,
    take: Callable[[Result], T | None],
    last: int,
    *,
    since: datetime | None = None,
    max_read: int = MAX_EFFECT_READ,
) -> list[T]:
    """Return what is taken of a version's inspections that are done, the latest first.

    Args:
        history: read from its newest end, a page at a time.
        ref: the version whose inspections count.
        take: returns what is kept of an inspection, or None if it does not count. Results are large: keep little.
        last: how many to return, at most.
        since: only those that ended at this time or later.
        max_read: how many of the product's inspections to read for that.
    """
    done = HistoryFilter(product=ref.product, state=State.DONE, since=since)
    found: list[T] = []
    position, read = None, 0
    while len(found) < last and read < max_read:
        page = await history.page(done, after=position, limit=min(PAGE, max_read - read), newest_first=True)
        taken = (take(result) for result in page.results if _is_of(ref, result))
        found += [one for one in taken if one is not None]
        position, read = page.position, read + len(page.results)
        if not page.more:
            break
    return found[:last]


async def share_of_a_day(history: History, product: str, changed: int, compared: int) -> float | None:
    """Return about how many a day would change, of so many that were compared; None if none were."""
    return None if compared == 0 else round(changed / compared * await history.ended_in_last_day(product), 1)


def _is_of(ref: BundleRef, result: Result) -> bool:
    return result.bundle is not None and result.bundle.hash == ref.hash
