"""Many images through one set of models, on all cores: one process per core, one image at a time in each.

On a CPU a decode or a feature pass gains nothing from batching or from a second thread, so images, not threads, run in
parallel: a worker process computes with one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glad.comparator import Comparator, Comparison, Observation
from glad.feature_form import FeatureModels
from glad.image_codec import Pixels
from glad.images.placement import Placement
from glad.memory_bank import group_numbers
from glad.models import Models
from glad.settings.method import MethodSettings
from model_store.bundle import open_bundle
from model_store.engines.engine_spec import EngineSpec, offline_engine_spec
from model_store.engines.loading import device_of_environment, load
from model_store.inspection import InspectedImage, inspect
from model_store.manifest import MANIFEST_NAME, bundle_hash
from training.data.dataset import read_pixels
from training.process_pool import parallel_map
from training.progress import Count

Result = TypeVar("Result")
Alter = Callable[[Pixels], Pixels]

FEW = 8
"""Images for which starting processes, each of which imports torch, takes longer than it spares."""


@dataclass(frozen=True)
class ImageResult:
    """The result of an image.

    map: (S, S) float16; trace: the step and score of every comparison, in the order walked.
    """

    path: Path
    score: float
    map_peak: float
    trace: tuple[tuple[int, float], ...]
    denoising_step: int
    triggered: bool
    placement: Placement
    map: NDArray[np.float16] | None = None

    @property
    def trigger_peak(self) -> float:
        """The largest trigger score seen on the way; 0 without a comparison, NaN if one was NaN."""
        return float(np.max([0.0, *(score for _, score in self.trace)]))

    @property
    def walked(self) -> bool:
        """Whether the image walked: its first reading was doubtful, or there was none."""
        return self.denoising_step > 0


@dataclass(frozen=True)
class InspectionPictures:
    """The pictures of an image, letterboxed: input, reconstruction (S, S, 3) uint8; map (S, S) float32."""

    path: Path
    score: float
    input: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    map: NDArray[np.float32]
    placement: Placement


@dataclass
class TracingComparator:
    """A comparator that remembers at which step it found which score."""

    inner: Comparator
    trace: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        """Return the inner comparator's comparisons and remember their scores."""
        comparisons = self.inner(observations, buckets)
        pairs = zip(observations, comparisons, strict=True)
        self.trace += [(observation.timestep, comparison.score) for observation, comparison in pairs]
        return comparisons


@dataclass(frozen=True)
class InspectionTask:
    """All that a worker process needs to inspect one image."""

    bundle: Path
    settings: MethodSettings
    path: Path
    keep_map: bool = False
    alter: Alter | None = None
    """Applied to the decoded image before it is inspected; it must pickle."""


@lru_cache(maxsize=1)
def _models(bundle: Path, digest: str, device: str, spec: EngineSpec) -> Models:
    """Return a bundle's models, loaded once per process.

    Args:
        digest: the bundle's hash, so that another bundle written to the same folder is another entry.
    """
    if parent_process() is not None:
        torch.set_num_threads(1)
    return load(open_bundle(bundle), device, spec).models


def _inspect(task: InspectionTask) -> tuple[InspectedImage, tuple[tuple[int, float], ...]]:
    """Return the inspected image, and the step and score of every comparison on the way."""
    device = device_of_environment()
    models = _models(
        task.bundle, bundle_hash((task.bundle / MANIFEST_NAME).read_bytes()), device, offline_engine_spec()
    )
    comparator = TracingComparator(models.comparator)
    pixels = read_pixels(task.path)
    if task.alter is not None:
        pixels = task.alter(pixels)
    (image,) = inspect([pixels], replace(models, comparator=comparator), task.settings, device=device)
    return image, tuple(comparator.trace)


def _scan_one(task: InspectionTask) -> ImageResult:
    image, trace = _inspect(task)
    return replace(_result(task.path, image, trace), map=image.map.astype(np.float16) if task.keep_map else None)


def _result(path: Path, image: InspectedImage, trace: Sequence[tuple[int, float]]) -> ImageResult:
    """Return an image's result without its map."""
    return ImageResult(
        path=path,
        score=image.score,
        map_peak=float(image.map.max()),
        trace=tuple(trace),
        denoising_step=image.lane.denoising_step or 0,
        triggered=image.lane.trigger is not None and image.lane.trigger.reason == "score",
        placement=image.placement,
    )


def _look_at_one(task: InspectionTask) -> InspectionPictures:
    image, _ = _inspect(task)
    return _pictures(task.path, image)


def _pictures(path: Path, image: InspectedImage) -> InspectionPictures:
    return InspectionPictures(path, image.score, image.input, image.reconstruction, image.map, image.placement)


def inspect_images(
    bundle: Path,
    settings: MethodSettings,
    paths: Sequence[Path],
    *,
    keep_maps: bool = False,
    progress: Count | None = None,
    workers: int | None = None,
) -> Iterator[ImageResult]:
    """Inspect images in order with a bundle's weights under the given settings (not the bundle's own).

    Args:
        workers: processes; None: one per core; 1: all in this one, with as many threads as torch has.
    """
    walks = [(path, settings) for path in paths]
    return inspect_each(bundle, walks, keep_maps=keep_maps, progress=progress, workers=workers)


def inspect_each(
    bundle: Path,
    walks: Sequence[tuple[Path, MethodSettings]],
    *,
    keep_maps: bool = False,
    progress: Count | None = None,
    workers: int | None = None,
) -> Iterator[ImageResult]:
    """Inspect each image under settings of its own; as `inspect_images` otherwise."""
    tasks = [InspectionTask(bundle, settings, path, keep_maps) for path, settings in walks]
    yield from _all(_scan_one, tasks, progress, workers)


def inspect_with_pictures(
    bundle: Path,
    settings: MethodSettings,
    paths: Sequence[Path],
    *,
    progress: Count | None = None,
    workers: int | None = None,
) -> Iterator[InspectionPictures]:
    """Inspect images and keep their pictures: for a few images, since each one's are large."""
    yield from _all(_look_at_one, [InspectionTask(bundle, settings, path) for path in paths], progress, workers)


def inspect_altered(
    bundle: Path,
    settings: MethodSettings,
    images: Sequence[tuple[Path, Alter]],
    *,
    progress: Count | None = None,
    workers: int | None = None,
) -> Iterator[ImageResult]:
    """Inspect each image after a change of its own, such as the noise of one more exposure."""
    tasks = [InspectionTask(bundle, settings, path, alter=alter) for path, alter in images]
    yield from _all(_scan_one, tasks, progress, workers)


@dataclass(frozen=True, eq=False)
class TrainingParts:
    """The good images that the memory of a bundle was made of."""

    paths: tuple[Path, ...]
    groups: tuple[str, ...]
    """The part of each image."""
    patch_groups: Tensor
    """(N,) int64: the part of each patch of the memory, as `glad.memory_bank.group_numbers` counts `groups`."""


def inspect_without_own_part(
    bundle: Path, settings: MethodSettings, parts: TrainingParts, *, progress: Count | None = None
) -> Iterator[ImageResult]:
    """Inspect each image of a training by a memory that lacks its own part; for bundles of the feature form.

    Raises:
        ValueError: if all images show one part.
    """
    inspected = _without_own_part(bundle, settings, parts, frozenset(parts.paths))
    for done, (path, image, trace) in enumerate(inspected, start=1):
        yield _result(path, image, trace)
        if progress is not None:
            progress(done, len(parts.paths))


def pictures_without_own_part(
    bundle: Path, settings: MethodSettings, parts: TrainingParts, chosen: Sequence[Path]
) -> Iterator[InspectionPictures]:
    """Inspect some images of a training as `inspect_without_own_part` does, and keep their pictures."""
    return (_pictures(path, image) for path, image, _ in _without_own_part(bundle, settings, parts, chosen))


def _without_own_part(
    bundle: Path, settings: MethodSettings, parts: TrainingParts, chosen: Collection[Path]
) -> Iterator[tuple[Path, InspectedImage, Sequence[tuple[int, float]]]]:
    device = device_of_environment()
    models = load(open_bundle(bundle), device, offline_engine_spec()).parts
    if not isinstance(models, FeatureModels):
        raise TypeError(f"{bundle} is of another form than the feature form: it has no memory to leave a part out of")
    memory = replace(models.witnesses.memory, groups=parts.patch_groups.to(device))
    for path, group in zip(parts.paths, group_numbers(parts.groups), strict=True):
        if path not in chosen:
            continue
        witnesses = replace(models.witnesses, memory=memory.without(group))
        own = replace(models, witnesses=witnesses).assemble()
        comparator = TracingComparator(own.comparator)
        (image,) = inspect([read_pixels(path)], replace(own, comparator=comparator), settings, device=device)
        yield path, image, comparator.trace


def _all(
    call: Callable[[InspectionTask], Result],
    tasks: Sequence[InspectionTask],
    progress: Count | None,
    workers: int | None,
) -> Iterator[Result]:
    alone = len(tasks) <= FEW or device_of_environment() != "cpu"  # a GPU holds one copy of the models
    processes = 1 if alone else workers
    for done, result in enumerate(parallel_map(call, tasks, workers=processes, chunk=2), start=1):
        if progress is not None:
            progress(done, len(tasks))
        yield result


def trigger_peaks(
    bundle: Path,
    settings: MethodSettings,
    paths: Sequence[Path],
    *,
    progress: Count | None = None,
    workers: int | None = None,
) -> list[float]:
    """Return each image's largest trigger score on the way to t_min when every image walks, and none triggers."""
    never = settings.where_all_walk.with_delta(math.inf)
    return [s.trigger_peak for s in inspect_images(bundle, never, paths, progress=progress, workers=workers)]
