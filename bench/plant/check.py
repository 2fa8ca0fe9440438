"""The simulation beside the service itself: the same pictures at the same moments, really and in virtual time."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.plant.figures import Times
from bench.plant.lines import Habits, Line, Picture, Plant, Product
from bench.plant.node import NodeSettings
from bench.plant.simulation import Fleet, Measured, Shift, Story, simulate
from bench.plant.steps import StepTimes
from bench.support.served import served
from service.client.client import Client
from service.contract import Priority, Result
from training.progress import Progress

WARM = 4
CONNECTIONS = 32
PATIENCE_S = 600.0


class NoVerdict(Exception):
    """An image ended without a verdict: then there is nothing to compare."""


@dataclass(frozen=True)
class CheckPlan:
    """How long pictures are taken, and how many of them: Poisson arrivals."""

    seconds: float
    images_per_s: float
    engine: str
    lanes: int
    seed: int = 0


@dataclass(frozen=True)
class CheckFigures:
    """Really, and in virtual time."""

    images: int
    real: Times
    simulated: Times
    real_images_per_s: float
    simulated_images_per_s: float
    """Images over the time from the first picture to the last result."""
    real_mean_s: float
    simulated_mean_s: float


def measure_check(
    bundle: Path, images: Sequence[Path], times: StepTimes, plan: CheckPlan, progress: Progress
) -> CheckFigures:
    """NotServed, NoVerdict, ValueError. The step times must be of this machine, this bundle and this engine."""
    arrivals = poisson(plan)
    results = _real(bundle, images, arrivals, plan, progress)
    began = min(result.accepted_at for result in results)
    took = [(_ended(one) - one.accepted_at).total_seconds() for one in results]
    span = (max(map(_ended, results)) - began).total_seconds()
    accepted = [((one.accepted_at - began).total_seconds(), one.denoising_step or 0) for one in results]
    story = _simulated(accepted, times, plan)
    own = [end.took_s for end in story.ends]
    return CheckFigures(
        images=len(results),
        real=Times.of_seconds(took),
        simulated=Times.of_seconds(own),
        real_images_per_s=len(took) / span,
        simulated_images_per_s=len(own) / max(end.at_s for end in story.ends),
        real_mean_s=statistics.fmean(took),
        simulated_mean_s=statistics.fmean(own),
    )


def poisson(plan: CheckPlan) -> list[float]:
    """When pictures are taken, in seconds. ValueError where that is never."""
    rng, at, found = random.Random(f"check {plan.seed}"), 0.0, []
    while (at := at + rng.expovariate(plan.images_per_s)) < plan.seconds:
        found.append(at)
    if not found:
        raise ValueError(f"{plan.images_per_s} images/s for {plan.seconds} s make no image: give more of either")
    return found


def _real(
    bundle: Path, images: Sequence[Path], arrivals: Sequence[float], plan: CheckPlan, progress: Progress
) -> list[Result]:
    """Every picture's result from a `glad serve` of its own."""
    contents = [path.read_bytes() for path in images]
    with served(bundle, plan.engine) as service, Client(service.url, patience_s=PATIENCE_S) as client:
        for data in contents[:WARM]:
            client.submit(service.product, data, wait_s=30)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            began = time.monotonic()

            def post(number: int) -> Result:
                time.sleep(max(0.0, began + arrivals[number] - time.monotonic()))
                return client.submit(service.product, contents[number % len(contents)])

            sent = list(pool.map(post, range(len(arrivals))))
        found = []
        for number, one in enumerate(sent, start=1):
            found.append(_with_verdict(client.wait(one.id, PATIENCE_S)))
            progress("really", number, len(sent))
        return found


def _with_verdict(result: Result) -> Result:
    if result.verdict is None:
        raise NoVerdict(f"{result.id} ended as {result.state}: {result.error}")
    return result


def _ended(result: Result) -> datetime:
    assert result.finished_at is not None, "it has a verdict"
    return result.finished_at


def _simulated(accepted: Sequence[tuple[float, int]], times: StepTimes, plan: CheckPlan) -> Story:
    """The same arrivals and denoising steps on one node that has the bundle at hand."""
    line = Line("line", Product("product", "unet", ""), 1 / plan.images_per_s, Priority.NORMAL, None)
    taken = tuple(Picture(max(0.0, at), step) for at, step in sorted(accepted))
    shift = Shift(taken[-1].at_s, seed=plan.seed, taken=taken)
    plant, fleet = Plant((line,), Habits()), Fleet(1, NodeSettings(plan.lanes))
    return simulate(plant, fleet, shift, Measured(times, {}))
