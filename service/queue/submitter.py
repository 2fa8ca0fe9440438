"""Submitting a job: the API's side of the queue. One script, atomic and safe to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from model_store.product_state import PicturesWhen
from model_store.store import BundleRef, Store
from service.contract import DEFAULT_POOL, Job, PinnedGateLimits, PinnedThresholds, Priority
from service.queue import keys
from service.queue.admission import ACCEPTED, Admission, QueueEstimate, QueueLimits, Submission
from service.queue.claims import DEFAULT_LEASE_MS
from service.queue.clock import from_ms, redis_now, to_ms
from service.queue.connection import check_schema_async
from service.queue.redis_health import read_durability
from service.queue.scripts import load
from service.queue.stats import QueueStats, read_stats

log = structlog.get_logger(__name__)


class NotReplicated(RedisError):
    """Too few replicas confirmed a job in time. It counts as unavailable: submit it again, with its Idempotency-Key."""


class JobSubmitter:
    """Puts jobs into the queue, and reads the queue's state for the API."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        max_backlog: int = 1000,
        max_wait_s: float = 3600,
        wait_replicas: int = 0,
        wait_ms: int = 1000,
    ) -> None:
        """Prepare the scripts; nothing connects yet.

        Args:
            client: of the event loop that submits.
            max_backlog: queued and running jobs of a pool, beyond which it refuses a job.
            max_wait_s: expected wait by the measured pace, beyond which a pool refuses a job.
            wait_replicas: replicas that must have a job before it counts as accepted.
            wait_ms: they have so long to confirm it.
        """
        self._redis = client
        self.limits = QueueLimits(max_backlog, max_wait_s)
        self._wait_replicas, self._wait_ms = wait_replicas, wait_ms
        self._submit, self._estimate = (
            client.register_script(load("admission", name)) for name in ("submit", "estimate")
        )
        self._schema_known = False

    async def submit(
        self,
        job: Job,
        *,
        fingerprint: str = "",
        idempotency_key: str | None = None,
        client_name: str = "",
        scope: str | None = None,
        key_id: str = "",
    ) -> Submission:
        """Queue the job in its pool, once however often this is called.

        Args:
            job: accepted, with its image stored.
            fingerprint: equal for equal requests; tells apart the requests that come with one key.
            idempotency_key: None if the caller sent none.
            client_name: whose key it is.
            scope: where the key counts as one; None: within the job's product.
            key_id: of the API key whose share of the backlog the job takes; "": of none.

        Raises:
            NotReplicated: if too few replicas confirmed the job in time. It is queued, but a failover may lose it.
            RedisError: if Redis is away, or refused. After a lost connection or a timeout the job may have been
                accepted.
        """
        await self._check_schema()
        pool = keys.PoolKeys(job.pool)
        *estimate, inspection_id = await self._run_submit(
            [
                keys.inspection(job.id),
                pool.jobs(job.priority),
                keys.idempotency(client_name, scope or job.product, idempotency_key or ""),
                *_admission_keys(pool),
                keys.POOLS,
                keys.TAKTS,
            ],
            [
                job.id,
                job.to_json(),
                fingerprint,
                int(idempotency_key is not None),
                *self._admission_args(job.priority, job.deadline_ms, pool, key_id),
                "" if job.serial is None else keys.unfinished(job.serial),
                job.pool,
                "" if job.due_at is None else to_ms(job.due_at),
            ],
        )
        return Submission(*_estimate_fields(*estimate), inspection_id)

    async def _run_submit(self, script_keys: list[str], args: list[str | int | float]) -> list[Any]:
        if not self._wait_replicas:
            return cast("list[Any]", await cast("Any", self._submit(keys=script_keys, args=args)))
        # WAIT is for what its own connection has seen. In one pipeline the two stay together: if the connection is lost
        # in between, and another Redis answers at the same address, it is given the job anew. A repeat writes nothing,
        # but Redis takes note of its position after each command: the replicas must have what the first call wrote.
        async with self._redis.pipeline(transaction=False) as pipe:
            await cast("Any", self._submit(keys=script_keys, args=args, client=pipe))
            pipe.wait(self._wait_replicas, self._wait_ms)
            reply, confirmed = await pipe.execute()
        if Admission(reply[0]) in ACCEPTED and confirmed < self._wait_replicas:
            raise NotReplicated(
                f"{confirmed} of {self._wait_replicas} replicas (GLAD_REDIS_WAIT_REPLICAS) confirmed the job within "
                f"{self._wait_ms} ms (GLAD_REDIS_WAIT_MS)"
            )
        return cast("list[Any]", reply)

    async def estimate(
        self,
        priority: Priority = Priority.NORMAL,
        deadline_ms: int | None = None,
        *,
        pool: str = DEFAULT_POOL,
        key_id: str = "",
    ) -> QueueEstimate:
        """Return what a submission with this API key ("": without one) to this pool would find now; it queues nothing.

        Raises:
            RedisError: if Redis is away.
        """
        await self._check_schema()
        pool_keys = keys.PoolKeys(pool)
        args = self._admission_args(priority, deadline_ms, pool_keys, key_id)
        reply = await cast("Any", self._estimate(keys=_admission_keys(pool_keys), args=args))
        return QueueEstimate(*_estimate_fields(*reply))

    async def _check_schema(self) -> None:
        """Look once, at the first call that reaches Redis, at its data's version and at how durable they are."""
        if not self._schema_known:
            await check_schema_async(self._redis)
            if problems := (await read_durability(self._redis, self._wait_replicas)).problems:
                log.warning("Redis may lose what it was given", problems=problems)
            self._schema_known = True

    def _admission_args(
        self, priority: Priority, deadline_ms: int | None, pool: keys.PoolKeys, key_id: str
    ) -> list[str | int | float]:
        max_wait_ms, deadline = self.limits.max_wait_s * 1000, "" if deadline_ms is None else deadline_ms
        places = pool.places(key_id) if key_id else ""
        return [priority.value, self.limits.max_backlog, max_wait_ms, deadline, places, keys.INSPECTION_PREFIX]

    async def now(self) -> datetime:
        """Return Redis's time, for what will be compared with the acceptance of images.

        Raises:
            RedisError: if Redis is away.
        """
        return await redis_now(self._redis)

    async def ping(self) -> None:
        """Return if Redis answers.

        Raises:
            RedisError: if it is away.
        """
        await cast("Any", self._redis.ping())

    async def stats(
        self, pools: Sequence[str] = (DEFAULT_POOL,), *, worker_seen_s: float = DEFAULT_LEASE_MS / 1000
    ) -> dict[str, QueueStats]:
        """Return the queues of these pools as they are now, and of any other pool that has a job.

        Args:
            pools: named in the answer even if they are empty.
            worker_seen_s: a worker counts as alive if it was heard of in so many last seconds.
        """
        return await read_stats(self._redis, pools, worker_seen_s)


def _admission_keys(pool: keys.PoolKeys) -> list[str]:
    return [pool.jobs(Priority.HIGH), pool.jobs(Priority.NORMAL), pool.leases, pool.pace]


def _estimate_fields(
    decision: str, backlog: int, ahead: int, mean_ms: str, at_ms: int
) -> tuple[Admission, int, int, float | None, datetime]:
    """Return the fields of a `QueueEstimate` from the reply of a script."""
    return Admission(decision), int(backlog), int(ahead), float(mean_ms) if mean_ms else None, from_ms(int(at_ms))


@dataclass(frozen=True)
class Pinned:
    """Bundle, thresholds, gate and pictures that are in force for a product at one moment."""

    bundle: BundleRef
    thresholds: PinnedThresholds
    gate: bool
    """Whether the quality gate is asked: the bundle has one, and the product's is not switched off."""
    gate_limits: PinnedGateLimits | None
    """Limits in place of those of the bundle's gate; None: all are the bundle's."""
    pictures: PicturesWhen
    """When pictures are drawn of a part that passes."""

    @property
    def job_fields(self) -> dict[str, Any]:
        """The same values as fields of a `Job`."""
        return {
            "bundle_version": self.bundle.version,
            "bundle_hash": self.bundle.hash,
            "thresholds": self.thresholds,
            "gate": self.gate,
            "gate_limits": self.gate_limits,
            "pictures": self.pictures,
        }


def pin_now(store: Store, product: str) -> Pinned:
    """Return what is in force for the product now.

    Raises:
        StoreError: if the product has no usable bundle.
        ValueError: if its overridden thresholds do not fit together.
    """
    bundle = store.resolve(product)
    thresholds = PinnedThresholds.from_limits(store.thresholds(bundle))
    state = store.state(product)
    gated = bundle.manifest.gate is not None and state.gate_on
    limits = state.gate_limits.get(bundle.version) if gated else None
    return Pinned(
        bundle,
        thresholds,
        gate=gated,
        gate_limits=None if limits is None else PinnedGateLimits(**limits.model_dump()),
        pictures=state.pictures_when,
    )
