"""`glad bench steps`: what an image costs a worker here, timed on the worker's own parts."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.speed.step_table import Clock, StepTimes
from bench.support.device_cost import settle, with_memory
from model_store.engines.engine_spec import EngineSpec
from model_store.store import BundleRef, Store
from service.contract import new_inspection_id
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.worker.bundle_cache import BundleCache, LoadedBundle
from service.worker.main import fastest
from service.worker.picture_codec import PreparedInspection, prepare_inspection, render_pictures
from service.worker.runner import DeviceResult, Runner
from training.progress import Count

LOADS = 3


@dataclass(frozen=True)
class StepsPlan:
    """What to time, and how often."""

    device: str
    lanes: int
    engine: str = "auto"
    rounds: int = 5
    clock: Clock = Clock.WALL


@dataclass(frozen=True)
class _Watch:
    """Times work on a device."""

    device: torch.device
    clock: Callable[[], float]

    @contextmanager
    def timed(self, keep: list[float]) -> Iterator[None]:
        """Keeps the seconds of the block, with what it left the device to do."""
        settle(self.device)
        began = self.clock()
        yield
        settle(self.device)
        keep.append(self.clock() - began)


@dataclass(frozen=True)
class _Spent:
    """Seconds of every call, by what it did."""

    encode: list[float] = field(default_factory=list)
    finish: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    draw: list[float] = field(default_factory=list)
    plain: dict[int, list[float]] = field(default_factory=dict)
    """Lanes in a step of which none compared -> its seconds."""
    compared: dict[int, list[float]] = field(default_factory=dict)
    """Lanes in a step that all compared -> its seconds."""


def measure_steps(bundle: Path, images: Sequence[bytes], plan: StepsPlan, progress: Count) -> StepTimes:
    """Medians over `rounds` walks of 1, 2, ... lanes together, each round with one of the images.

    BundleError, EngineUnusable; ValueError where no image lets lanes both compare and not compare.
    """
    watch = _Watch(torch.device(plan.device), time.perf_counter if plan.clock is Clock.WALL else time.thread_time)
    with tempfile.TemporaryDirectory(prefix="glad-bench-") as scratch:
        store = Store(Path(scratch) / "store")
        reference = store.publish(bundle)
        loaded, load_s, memory_gb = _loaded(store, reference, plan, watch)
        walks = _Walks(_warmed(loaded, plan), loaded, watch)
        artifacts = ArtifactStore(Path(scratch) / "artifacts")
        data, stored = images[0], 0
        for done in range(plan.rounds):
            data = images[done % len(images)]
            for count in range(1, plan.lanes + 1):
                prepared, found = walks.walk(data, count)
                progress(done * plan.lanes + count, plan.rounds * plan.lanes)
            stored = walks.draw(artifacts, prepared, found)
    spent = walks.spent
    plain, compared = _medians(spent.plain, plan.lanes), _medians(spent.compared, plan.lanes)
    return StepTimes(
        device=plan.device,
        device_name=torch.cuda.get_device_name(plan.device) if torch.device(plan.device).type == "cuda" else "",
        engine=loaded.engine,
        threads=torch.get_num_threads(),
        clock=plan.clock,
        product=reference.product,
        version=reference.version,
        settings=loaded.settings,
        encode_s=statistics.median(spent.encode),
        denoise_s=plain,
        compare_s=tuple(max(0.0, with_it - without) for with_it, without in zip(compared, plain, strict=True)),
        finish_s=statistics.median(spent.finish),
        decode_s=statistics.median(spent.decode),
        draw_s=statistics.median(spent.draw),
        load_s=load_s,
        image_bytes=len(data),
        artifact_bytes=stored,
        memory_gb=memory_gb,
    )


def _warmed(bundle: LoadedBundle, plan: StepsPlan) -> Runner:
    runner = Runner(plan.device, plan.lanes)
    for _ in runner.warm(bundle):
        pass
    return runner


def _loaded(
    store: Store, reference: BundleRef, plan: StepsPlan, watch: _Watch
) -> tuple[LoadedBundle, float, float | None]:
    """The bundle as a worker loads it, the median of a few loads after a first one, and its memory on a GPU."""
    spec = EngineSpec.parse(plan.engine)

    def load() -> LoadedBundle:
        cache = BundleCache(store, plan.device, 1, fastest(spec, plan.lanes))
        return cache.get(reference.product, reference.version, reference.hash)

    def load_and_call() -> LoadedBundle:
        bundle = load()
        _warmed(bundle, plan)
        return bundle

    bundle, memory = with_memory(load_and_call, plan.device)
    seconds: list[float] = []
    for _ in range(LOADS):
        with watch.timed(seconds):
            load()
    return bundle, statistics.median(seconds), None if memory is None else memory.device_gb


@dataclass(frozen=True, eq=False)
class _Walks:
    """Walks images through a worker's runner, and keeps what each part takes."""

    runner: Runner
    bundle: LoadedBundle
    watch: _Watch
    spent: _Spent = field(default_factory=_Spent)

    def walk(self, data: bytes, count: int) -> tuple[PreparedInspection, DeviceResult]:
        """The same image in `count` lanes, step by step: so all of them compare, or none does."""
        spent, watch = self.spent, self.watch
        with watch.timed(spent.decode):
            prepared = prepare_inspection(data, self.bundle, Settings.model_fields["max_pixels"].default)
        jobs = [str(number) for number in range(count)]
        for job in jobs:
            with watch.timed(spent.encode):
                self.runner.start_tile(job, prepared)
        steps = self._steps(jobs)
        for job in jobs:
            with watch.timed(spent.finish):
                found = self.runner.finish(job)
                self.runner.release(job)
        spent.compared.setdefault(count, []).extend(steps[: found.lane.comparisons])
        spent.plain.setdefault(count, []).extend(steps[found.lane.comparisons :])
        return prepared, found

    def draw(self, artifacts: ArtifactStore, prepared: PreparedInspection, found: DeviceResult) -> int:
        """Draw and store the pictures as a codec thread does; return their size in bytes."""
        pixel, own = self.bundle.manifest.thresholds.pixel, new_inspection_id()
        with self.watch.timed(self.spent.draw):
            files = render_pictures(prepared, found.map, found.reconstruction, pixel, at_once=True).files
            for name, content in files.items():
                artifacts.put(own, name, content)
        return sum(map(len, files.values()))

    def _steps(self, jobs: Sequence[str]) -> list[float]:
        steps: list[float] = []
        finished: tuple[str, ...] = ()
        while not finished:
            with self.watch.timed(steps):
                stepped = self.runner.step(self.bundle.group, jobs)
            for error in stepped.failed.values():
                raise error
            finished = stepped.finished
        return steps


def _medians(spent: dict[int, list[float]], lanes: int) -> tuple[float, ...]:
    if not all(spent.get(count) for count in range(1, lanes + 1)):
        raise ValueError(
            "no lane compared, or every step compared, with these images and this bundle: what a comparison costs "
            "cannot be told apart; take a bundle with delta > 0 and images that trigger before the last step"
        )
    return tuple(statistics.median(spent[count]) for count in range(1, lanes + 1))
