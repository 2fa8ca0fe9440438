"""One bundle on several engines, timed in turn: each component by itself, and whole images alone and in lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.speed.lanes import in_lanes, loaded_bundle, prepared_images
from bench.speed.model_calls import ModelCall, model_calls
from bench.support.device_cost import ROUND_S, MemoryTaken, Rounds, interleaved, with_memory
from glad.batching import batch_sizes_for_device
from glad.models import ComponentModels
from model_store.bundle import Bundle, open_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import LoadedModels, load, load_own_models
from model_store.inspection import inspect
from training.data.image_files import read_pixels
from training.progress import Progress


@dataclass(frozen=True)
class EnginePlan:
    """The engines to time, and how."""

    engines: tuple[str, ...]
    """As GLAD_ENGINE has them; the first is what the others are compared with."""
    device: str = "cpu"
    rounds: int = 5
    lanes: int = 4
    round_s: float = ROUND_S


@dataclass(frozen=True)
class TimedEngine:
    """An engine that is loaded, after one call of every component in every batch size."""

    wanted: str
    engine: str
    passed_over: tuple[str, ...]
    load_s: float
    memory: MemoryTaken | None
    """None on a CPU."""


@dataclass(frozen=True)
class Timing:
    """The time of one kind of work on every engine."""

    what: str
    images: int
    """In one call of a component, or in one round of whole images."""
    rounds: Mapping[str, Rounds]
    """By the engine as it was wanted."""

    def images_per_s(self, engine: str) -> float:
        """Return images per second by the median round."""
        return self.images / self.rounds[engine].median

    def ratio(self, engine: str) -> float:
        """Return how many times as fast as the first engine this one is."""
        return self.rounds[next(iter(self.rounds))].median / self.rounds[engine].median


@dataclass(frozen=True, eq=False)
class _Work:
    """A kind of work that is timed on every engine."""

    what: str
    images: int
    runs: Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class EngineFigures:
    """The figures of a whole measurement."""

    engines: tuple[TimedEngine, ...]
    timings: tuple[Timing, ...]


def measure_engines(bundle: Path, images: Sequence[Path], plan: EnginePlan, progress: Progress) -> EngineFigures:
    """Time a bundle's engines; whole images only where there are images.

    Raises:
        BundleError: if the bundle cannot be opened.
        EngineUnusable: if an engine cannot serve the bundle.
        ValueError: if the plan has no rounds.
    """
    opened = open_bundle(bundle)
    calls = _calls(opened, plan)
    engines, models = [], {}
    for name in plan.engines:
        engine, own = _loaded(opened, name, calls, plan.device)
        engines.append(engine)
        models[name] = own
    works = [*_calling(calls, models), *(_inspecting(opened, images, models, plan) if images else ())]
    timings = []
    for done, work in enumerate(works, start=1):
        rounds = interleaved(work.runs, plan.rounds, plan.device, round_s=plan.round_s)
        timings.append(Timing(work.what, work.images, rounds))
        progress("engines", done, len(works))
    return EngineFigures(tuple(engines), tuple(timings))


def _calls(bundle: Bundle, plan: EnginePlan) -> tuple[ModelCall, ...]:
    """Yield the calls of a worker with so many lanes; the bundle's own weights make their inputs."""
    own = load_own_models(bundle, plan.device)
    return tuple(
        model_calls(own, bundle.manifest.settings, batch_sizes_for_device(plan.device, plan.lanes), plan.device)
    )


def _loaded(bundle: Bundle, name: str, calls: Sequence[ModelCall], device: str) -> tuple[TimedEngine, ComponentModels]:
    def work() -> tuple[LoadedModels, float]:
        began = time.perf_counter()
        loaded = load(bundle, device, EngineSpec.parse(name))
        load_s = time.perf_counter() - began
        for call in calls:
            call.run(loaded.parts)
        return loaded, load_s

    (loaded, load_s), memory = with_memory(work, device)
    return TimedEngine(name, loaded.engine, loaded.passed_over, load_s, memory), loaded.parts


def _calling(calls: Sequence[ModelCall], models: Mapping[str, ComponentModels]) -> Iterator[_Work]:
    for call in calls:
        yield _Work(
            f"{call.component}, {call.batch} at once",
            call.batch,
            {name: partial(call.run, own) for name, own in models.items()},
        )


def _inspecting(
    bundle: Bundle, images: Sequence[Path], models: Mapping[str, ComponentModels], plan: EnginePlan
) -> Iterator[_Work]:
    """Yield whole images: one after the other as in `glad inspect`, and together as in a worker's lanes."""
    settings, pixels = bundle.manifest.settings, [read_pixels(path) for path in images]
    files = [path.read_bytes() for path in images]

    def one_by_one(own: ComponentModels) -> None:
        for one in pixels:
            inspect([one], own.assemble(), settings, device=plan.device)

    def together(own: ComponentModels) -> Callable[[], object]:
        return partial(in_lanes, prepared_images(files, loaded_bundle(bundle, own.assemble())), plan.device, plan.lanes)

    yield _Work("images one by one", len(images), {name: partial(one_by_one, own) for name, own in models.items()})
    yield _Work(
        f"images in {plan.lanes} lanes, decoded before",
        len(images),
        {name: together(own) for name, own in models.items()},
    )
