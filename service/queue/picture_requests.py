"""Requests for pictures that need the models: a worker draws them when no image waits.

The reconstruction of a part that passed is not kept: the worker that is asked for it inspects the stored image once
more, by the bundle that inspected it, and the same bytes give the same reconstruction. Nothing depends on a request:
one that is lost, with a worker or with Redis, is made again by the next question for the picture.
"""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.asyncio

from service.contract import IMAGE, Job, Priority, Result
from service.queue import keys
from service.queue.claims import ClaimedJob
from service.queue.clock import redis_now
from service.queue.results import RESULT_FIELDS, read_result
from service.storage.artifacts import ArtifactStore

ANSWER_TTL_S = 60
"""How long a request counts as made, and how long a failure is told, before the picture may be asked for again."""
_WANTED = "wanted"


class PictureRequests:
    """The API's side: asks for the reconstruction of an inspection."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client

    async def request(self, inspection_id: str, pool: str) -> str | None:
        """Ask for the picture, if it has not been asked for lately; return why it cannot be drawn, if that is known.

        Raises:
            RedisError: if Redis is away.
        """
        marker, pool_keys = keys.picture(inspection_id), keys.PoolKeys(pool)
        if await cast("Any", self._redis.set(marker, _WANTED, nx=True, ex=ANSWER_TTL_S)):
            asked_at = await redis_now(self._redis)
            async with self._redis.pipeline() as pipeline:
                pipeline.zadd(pool_keys.pictures, {inspection_id: asked_at.timestamp()})
                pipeline.xadd(pool_keys.wake, {"id": inspection_id}, maxlen=1, approximate=False)
                await pipeline.execute()
            return None
        answer = await cast("Any", self._redis.get(marker))
        return None if answer in {None, _WANTED} else cast(str, answer)


class PictureClaims:
    """The worker's side: takes requests, and answers them."""

    def __init__(self, client: redis.Redis, pool: keys.PoolKeys, owner: str) -> None:
        self._redis, self._keys, self._owner = client, pool, owner

    def take(self) -> ClaimedJob | None:
        """Return the longest waiting request as a job that ends in a picture alone; None: there is none.

        Raises:
            RedisError: if Redis is away.
        """
        while popped := cast("list[tuple[str, float]]", self._redis.zpopmin(self._keys.pictures)):
            inspection_id = popped[0][0]
            result = read_result(
                inspection_id, cast("Any", self._redis.hmget(keys.inspection(inspection_id), RESULT_FIELDS))
            )
            if result is not None and (job := _job_of(result)) is not None:
                return ClaimedJob(
                    job=job,
                    owner=self._owner,
                    attempt=0,  # claims of inspections begin at 1
                    alone=False,
                    waited_ms=0,
                    started_ms=0,
                    claimed_ms=0,
                    picture_only=True,
                    shown_attempt=result.attempts,
                )
        return None

    def drawn(self, claimed: ClaimedJob) -> None:
        """Note that the picture is stored."""
        self._redis.delete(keys.picture(claimed.id))

    def failed(self, claimed: ClaimedJob, why: str) -> None:
        """Note why the picture cannot be drawn, for those who ask for it within `ANSWER_TTL_S`."""
        self._redis.set(keys.picture(claimed.id), why or "no reason is known", ex=ANSWER_TTL_S)

    def hand_back(self, claimed: ClaimedJob) -> None:
        """Leave the request to another worker."""
        self._redis.zadd(self._keys.pictures, {claimed.id: 0.0})


def _job_of(result: Result) -> Job | None:
    """Return the job of an ended inspection once more, without what only its first time had; None: it has no verdict.

    Its deadline is over, and the quality gate has let it through.
    """
    if result.bundle is None or result.thresholds is None or result.image_sha256 is None or result.verdict is None:
        return None
    return Job(
        id=result.id,
        product=result.product,
        bundle_version=result.bundle.version,
        bundle_hash=result.bundle.hash,
        thresholds=result.thresholds,
        image_ref=ArtifactStore.ref(result.id, IMAGE),
        image_sha256=result.image_sha256,
        image_format="",
        image_bytes=1,
        width=result.width or 1,
        height=result.height or 1,
        accepted_at=result.accepted_at,
        priority=Priority.NORMAL,
    )
