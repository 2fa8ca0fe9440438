"""Bundles on their way into a worker's memory: those that are loading, and those that it cannot use for now.

A worker that cannot use a bundle leaves its jobs to the others: its claims name what it cannot use. It looks again and
again, later each time, without holding a job; once the bundle is loaded, its jobs are claimed as any other's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from service.queue.claims import UnusableBundles
from service.telemetry.metrics.worker import UnusableReason, WorkerMetrics
from service.worker.bundle_cache import BundleCache, BundleLoaded, BundleUnavailable, PinnedBundle, StoreAway
from service.worker.heartbeat import Heartbeat

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Between two attempts at a bundle that the store does not have, or has broken."""
LONGEST_PAUSE_AWAY_S = 5.0
"""The same while the store cannot be read: to look costs nothing, and many images may wait."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class BundleLoad:
    """A bundle that is being loaded."""

    bundle: PinnedBundle
    since: float
    """The engine's clock, in seconds."""
    jobs: list[str] = field(default_factory=list)
    """Those that wait for it; none, if it is only looked for again."""


@dataclass(frozen=True, eq=False)
class UnusableBundle:
    """A bundle that could not be loaded, and when that is tried again."""

    bundle: PinnedBundle
    error: BundleUnavailable
    retry_at: float
    """The engine's clock, in seconds."""
    pause_s: float
    """What the next attempt waited for."""

    @property
    def reason(self) -> UnusableReason:
        """Whether the store does not have it, or could not be read."""
        return "away" if isinstance(self.error, StoreAway) else "missing"


class BundleLoads:
    """Loads bundles beside the engine, and remembers what it cannot use. Used by the engine's thread only."""

    def __init__(
        self,
        bundles: BundleCache,
        answer: Callable[[BundleLoaded | BaseException], None],
        *,
        limit_s: float,
        metrics: WorkerMetrics,
        heartbeat: Heartbeat,
    ) -> None:
        """Start with nothing to load.

        Args:
            answer: brings the engine how a load ended; called in another thread.
            limit_s: a load that takes longer ends the engine.
        """
        self._bundles, self._answer, self._limit_s = bundles, answer, limit_s
        self._metrics, self._heartbeat = metrics, heartbeat
        self._loading: dict[str, BundleLoad] = {}
        self._unusable: dict[str, UnusableBundle] = {}
        """Both by the bundle's hash."""
        self.unusable = UnusableBundles()
        """For the next claim."""

    @property
    def busy(self) -> bool:
        """Whether any bundle is being loaded."""
        return bool(self._loading)

    def why_unusable(self, bundle: PinnedBundle) -> BundleUnavailable | None:
        """Return why the bundle could not be loaded at the last attempt; None if it may be."""
        unusable = self._unusable.get(bundle.hash)
        return unusable.error if unusable else None

    def add(self, job: str, bundle: PinnedBundle, now: float) -> None:
        """Let a job wait for its bundle, which is loaded beside if that has not begun."""
        self._begin(bundle, now).jobs.append(job)

    def _begin(self, bundle: PinnedBundle, now: float) -> BundleLoad:
        if bundle.hash not in self._loading:
            self._loading[bundle.hash] = BundleLoad(bundle, now)
            self._bundles.load_beside(bundle, self._answer)
        return self._loading[bundle.hash]

    def look_again(self, now: float) -> None:
        """Begin to load what could not be used until now, where it is time.

        Raises:
            TimeoutError: if a load that jobs wait for takes too long: a new process may find its store answering.
        """
        for load in self._loading.values():
            if load.jobs and (took_s := now - load.since) > self._limit_s:
                raise TimeoutError(
                    f"bundle {load.bundle} has been loading for {took_s:.0f} s: look at the store, or raise "
                    "GLAD_LOAD_LIMIT_S"
                )
        for unusable in self._unusable.values():
            if now >= unusable.retry_at:
                self._begin(unusable.bundle, now)

    def ended(self, message: BundleLoaded, now: float) -> Sequence[str]:
        """Keep what was loaded, or remember why it was not; return the jobs that waited for it."""
        load = self._loading.pop(message.bundle.hash, None)
        if isinstance(message.outcome, BundleUnavailable):
            self.note_unusable(message.bundle, message.outcome, now)
            self._heartbeat.bundle_missed()
        else:
            self._bundles.keep(message.outcome)
            self._note_usable(message.bundle, needed=load is not None)
        return load.jobs if load else ()

    def note_unusable(self, bundle: PinnedBundle, error: BundleUnavailable, now: float) -> None:
        """Leave the bundle's jobs to others from the next claim on."""
        before = self._unusable.get(bundle.hash)
        longest = LONGEST_PAUSE_AWAY_S if isinstance(error, StoreAway) else LONGEST_PAUSE_S
        pause_s = min(longest, before.pause_s * 2) if before else FIRST_PAUSE_S
        self._unusable[bundle.hash] = UnusableBundle(bundle, error, now + pause_s, pause_s)
        if before is None or str(before.error) != str(error):
            log.warning("bundle not usable: its images are left to other workers", bundle=str(bundle), error=str(error))
        self._changed()

    def _note_usable(self, bundle: PinnedBundle, *, needed: bool) -> None:
        if self._unusable.pop(bundle.hash, None) is not None:
            log.info("bundle usable again", bundle=str(bundle))
            self._changed()
        if needed:
            self._heartbeat.bundle_found()
        else:  # it was looked for without a job
            self._heartbeat.bundle_missed(False)

    def _changed(self) -> None:
        known = self._unusable.values()
        self.unusable = UnusableBundles(
            missing=frozenset(one.bundle.hash for one in known if one.reason == "missing"),
            away=frozenset(one.bundle.hash for one in known if one.reason == "away"),
        )
        self._metrics.set_unusable([(one.bundle.product, one.bundle.version, one.reason) for one in known])
