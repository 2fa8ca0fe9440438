"""`glad bench arrivals`: images that come at random, as on a line: how long each waits for its verdict.

Arrivals are Poisson in an open loop (`bench.support.open_loop`), at shares of the rate that the service keeps when all
images come at once. Beside the measured times stands what a queue of one server and equal service times would give
(M/D/1): the wait by Lindley's recursion, and the time of an image alone on top.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from bench.support.open_loop import Arrival, Latency, TargetAnswer, drive, latency
from bench.support.servers import RunningService, served
from training.progress import Progress

WARM_IMAGES = 8
ALONE = 20
"""Images that are posted one after the other, to see what one takes alone."""
AT_ONCE = 60
"""Images that are posted together, to see what the service keeps."""
WAIT_S = 30
SIMULATED = 200_000
"""Arrivals of the M/D/1 queue."""
SEED = 20261129


@dataclass(frozen=True)
class ArrivalsPlan:
    """What to offer."""

    loads: tuple[float, ...]
    """Shares of the rate that the service keeps."""
    lanes: tuple[int, ...]
    """A service with so many lanes each: 1 takes an image when the one before it has left."""
    seconds: float
    """Of each load."""
    engine: str = "auto"


@dataclass(frozen=True)
class LoadFigures:
    """One load offered to one service."""

    load: float
    offered_per_s: float
    images: int
    refused: int
    answered_per_s: float
    verdict: Latency | None
    """From due to the verdict."""
    overhead: Latency | None
    """Of it, what decoding, models and score did not take: HTTP, store, queue, pictures; the wait for others too."""
    expected: Latency
    """The verdict's time in the M/D/1 queue."""
    lanes_in_use: float | None
    """The mean number of lanes of a denoising step; None: no image walked."""


@dataclass(frozen=True)
class LanesFigures:
    """A service with so many lanes."""

    lanes: int
    engine: str
    kept_per_s: float
    """Images a second when all come at once."""
    alone: Latency
    """From POST to verdict, one image after the other."""
    alone_overhead: Latency
    loads: tuple[LoadFigures, ...]


@dataclass(frozen=True)
class _Answered:
    """What the service said of one image."""

    seconds: float
    worked_ms: float
    """Decoding, models and score."""


def measure_arrivals(
    bundle: Path, images: Sequence[bytes], plan: ArrivalsPlan, progress: Progress
) -> tuple[LanesFigures, ...]:
    """Return the figures of each number of lanes, one service after the other.

    Raises:
        NotServed: if the service does not start.
    """
    found = []
    for lanes in plan.lanes:
        settings = {"GLAD_LANES": str(lanes), "GLAD_MAX_BACKLOG": "10000"}
        with served(bundle, plan.engine, settings) as service:
            found.append(asyncio.run(_measured(service, images, lanes, plan, progress)))
    return tuple(found)


async def _measured(
    service: RunningService, images: Sequence[bytes], lanes: int, plan: ArrivalsPlan, progress: Progress
) -> LanesFigures:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
        camera = _Camera(client, service.product, images)
        for number in range(WARM_IMAGES):
            await camera.post(number)
        one_by_one = [await camera.post(number) for number in range(ALONE)]
        began = time.monotonic()
        await asyncio.gather(*(camera.post(number) for number in range(AT_ONCE)))
        kept = AT_ONCE / (time.monotonic() - began)
        alone_s = float(np.median([one.seconds for one in one_by_one]))
        loads = []
        for number, load in enumerate(plan.loads):
            progress(f"{lanes} lanes, load {load:g}", 0, 1)
            rng, rate = random.Random(SEED + number), load * kept
            before = _steps(service)
            camera.answered.clear()
            offered = await drive(camera.send, rate=rate, seconds=plan.seconds, rng=rng)
            after = _steps(service)
            steps = after["count"] - before["count"]
            in_use = (after["sum"] - before["sum"]) / steps if steps else None
            expected = md1_latency(load, 1 / kept, alone_s)
            loads.append(_figures(camera, offered, load=load, rate=rate, expected=expected, lanes_in_use=in_use))
            progress(f"{lanes} lanes, load {load:g}", 1, 1)
    return LanesFigures(
        lanes=lanes,
        engine=service.engine,
        kept_per_s=kept,
        alone=_latency([one.seconds for one in one_by_one]),
        alone_overhead=_latency([_overhead_s(one) for one in one_by_one]),
        loads=tuple(loads),
    )


def _figures(
    camera: _Camera,
    arrivals: Sequence[Arrival],
    *,
    load: float,
    rate: float,
    expected: Latency,
    lanes_in_use: float | None,
) -> LoadFigures:
    done = [one for one in arrivals if one.answer is not None and one.answer.accepted]
    worked = {number: one.worked_ms for number, one in camera.answered.items()}
    overhead = [one.latency_s - worked[number] / 1e3 for number, one in enumerate(arrivals) if number in worked]
    return LoadFigures(
        load=load,
        offered_per_s=rate,
        images=len(arrivals),
        refused=len(arrivals) - len(done),
        answered_per_s=len(done) / _span_s(arrivals),
        verdict=latency([one.latency_s for one in done]),
        overhead=latency(overhead),
        expected=expected,
        lanes_in_use=lanes_in_use,
    )


@dataclass(eq=False)
class _Camera:
    """Posts images in turn, and keeps what the service said of each number."""

    client: httpx.AsyncClient
    product: str
    images: Sequence[bytes]

    def __post_init__(self) -> None:
        self.answered: dict[int, _Answered] = {}

    async def post(self, number: int) -> _Answered:
        """Post an image and return when its verdict is there.

        Raises:
            OSError: if it gets none.
        """
        began = time.monotonic()
        answer = await self.client.post(
            f"/v1/products/{self.product}/inspections",
            content=self.images[number % len(self.images)],
            headers={"Content-Type": "application/octet-stream", "Prefer": f"wait={WAIT_S}"},
        )
        told: dict[str, Any] = answer.json()
        while answer.status_code == httpx.codes.ACCEPTED:
            await asyncio.sleep(0.05)
            told = (await self.client.get(f"/v1/inspections/{told['id']}")).json()
            if told["state"] in {"done", "failed", "expired"}:
                break
        if told.get("verdict") is None:
            raise OSError(f"no verdict: {told.get('detail') or told.get('error')}")
        parts: Mapping[str, float] = told["timings_ms"]
        worked_ms = sum(parts[name] for name in ("decode", "encode", "denoise", "score"))
        return _Answered(time.monotonic() - began, worked_ms)

    async def send(self, number: int) -> TargetAnswer:
        """Post arrival number n."""
        try:
            self.answered[number] = await self.post(number)
        except httpx.HTTPError as error:
            raise OSError(str(error)) from error
        return TargetAnswer(accepted=True)


def md1_latency(load: float, service_s: float, alone_s: float) -> Latency:
    """Return the time to the verdict where images wait for one server that takes `service_s` for each.

    Args:
        load: arrivals in the time of one image. From 1 on the queue grows as long as images come, and so do the
            figures with the number that is simulated.
        service_s: seconds between two verdicts when images are always waiting.
        alone_s: seconds of an image that waits for nobody. It may be longer: one image is decoded while another is
            in the models.
    """
    return _latency([*(md1_waits(load, service_s) + alone_s)])


def md1_waits(load: float, service_s: float) -> NDArray[np.float64]:
    """Return the seconds that each of `SIMULATED` arrivals waits for its turn in an M/D/1 queue that begins empty."""
    gaps = np.random.default_rng(SEED).exponential(service_s / load, SIMULATED)
    # Lindley: W(n+1) = max(0, W(n) + S - A(n)), which is the walk's distance above its lowest point so far.
    walk = np.concatenate([[0.0], np.cumsum(service_s - gaps[:-1])])
    return np.asarray(walk - np.minimum.accumulate(walk))


def _overhead_s(one: _Answered) -> float:
    return one.seconds - one.worked_ms / 1e3


def _latency(seconds: Sequence[float]) -> Latency:
    found = latency(seconds)
    assert found is not None, "images were posted"
    return found


def _span_s(arrivals: Sequence[Arrival]) -> float:
    return max(one.answered for one in arrivals) - min(one.due for one in arrivals) if arrivals else 1.0


def _steps(service: RunningService) -> Mapping[str, float]:
    """Return how many denoising steps the worker has made, and the lanes of all together."""
    answer = httpx.get(service.worker_metrics, timeout=10)
    found = {"count": 0.0, "sum": 0.0}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name in {"glad_batch_size_count", "glad_batch_size_sum"}:
                found[sample.name.rpartition("_")[2]] += sample.value
    return found
