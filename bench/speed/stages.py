"""`glad bench stages`: where the time of an image goes, stage by stage, on the worker's own parts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from bench.support.device_cost import settle
from bench.support.worker_parts import WorkerParts, worker_parts
from model_store.manifest import Verdict
from service.contract import IMAGE, new_inspection_id
from service.worker.picture_codec import render_pictures
from training.progress import Count

CODEC_STAGES = ("fetch", "decode, frame, check", "draw pictures", "store pictures")
"""Of the codec threads, which work beside the device."""
MODEL_STAGES = ("encoder", "first reading", "denoiser", "comparator", "scorer", "decoder")
DEVICE_STAGES = ("prepare input", *MODEL_STAGES[:4], "rest of the steps", *MODEL_STAGES[4:], "rest of the score")
"""Of the thread that owns the device: one image after the other."""
STAGES = (*CODEC_STAGES[:2], *DEVICE_STAGES, *CODEC_STAGES[2:])


@dataclass(frozen=True)
class ImageStages:
    """What one image took."""

    verdict: Verdict
    walked: bool
    seconds: Mapping[str, float]
    """Of each of `STAGES`."""


@dataclass(frozen=True)
class StageTimes:
    """Medians of every stage, by what became of the images."""

    product: str
    version: str
    engine: str
    device: str
    threads: int
    images: tuple[ImageStages, ...]

    def of(self, verdict: Verdict | None) -> tuple[int, Mapping[str, float]]:
        """Return how many images have this verdict (None: all), and the median ms of each stage."""
        chosen = [image for image in self.images if verdict in {None, image.verdict}]
        return len(chosen), {
            stage: 1e3 * statistics.median(image.seconds[stage] for image in chosen) if chosen else 0.0
            for stage in STAGES
        }

    @property
    def groups(self) -> Mapping[str, tuple[int, Mapping[str, float]]]:
        """Return what `of` says of each verdict that there is, and of all."""
        found = {str(verdict): self.of(verdict) for verdict in Verdict}
        return {name: group for name, group in found.items() if group[0]} | {"all": self.of(None)}


@dataclass(eq=False)
class _Watch:
    """Counts the seconds of each stage of the image at hand."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block, with what it left the device to do."""
        settle(self.device)
        began = time.perf_counter()
        yield
        settle(self.device)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def wrap(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call under the watch."""

        def timed_call(*args: Any, **named: Any) -> Any:
            with self.timed(stage):
                return call(*args, **named)

        return timed_call

    def within(self, stage: str, parts: Sequence[str]) -> float:
        """Return the seconds of a stage without those of the stages inside it, which it has counted too."""
        return self.seconds.pop(stage, 0.0) - sum(self.seconds.get(part, 0.0) for part in parts)


class _WatchedPart:
    """A part of the models whose calls are timed; all else of it is its own."""

    def __init__(self, inner: Any, stage: str, watch: _Watch) -> None:
        self._inner, self._timed = inner, partial(watch.wrap, stage)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._timed(self._inner)(*args, **named)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._timed(value) if name in {"encode", "decode"} else value


def measure_stages(
    bundle: Path, images: Sequence[bytes], *, device: str, engine: str, rounds: int, progress: Count
) -> StageTimes:
    """Return what each stage of each image takes, alone on the worker: medians over the rounds.

    Raises:
        BundleError, EngineUnusable: if the bundle cannot be loaded.
    """
    watch = _Watch(torch.device(device))
    with worker_parts(bundle, device, engine, 1) as parts:
        watched = replace(parts, bundle=replace(parts.bundle, models=_watched(parts.bundle.models, watch)))
        _inspect(images[0], watched, watch)  # the first call of each size is another one
        taken: list[list[ImageStages]] = [[] for _ in images]
        for number in range(rounds * len(images)):
            data = images[number % len(images)]
            taken[number % len(images)].append(_inspect(data, watched, watch))
            progress(number + 1, rounds * len(images))
    manifest = parts.bundle.manifest
    return StageTimes(
        product=manifest.product,
        version=manifest.version,
        engine=parts.bundle.engine,
        device=torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device,
        threads=torch.get_num_threads(),
        images=tuple(_median(one) for one in taken),
    )


def _watched(models: Any, watch: _Watch) -> Any:
    parts: dict[str, object] = {
        name: _WatchedPart(getattr(models, name), name, watch)
        for name in ("encoder", "denoiser", "comparator", "scorer", "decoder")
    }
    if models.first_reader is not None:
        parts["first_reader"] = _WatchedPart(models.first_reader, "first reading", watch)
    return replace(models, **parts)


def _inspect(data: bytes, parts: WorkerParts, watch: _Watch) -> ImageStages:
    """Take an image the whole way, as a worker does, with the pictures that its verdict asks for at once."""
    watch.seconds = {}
    bundle, runner, artifacts = parts.bundle, parts.runner, parts.artifacts
    limits, inspection = bundle.manifest.thresholds, new_inspection_id()
    reference = artifacts.put(inspection, IMAGE, data)
    with watch.timed("fetch"):
        content = artifacts.get(reference)
    with watch.timed("decode, frame, check"):
        prepared = parts.prepare(content)
    with watch.timed("start"):
        runner.start_tile("image", prepared)
    finished: tuple[str, ...] = ()
    with watch.timed("steps"):
        while not finished:
            report = runner.step(bundle.group, ["image"])
            for error in report.failed.values():
                raise error
            for _ in report.freed:  # the next tile takes the lane that one has left
                runner.start_tile("image", prepared)
            finished = report.finished
    with watch.timed("finish"):
        found = runner.finish("image", lambda score: limits.verdict(score) is not Verdict.PASS)
    runner.release("image")
    verdict = limits.verdict(found.score)
    with watch.timed("draw pictures"):
        at_once = verdict is not Verdict.PASS
        rendered = render_pictures(prepared, found.map, found.reconstruction, limits.pixel, at_once=at_once)
    with watch.timed("store pictures"):
        for name, file in rendered.files.items():
            artifacts.put(inspection, name, file)
    return ImageStages(verdict, found.lane.walked, _split(watch))


def _split(watch: _Watch) -> dict[str, float]:
    """Return the seconds of `STAGES`: what the calls around the models took, without the models."""
    around = {
        "prepare input": watch.within("start", ("encoder", "first reading")),
        "rest of the steps": watch.within("steps", ("denoiser", "comparator")),
        "rest of the score": watch.within("finish", ("scorer", "decoder")),
    }
    return {stage: max(0.0, around.get(stage, watch.seconds.get(stage, 0.0))) for stage in STAGES}


def _median(rounds: Sequence[ImageStages]) -> ImageStages:
    seconds = {stage: statistics.median(one.seconds[stage] for one in rounds) for stage in STAGES}
    return replace(rounds[0], seconds=seconds)


def plot_stages(times: StageTimes) -> Figure:
    """Return a figure: a bar for each verdict, its stages one behind the other; codec threads' are hatched."""
    groups = times.groups
    figure = Figure(figsize=(10, 1.2 + 0.7 * len(groups)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{name}, {count} images" for name, (count, _) in groups.items()]
    left = [0.0] * len(groups)
    for number, stage in enumerate(STAGES):
        widths = [medians[stage] for _, medians in groups.values()]
        if max(widths) < 0.05:
            continue
        hatch = "//" if stage in CODEC_STAGES else None
        axes.barh(labels, widths, left=left, label=stage, color=f"C{number % 10}", hatch=hatch, edgecolor="white")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(f"ms an image, median; hatched: beside the device ({times.engine}, {times.threads} threads)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=5, frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
