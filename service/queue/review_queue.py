"""Which image a person reviews next. An image is given to one person at a time, by a claim that ends by itself."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

import redis.asyncio

from glad_client.reviews import CLAIM_S, ReviewTaskName
from service.contract import parse_inspection_id
from service.queue import keys
from service.queue.clock import from_ms
from service.queue.scripts import load

MOST_SKIPPED = 100
"""Ids that a person may put off in one call."""
MOST_CLAIMS = 10
"""Images that one person has at a time: a page needs two."""


class ClaimsFull(Exception):
    """The person has `MOST_CLAIMS` images."""


class WaitingKind(StrEnum):
    """What an image waits for: see reviewed.lua."""

    FAIL = "fail"
    NO_RESULT = "no_result"
    """The inspection failed or expired."""
    REVIEW = "review"
    AUDIT = "audit"
    DOUBLE_READ = "double_read"
    DISPUTED = "disputed"
    """Two people disagree, the second of whom looked blind."""

    @property
    def task(self) -> ReviewTaskName:
        """The task of the person who gets the image."""
        if self is WaitingKind.AUDIT:
            return "audit"
        return "double_read" if self is WaitingKind.DOUBLE_READ else "queue"

    @property
    def blind(self) -> bool:
        """Whether the person sees the image without what was found of it."""
        return self in {WaitingKind.AUDIT, WaitingKind.DOUBLE_READ}


@dataclass(frozen=True)
class ReviewClaim:
    """An image that one person has."""

    claim: str
    inspection_id: str
    kind: WaitingKind
    person: str
    until: datetime | None = None
    """When it ends; None: not read."""


class ReviewQueue:
    """Gives waiting images to people. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, *, length_s: float = CLAIM_S) -> None:
        """Prepare the scripts; nothing connects yet.

        Args:
            client: of the service's Redis.
            length_s: how long a claim lasts, unless it is renewed.
        """
        self._redis, self._length_ms = client, round(length_s * 1000)
        self._next, self._renew, self._settle = (
            client.register_script(load(*names))
            for names in (("next_review",), ("renew_claim",), ("reviewed", "settle_review"))
        )

    async def next(
        self,
        person: str,
        *,
        product: str | None = None,
        station: str | None = None,
        skip: Sequence[str] = (),
        wanted: str | None = None,
        desk: str | None = None,
    ) -> ReviewClaim | None:
        """Give the person an image; None if none waits that the person may have.

        Args:
            person: gets no image to judge blind that the same person has judged.
            product: only of this one; None: of any.
            station: only of this one.
            skip: ids that the person does not want now.
            wanted: the id of the image, for a person who decides on it again; None: the queue decides.
            desk: where the person sits. What they were given there before, and do not name in `skip`, is given again,
                by a new claim, or, if it is not what is asked for, given back. With `wanted` others stay as they are,
                as all do without a desk.

        Raises:
            ClaimsFull: if the person has `MOST_CLAIMS` images, none of which is answered or given back.
        """
        secret = secrets.token_hex(8)
        found = await cast(
            "Any",
            self._next(
                keys=[keys.REVIEW_TURNS, keys.review_claims(person)],
                args=[
                    person,
                    MOST_CLAIMS,
                    secret,
                    self._length_ms,
                    keys.INSPECTION_PREFIX,
                    keys.REVIEW_CLAIM_PREFIX,
                    keys.WAITING_PREFIX,
                    keys.waiting_suffix(product, station),
                    wanted or "",
                    "" if desk is None else _desk_mark(desk),
                    *skip[:MOST_SKIPPED],
                ],
            ),
        )
        if not found:
            return None
        if found == "full":
            raise ClaimsFull
        inspection_id, claim, kind, until_ms = found
        return ReviewClaim(claim, inspection_id, WaitingKind(kind), person, from_ms(int(until_ms)))

    async def find(self, claim: str) -> ReviewClaim | None:
        """Return a claim that has not ended; None for any other text."""
        inspection_id = claimed_inspection(claim)
        held = None if inspection_id is None else await self._redis.get(keys.review_claim(inspection_id))
        if inspection_id is None or not held:
            return None
        token, kind, person = str(held).split("\n")
        return ReviewClaim(token, inspection_id, WaitingKind(kind), person) if token == claim else None

    async def renew(self, claim: str) -> datetime | None:
        """Let a claim last from now on as long as a new one; None if it has ended."""
        return await self._change(claim, self._length_ms)

    async def give_back(self, claim: str) -> bool:
        """End a claim; return False if it has ended before."""
        return await self._change(claim, 0) is not None

    async def settle(self, inspection_id: str) -> None:
        """End the wait of an image without a verdict, and any claim on it: it is no longer stored."""
        script_keys = [keys.inspection(inspection_id), keys.HISTORY, keys.review_claim(inspection_id)]
        await cast("Any", self._settle(keys=script_keys, args=[inspection_id]))

    async def _change(self, claim: str, length_ms: int) -> datetime | None:
        inspection_id = claimed_inspection(claim)
        if inspection_id is None:
            return None
        key, owned = keys.review_claim(inspection_id), keys.review_claims("")
        until_ms = await cast("Any", self._renew(keys=[key], args=[claim, length_ms, inspection_id, owned]))
        return None if until_ms is None else from_ms(int(until_ms))


def _desk_mark(desk: str) -> str:
    """Return what a claim made at this desk ends with: `id.secret.mark`. An earlier version reads it as any claim."""
    return hashlib.sha256(desk.encode()).hexdigest()[:16]


def claimed_inspection(claim: str) -> str | None:
    """Return the id of the inspection that a claim is of; None if the text is no claim."""
    try:
        return parse_inspection_id(claim.partition(".")[0])
    except ValueError:
        return None
