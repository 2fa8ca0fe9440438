"""The same images through `glad serve` on one engine after another: images per second, and whether verdicts stay."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product as combinations
from pathlib import Path

from bench.support.servers import RunningService, served
from glad_client.camera.destination import Destination
from glad_client.camera.line_camera import CameraShot, LineCamera
from glad_client.client import Client
from model_store.bundle import open_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import device_of_environment, load
from service.contract import Result
from training.progress import Count, Progress

AT_ONCE = 1e6
"""Images per second of a camera that waits for nothing but a full backlog."""
WARM_IMAGES = 8
PATIENCE_S = 3600.0


class NoVerdict(Exception):
    """An image ended without a verdict, so that nothing was measured."""


@dataclass(frozen=True)
class ServingPlan:
    """The engines to serve with, how often and how fast."""

    engines: tuple[str, ...]
    """As GLAD_ENGINE has them; the first one's first run is what all others are compared with."""
    passes: int = 1
    """Every engine's turns: A, B, A, B for two."""
    rate: float = AT_ONCE
    """Images per second that are posted."""


@dataclass(frozen=True)
class Difference:
    """The differences of one run's results from another's, image by image."""

    verdict_flips: int
    largest_score_difference: float
    mean_score_difference: float
    largest_of_fail: float
    """The largest score difference over the fail threshold."""
    differing_steps: int
    """Images that triggered at another denoising step."""


@dataclass(frozen=True)
class ServingRun:
    """A run of all images on one engine."""

    wanted: str
    engine: str
    """By the worker's own metric."""
    turn: int
    """The number of this engine's turn, from 1."""
    images: int
    seconds: float
    """From the first post to the last result."""
    verdicts: dict[str, int]
    difference: Difference
    """From the very first run; that one's own is nothing."""

    @property
    def images_per_s(self) -> float:
        """The throughput."""
        return self.images / self.seconds


@dataclass(frozen=True, eq=False)
class _Served:
    engine: str
    results: tuple[Result, ...]
    seconds: float


def measure_serving(
    bundle: Path, images: Sequence[Path], plan: ServingPlan, progress: Progress
) -> tuple[ServingRun, ...]:
    """Serve all images on every engine in turn, each run by a `glad serve` of its own that is warm when it begins.

    Args:
        images: files of one folder tree.

    Raises:
        NotServed, EngineUnusable: before anything is timed, if an engine cannot serve the bundle.
        NoVerdict: if an image ends without a verdict.
        BundleError, StoreError, ValueError: if the bundle or the plan cannot be used.
    """
    _refuse_unusable(bundle, plan.engines)
    runs: list[ServingRun] = []
    first: _Served | None = None
    for turn, wanted in combinations(range(1, plan.passes + 1), plan.engines):

        def show(done: int, total: int, name: str = f"{wanted}, turn {turn}") -> None:
            progress(name, done, total)

        found = _run(bundle, images, wanted, plan.rate, show)
        first = first or found
        runs.append(_summed(found, first, wanted, turn))
    return tuple(runs)


def difference(results: Sequence[Result], reference: Sequence[Result]) -> Difference:
    """Return the differences of two runs over the same images in the same order.

    Raises:
        ValueError: if the images differ.
    """
    pairs = list(zip(results, reference, strict=True))
    if any(one.image_sha256 != other.image_sha256 for one, other in pairs):
        raise ValueError("the results are of other images: compare runs over the same ones, in the same order")
    moved = [
        (abs((one.score or 0.0) - (other.score or 0.0)), other.thresholds.fail)
        for one, other in pairs
        if other.thresholds is not None  # only of a job that could not be read, which has no verdict either
    ]
    return Difference(
        verdict_flips=sum(one.verdict != other.verdict for one, other in pairs),
        largest_score_difference=max(by for by, _ in moved),
        mean_score_difference=statistics.fmean(by for by, _ in moved),
        largest_of_fail=max(by / fail for by, fail in moved),
        differing_steps=sum(one.denoising_step != other.denoising_step for one, other in pairs),
    )


def throughput(runs: Sequence[ServingRun], wanted: str) -> float:
    """Return images per second of one engine over all its turns."""
    own = [run for run in runs if run.wanted == wanted]
    return sum(run.images for run in own) / sum(run.seconds for run in own)


def _refuse_unusable(bundle: Path, engines: Sequence[str]) -> None:
    """Load every engine once in this process, so that one that cannot serve is found before minutes of measuring."""
    opened, device = open_bundle(bundle), device_of_environment()
    for name in engines:
        load(opened, device, EngineSpec.parse(name))


def _run(bundle: Path, images: Sequence[Path], wanted: str, rate: float, progress: Count) -> _Served:
    with served(bundle, wanted) as service:
        list(_results(service, images[:WARM_IMAGES], AT_ONCE))
        began, found = datetime.now(UTC), []
        for result in _results(service, images, rate):
            found.append(result)
            progress(len(found), len(images))
    # By the worker's clock, which is this machine's: when a result is fetched here does not matter.
    ended = max(result.finished_at for result in found if result.finished_at is not None)
    return _Served(service.engine, tuple(found), (ended - began).total_seconds())


def _results(service: RunningService, images: Sequence[Path], rate: float) -> Iterator[Result]:
    """Yield every image's result, in the images' order.

    Raises:
        NoVerdict: if an image has none.
    """
    with Client(service.url, patience_s=PATIENCE_S) as client:
        camera = LineCamera(client, Destination(service.product), rate, run=str(uuid.uuid4()))
        for shot in camera.shoot(_common(images), images, PATIENCE_S):
            yield _verdict(shot)


def _verdict(shot: CameraShot) -> Result:
    if shot.has_result and shot.inspection is not None:
        return shot.inspection
    failure = shot.inspection.error if shot.inspection else None
    why = shot.error or (f"{failure.code}: {failure.detail}" if failure else "it has not ended")
    raise NoVerdict(f"{shot.file} has no verdict ({why}): measure with images that the bundle can inspect")


def _common(images: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all images."""
    return next(folder for folder in images[0].parents if all(image.is_relative_to(folder) for image in images))


def _summed(found: _Served, first: _Served, wanted: str, turn: int) -> ServingRun:
    verdicts = [str(result.verdict) for result in found.results]
    return ServingRun(
        wanted=wanted,
        engine=found.engine,
        turn=turn,
        images=len(found.results),
        seconds=found.seconds,
        verdicts={verdict: verdicts.count(verdict) for verdict in ("pass", "review", "fail")},
        difference=difference(found.results, first.results),
    )
