"""What people found: adding reviews of ended inspections, and withdrawing them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

import redis.asyncio

from service.contract import Event, Result, Review, rfc3339
from service.queue import keys
from service.queue.scripts import load

MOST_REVIEWS = 50
"""Of one inspection."""
MOST_REVIEW_BYTES = 32 << 10
"""Of all reviews of one inspection: six of the longest notes, or fifty of a hundred words."""
DEFAULT_TTL_S = 7 * 86_400


class ReviewOutcome(StrEnum):
    """Outcome of adding or withdrawing a review."""

    RECORDED = "recorded"
    UNKNOWN = "unknown"
    """The inspection is no longer kept."""
    UNFINISHED = "unfinished"
    """The inspection has not ended."""
    CLAIM_LOST = "claim_lost"
    """The claim has ended, or was never of this image: somebody else may have it."""
    ANSWERED = "answered"
    """The claim was answered before, and otherwise."""
    FULL = "full"
    """The inspection has `MOST_REVIEWS` reviews, or this one would make more than `MOST_REVIEW_BYTES`."""
    NO_MEMORY = "no_memory"
    """Redis is so full that what is left is for images."""
    CHANGED = "changed"
    """The review was withdrawn by somebody else meanwhile."""


@dataclass(frozen=True)
class Answered:
    """The claim that a review answers."""

    claim: str
    double_read: bool
    """Whether the image is drawn for a second look after this one."""


class Reviews:
    """Adds operators' reviews to ended inspections, withdraws them, and adds an event for each."""

    def __init__(self, client: redis.asyncio.Redis, *, max_events: int, ttl_s: int = DEFAULT_TTL_S) -> None:
        self._add, self._withdraw = (
            client.register_script(load("reviewed", "events", name)) for name in ("review", "withdraw_review")
        )
        self._max_events, self._ttl_ms = max_events, ttl_s * 1000

    async def add(self, result: Result, review: Review, answered: Answered | None = None) -> ReviewOutcome:
        """Add a review to an ended inspection. A repeated call adds it once, and so does a repeated claim.

        Args:
            result: the inspection.
            review: of it.
            answered: the claim with which the image was given to the person; None: nobody gave it.

        Raises:
            RedisError: if Redis is away.
        """
        if not result.state.final:
            return ReviewOutcome.UNFINISHED
        line = review.model_dump(mode="json", exclude_defaults=True) | ({"claim": answered.claim} if answered else {})
        outcome = await cast(
            "Any",
            self._add(
                keys=[keys.inspection(result.id), keys.EVENTS, keys.HISTORY, keys.review_claim(result.id)],
                args=[
                    result.id,
                    json.dumps(line, ensure_ascii=False, separators=(",", ":")),
                    Event.from_review(result, review).model_dump_json(exclude_none=True),
                    self._max_events,
                    MOST_REVIEWS,
                    MOST_REVIEW_BYTES,
                    self._ttl_ms,
                    answered.claim if answered else "",
                    int(answered is not None and answered.double_read),
                ],
            ),
        )
        return ReviewOutcome(outcome)

    async def withdraw(self, result: Result, place: int, by: str, at: datetime) -> ReviewOutcome:
        """Withdraw a review: it stays, and does not count any more.

        Args:
            result: the inspection as it was read.
            place: of the review in `result.reviews`.
            by: who withdraws it.
            at: when.

        Raises:
            RedisError: if Redis is away.
        """
        review = result.reviews[place]
        withdrawn = review.model_copy(update={"withdrawn_at": at, "withdrawn_by": by})
        gained = json.dumps({"withdrawn_at": rfc3339(at), "withdrawn_by": by}, ensure_ascii=False)
        outcome = await cast(
            "Any",
            self._withdraw(
                keys=[keys.inspection(result.id), keys.EVENTS, keys.HISTORY],
                args=[
                    result.id,
                    place + 1,
                    rfc3339(review.at),
                    f",{gained[1:]}",
                    Event.from_review(result, withdrawn).model_dump_json(exclude_none=True),
                    self._max_events,
                    self._ttl_ms,
                ],
            ),
        )
        return ReviewOutcome(outcome)


def is_drawn(purpose: str, inspection_id: str, share: float) -> bool:
    """Return whether an image belongs to a random share: decided by its id alone, so that nothing can be chosen.

    Args:
        purpose: of the draw: two purposes draw independently of each other.
        inspection_id: of the image; its own random bits make the draw.
        share: 0 to 1.
    """
    digest = hashlib.sha256(f"{purpose}/{inspection_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
