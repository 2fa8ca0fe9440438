"""The metrics of a worker process. Its port shows the default registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from model_store.manifest import Calibration
from service.contract import Result, Verdict
from service.queue.takeover import Reclaimed
from service.telemetry.metrics.common import (
    BANDS,
    EVALUATIONS,
    LANES,
    LOADING,
    NONE,
    SCORES,
    SECONDS,
    STEPS,
    BoundedLabel,
    ScoreBands,
    build_info,
    decoder_ends,
    stage_durations,
)

UnusableReason = Literal["missing", "away"]
STAGES = ("decode", "encode", "denoise", "score")
VERSION = ["product", "version"]


class InspectionMetrics:
    """The metrics that are read from results."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stations = BoundedLabel()
        self._bands: dict[tuple[str, str], ScoreBands] = {}
        self._completed = Counter(
            "glad_inspections_completed_total", "Verdicts given", [*VERSION, "station"], registry=registry
        )
        self._failed = Counter(
            "glad_inspections_failed_total", "Inspections without a verdict", [*VERSION, "code"], registry=registry
        )
        self._verdicts = Counter("glad_verdicts_total", "Verdicts", [*VERSION, "station", "verdict"], registry=registry)
        self._gated = Counter(
            "glad_quality_gated_total",
            "Images unfit for inspection, by the first reason; each is a verdict review without a score",
            [*VERSION, "reason"],
            registry=registry,
        )
        self._wait = Histogram(
            "glad_queue_wait_seconds", "From acceptance to the claim", ["priority"], buckets=SECONDS, registry=registry
        )
        self._duration = Histogram(
            "glad_inspection_duration_seconds",
            "From acceptance to the result",
            ["product"],
            buckets=SECONDS,
            registry=registry,
        )
        self._stages = stage_durations(registry)
        self._step = Histogram(
            "glad_denoising_step",
            "Step at which the trigger fired, of images that walked",
            ["product"],
            buckets=STEPS,
            registry=registry,
        )
        self._walks = Counter(
            "glad_walks_total",
            "Inspections by whether the image walked; one that did not was clear at its first reading",
            ["product", "walked"],
            registry=registry,
        )
        self._evaluations = Histogram(
            "glad_unet_evaluations",
            "UNet evaluations of one inspection",
            ["product"],
            buckets=EVALUATIONS,
            registry=registry,
        )
        self._score = Histogram("glad_anomaly_score", "Raw scores", VERSION, buckets=SCORES, registry=registry)
        self._banded = Counter(
            "glad_score_band_total",
            "Scores by where they lie among the good images' scores of the calibration: of good parts 10, 40, 40, 10 "
            "and 0 % are expected",
            [*VERSION, "band"],
            registry=registry,
        )

    def set_calibration(self, product: str, version: str, calibration: Calibration | None) -> None:
        """Count this bundle's scores by the bands of its calibration from now on."""
        if calibration is not None and (bands := ScoreBands.from_calibration(calibration)) is not None:
            self._bands[product, version] = bands
            for band in BANDS:  # a counter that begins at its first score would hide that score from every rate
                self._banded.labels(product, version, band)

    def count_result(self, result: Result) -> None:
        """Count an inspection that has ended, by its recorded result."""
        version = result.bundle.version if result.bundle else NONE
        if result.verdict is None:
            self._failed.labels(result.product, version, result.error.code if result.error else "unknown").inc()
            return
        station = self._stations.label_for(result.station)
        self._completed.labels(result.product, version, station).inc()
        for verdict in Verdict:  # all of them from the first part on: without failed parts the share is 0, not missing
            self._verdicts.labels(result.product, version, station, verdict.value)
        self._verdicts.labels(result.product, version, station, result.verdict.value).inc()
        self._count_unfit(result, version)
        if result.score is not None:
            self._observe_score(result.product, version, result.score)
        self._observe_steps(result)
        self._observe_durations(result)

    def _count_unfit(self, result: Result, version: str) -> None:
        # By the first reason alone, so that the counts of all reasons add up to the images.
        if result.quality is not None and result.quality.reasons:
            self._gated.labels(result.product, version, result.quality.reasons[0].check.value).inc()

    def _observe_score(self, product: str, version: str, score: float) -> None:
        self._score.labels(product, version).observe(score)
        if bands := self._bands.get((product, version)):
            self._banded.labels(product, version, bands.band_of(score)).inc()

    def _observe_steps(self, result: Result) -> None:
        if result.denoising_step:  # 0: the image did not walk, and nothing could trigger
            self._step.labels(result.product).observe(result.denoising_step)
        if result.unet_evaluations is not None and not result.unfit:
            self._evaluations.labels(result.product).observe(result.unet_evaluations)
            for walked in ("true", "false"):  # both from the first image on: a share without walks is 0, not missing
                self._walks.labels(result.product, walked)
            self._walks.labels(result.product, str(bool(result.denoising_step)).lower()).inc()

    def _observe_durations(self, result: Result) -> None:
        if result.timings_ms is None:
            return
        self._wait.labels(result.priority.value).observe(result.timings_ms.queue / 1000)
        self._duration.labels(result.product).observe(result.timings_ms.total / 1000)
        for stage in STAGES[:1] if result.unfit else STAGES:
            self._stages.labels(stage).observe(getattr(result.timings_ms, stage) / 1000)


class WorkerMetrics:
    """The metrics of one worker: lanes and steps of its engine, its bundles, jobs taken over, and results."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._inspections = InspectionMetrics(registry)
        self.count_result = self._inspections.count_result
        self._redelivered = Counter(
            "glad_inspections_redelivered_total", "Jobs taken over from a dead worker", registry=registry
        )
        self._dead = Counter("glad_inspections_dead_lettered_total", "Jobs given up", registry=registry)
        self._batch = Histogram("glad_batch_size", "Lanes advanced by one step", buckets=LANES, registry=registry)
        self._step = Histogram(
            "glad_step_duration_seconds", "Duration of one step of a batch", buckets=SECONDS, registry=registry
        )
        self._decoder_ends = decoder_ends(registry)
        self._lanes_used = Gauge("glad_lane_used", "Lanes occupied", registry=registry)
        self._lanes_total = Gauge("glad_lane_total", "Lanes there are", registry=registry)
        self._engine = Gauge(
            "glad_engine_info", "1; what runs a loaded bundle's models", [*VERSION, "engine"], registry=registry
        )
        self._unusable = Gauge(
            "glad_bundle_unusable",
            "1: this worker cannot use a bundle that it was asked for, and leaves its images to others; `missing`: not "
            "in its store, or broken; `away`: its store cannot be read",
            [*VERSION, "reason"],
            registry=registry,
        )
        self._load = Histogram(
            "glad_bundle_load_seconds",
            "From the store to models that are ready on the device, hashes and choice of engine included",
            VERSION,
            buckets=LOADING,
            registry=registry,
        )
        self._switch = Histogram(
            "glad_bundle_switch_seconds",
            "From the claim of a job whose bundle was not loaded to the end of its first step",
            VERSION,
            buckets=LOADING,
            registry=registry,
        )
        build_info(registry)

    def bundle_loaded(
        self, product: str, version: str, engine: str, *, seconds: float, calibration: Calibration | None
    ) -> None:
        """Record that a bundle's models are ready on this engine, and the seconds that loading took."""
        self._engine.labels(product, version, engine).set(1)
        self._load.labels(product, version).observe(seconds)
        self._inspections.set_calibration(product, version, calibration)

    def bundle_unloaded(self, product: str, version: str, engine: str) -> None:
        """Record that a bundle has left the memory."""
        self._engine.remove(product, version, engine)

    def set_unusable(self, bundles: Iterable[tuple[str, str, UnusableReason]]) -> None:
        """Show the bundles that this worker cannot use: product, version and reason of each."""
        self._unusable.clear()
        for product, version, reason in bundles:
            self._unusable.labels(product, version, reason).set(1)

    def bundle_switched(self, product: str, version: str, seconds: float) -> None:
        """Record the seconds from a job's claim to the end of its first step, where it had to wait for its bundle."""
        self._switch.labels(product, version).observe(seconds)

    def count_decoder_end(self, reason: str) -> None:
        """Count a decoder process that was replaced."""
        self._decoder_ends.labels(reason).inc()

    def set_lanes(self, used: int, total: int) -> None:
        """Set the lanes that are occupied, and those that there are."""
        self._lanes_used.set(used)
        self._lanes_total.set(total)

    def observe_step(self, lanes: int, seconds: float) -> None:
        """Record the lanes that one step advanced, and its duration."""
        self._batch.observe(lanes)
        self._step.observe(seconds)

    def count_reclaimed(self, reclaimed: Reclaimed) -> None:
        """Count jobs of dead workers that were taken over or given up."""
        self._redelivered.inc(len(reclaimed.suspects))
        self._dead.inc(len(reclaimed.dead))
