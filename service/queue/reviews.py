"""Operators' reviews of ended inspections: kept with the inspection, told as events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, cast

import redis.asyncio

from service.contract import Event, Result, Review
from service.queue import keys
from service.queue.scripts import load

MOST_REVIEWS = 50
"""Of one inspection."""


class ReviewOutcome(StrEnum):
    """What became of a review."""

    RECORDED = "recorded"
    UNKNOWN = "unknown"
    """The inspection is no longer kept."""
    UNFINISHED = "unfinished"
    """The inspection has not ended."""
    FULL = "full"
    """The inspection has `MOST_REVIEWS` reviews."""


class Reviews:
    """Writes reviews."""

    def __init__(self, client: redis.asyncio.Redis, *, max_events: int) -> None:
        self._script = client.register_script(load("events", "review"))
        self._max_events = max_events

    async def add(self, result: Result, review: Review) -> ReviewOutcome:
        """Adds a review to an ended inspection, once however often it is called. RedisError if Redis is away."""
        if not result.state.final:
            return ReviewOutcome.UNFINISHED
        event = Event.of_review(result, review).model_dump_json(exclude_none=True)
        outcome = await cast(
            "Any",
            self._script(
                keys=[keys.inspection(result.id), keys.EVENTS],
                args=[result.id, review.model_dump_json(exclude_none=True), event, self._max_events, MOST_REVIEWS],
            ),
        )
        return ReviewOutcome(outcome)
