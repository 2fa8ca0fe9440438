"""Review plans: which share of a product's images people judge blind, and its defect codes. Every change is kept."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

import redis.asyncio

from glad_client.reviews import ReviewPlan, ReviewPlanChange, ReviewPlanSettings
from service.queue import keys
from service.queue.scripts import load

MOST_PLANS = 200
"""Plans that are kept of a product, about."""


class PlanChanged(Exception):
    """Another plan than those that were to be replaced is in force."""


class ReviewPlans:
    """Reads and writes review plans. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._set = client.register_script(load("set_review_plan"))

    async def current(self, product: str) -> ReviewPlanChange:
        """Return the plan in force: of a product without one it draws no image, and takes any defect code."""
        rows = await cast("Any", self._redis.xrevrange(keys.review_plan(product), count=1))
        return _read(rows[0]) if rows else ReviewPlanChange(revision=0, by=None, at=None)

    async def show(self, product: str) -> ReviewPlan:
        """Return the plan in force, and those before it."""
        rows = await cast("Any", self._redis.xrevrange(keys.review_plan(product), count=MOST_PLANS))
        now, *earlier = [_read(row) for row in rows] or [ReviewPlanChange(revision=0, by=None, at=None)]
        return ReviewPlan(**now.model_dump(), product=product, earlier=earlier)

    async def set(
        self,
        product: str,
        settings: ReviewPlanSettings,
        by: str,
        at: datetime,
        *,
        revisions: Collection[int] | None = None,
    ) -> ReviewPlanChange:
        """Put a plan into force for images that come from now on.

        Args:
            product: its name.
            settings: the plan.
            by: who sets it.
            at: the time now.
            revisions: that it may replace; None: any.

        Raises:
            PlanChanged: if it would replace another one.
        """
        change = ReviewPlanChange(**settings.model_dump(), revision=0, by=by, at=at)
        plan = change.model_dump_json(exclude={"revision"})
        replaced = "" if revisions is None else "".join(f" {one} " for one in revisions) or " "
        revision = await cast("Any", self._set(keys=[keys.review_plan(product)], args=[plan, MOST_PLANS, replaced]))
        if revision is None:
            present = await self.current(product)
            same = present.model_copy(update={**dict(settings), "by": by}) == present
            if same and revisions is not None and present.revision - 1 in revisions:
                return present  # the answer to an earlier call was lost, and the caller repeats it
            raise PlanChanged
        return change.model_copy(update={"revision": int(revision)})


def _read(row: tuple[str, dict[str, str]]) -> ReviewPlanChange:
    fields = row[1]
    return ReviewPlanChange.model_validate(json.loads(fields["plan"]) | {"revision": int(fields["revision"])})
