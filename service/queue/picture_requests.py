"""Requests for pictures that need the models: a worker draws them when no image waits.

The reconstruction of a part that passed is not kept: the worker that is asked for it inspects the stored image once
more, by the bundle that inspected it, and the same bytes give the same reconstruction. Nothing depends on a request:
one that is lost, with a worker or with Redis, is made again by the next question for the picture.
A worker that cannot use the bundle leaves the request to one that can.
"""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.asyncio

from service.contract import IMAGE, Job, PinnedThresholds, Priority, Result
from service.queue import keys
from service.queue.claims import ClaimedJob, UnusableBundles
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

    def __init__(self, client: redis.Redis, pool: keys.PoolKeys, owner: str, *, lease_ms: int) -> None:
        """Take the pool's requests for `owner`; a worker that was silent for `lease_ms` is not alive."""
        self._redis, self._keys, self._owner, self._lease_ms = client, pool, owner, lease_ms

    def take(self, unusable: UnusableBundles) -> ClaimedJob | None:
        """Return the longest waiting request as a job that ends in a picture alone; None: none is for this worker.

        Args:
            unusable: requests for pictures by these bundles are left to other workers. One whose bundle no living
                worker of the pool has comes as `unserved`, to be answered so.

        Raises:
            RedisError: if Redis is away.
        """
        passed_over = 0
        while waiting := cast("list[str]", self._redis.zrange(self._keys.pictures, passed_over, passed_over)):
            inspection_id = waiting[0]
            result = read_result(
                inspection_id, cast("Any", self._redis.hmget(keys.inspection(inspection_id), RESULT_FIELDS))
            )
            job = None if result is None else _job_of(result)
            lacks = job is not None and job.bundle_hash in unusable.missing | unusable.away
            unserved = lacks and job is not None and self._is_lacked_by_all(job.bundle_hash)
            if lacks and not unserved:
                passed_over += 1
            elif self._redis.zrem(self._keys.pictures, inspection_id) and job is not None and result is not None:
                return ClaimedJob(
                    job=job,
                    owner=self._owner,
                    attempt=0,  # claims of inspections begin at 1
                    alone=False,
                    waited_ms=0,
                    started_ms=0,
                    claimed_ms=0,
                    unserved=unserved,
                    picture_only=True,
                    shown_attempt=result.attempts,
                )
        return None

    def _is_lacked_by_all(self, bundle_hash: str) -> bool:
        """Return whether every living worker of the pool has said that its store does not have the bundle."""
        seconds, microseconds = self._redis.time()
        seen_from = seconds * 1000 + microseconds // 1000 - self._lease_ms
        owners = cast("list[str]", self._redis.zrangebyscore(self._keys.workers, seen_from, "+inf"))
        return all(self._redis.sismember(keys.lacking(owner), bundle_hash) for owner in owners)

    def drawn(self, claimed: ClaimedJob) -> None:
        """Note that the picture is stored."""
        self._redis.delete(keys.picture(claimed.id))

    def failed(self, claimed: ClaimedJob, why: str) -> None:
        """Note why the picture cannot be drawn, for those who ask for it within `ANSWER_TTL_S`."""
        self._redis.set(keys.picture(claimed.id), why or "no reason is known", ex=ANSWER_TTL_S)

    def hand_back(self, claimed: ClaimedJob) -> None:
        """Leave the request to another worker, which may be waiting for work."""
        with self._redis.pipeline() as pipeline:
            pipeline.zadd(self._keys.pictures, {claimed.id: 0.0})
            pipeline.xadd(self._keys.wake, {"id": claimed.id}, maxlen=1, approximate=False)
            pipeline.execute()


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
        thresholds=PinnedThresholds.from_limits(result.thresholds),
        image_ref=ArtifactStore.ref(result.id, IMAGE),
        image_sha256=result.image_sha256,
        image_format="",
        image_bytes=1,
        width=result.width or 1,
        height=result.height or 1,
        accepted_at=result.accepted_at,
        priority=Priority.NORMAL,
    )
