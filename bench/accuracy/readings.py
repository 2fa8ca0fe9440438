"""What the denoiser of a feature bundle says of an image, read in several ways: which noise, how many calls, or none.

A noise that is fixed has fixed blind spots, and an image's own noise moves the score from one photograph of a part to
the next. So the walk is asked with the bundle's noise, with its negative, with the mean of both and of four; and the
denoiser is asked without any noise at all, and by inversion: how unlike noise an image becomes when it is walked up.

Every reading is measured alone and beside the memory, with the same weight and in the same unit as a bundle's
reconstruction. Nothing is chosen here: a bundle keeps the reading that it was calibrated with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.accuracy.yardstick_figures import DetectorCost, DetectorResult
from glad.embedding import full_resolution, judged_places
from glad.feature_form import FeatureModels, single_call
from glad.first_reading import reading_score
from glad.images.placement import Placement
from glad.images.tiling import frame
from glad.models import Models
from glad.noise_schedule import add_noise, noise_schedule, predict_x0
from glad.reconstruct import reconstruct_latents
from glad.residual_comparator import average_vectors
from glad.seeded_noise import fixed_noise
from glad.settings.method import MethodSettings
from model_store.bundle import Bundle
from model_store.engines.engine_spec import offline_engine_spec
from model_store.engines.loading import device_of_environment, load
from training.data.camera_noise import CameraNoise, add_camera_noise
from training.data.dataset import TestImage, read_pixels
from training.evaluation.rows import GOOD
from training.parallel_inspection import ImageResult
from training.progress import Progress
from training.yardstick.patch_memory import mapped_result

MEMORY_ALONE = "the memory alone"
NOISES = 4
"""Of the mean over several."""
CLEAN_STEP = 1
"""t of the one call without noise: the smallest step that a denoiser is trained at."""


@dataclass(frozen=True, eq=False)
class EncodedTest:
    """An image as its latent, and which places of it are judged."""

    path: Path
    latent: Tensor
    """z: (C, h, w)."""
    judged: Tensor
    """(h, w) bool."""
    shown: Tensor
    """(S, S) bool: what is neither padding nor ignored."""
    patches: Tensor
    """(h, w) bool: where any pixel is shown."""
    placement: Placement


@dataclass(frozen=True, eq=False)
class BundleUnderTest:
    """A feature bundle's networks, and what is asked of them."""

    parts: FeatureModels
    models: Models
    settings: MethodSettings
    """Of the bundle; every image walks."""

    @classmethod
    def load(cls, bundle: Bundle) -> BundleUnderTest:
        """Return a bundle, loaded on the device of the environment.

        Raises:
            ValueError: for a bundle of the pixel form, or one that cuts images into tiles.
        """
        settings = bundle.manifest.settings
        loaded = load(bundle, device_of_environment(), offline_engine_spec())
        if not isinstance(loaded.parts, FeatureModels):
            raise ValueError(f"{bundle.path} is of the pixel form: these readings are of the feature form (`light`)")
        if settings.framing.kind != "letterbox":
            raise ValueError(f"{bundle.path} cuts images into {settings.framing.kind}: give a bundle that letterboxes")
        return cls(loaded.parts, loaded.models, settings.where_all_walk)

    def encode(self, path: Path, camera: CameraNoise | None = None, exposure: int = 0) -> EncodedTest:
        """Return an image as its latent, with one more picture's noise if there is a camera."""
        pixels = read_pixels(path)
        if camera is not None:
            pixels = add_camera_noise(pixels, camera, f"{path.name}:{exposure}")
        side = self.settings.resolution
        framed = frame(pixels, self.settings, self.models.latent_shape(side))
        given = framed.model_input(framed.tiles[0])
        with torch.inference_mode():
            latent = self.models.encoder.encode(torch.from_numpy(given.image)[None])[0]
        shown, patches = torch.from_numpy(given.inspected_pixels), torch.from_numpy(given.inspected_patches)
        judged = judged_places(shown[None], side // latent.shape[-1])[0]
        return EncodedTest(path, latent, judged, shown, patches, framed.layout.placement)


Difference = Callable[[BundleUnderTest, EncodedTest], Tensor]
"""What a reading holds against an image: (K, h, w), near 0 where it finds nothing."""


@dataclass(frozen=True)
class DenoiserReading:
    """One way to ask the denoiser."""

    name: str
    difference: Difference
    calls: int
    """Of the UNet, for an image that never triggers on a grid of N steps; N is added where it walks."""
    walks: int = 0
    by_length: bool = False
    """Read by the vectors' length; otherwise weighed by the bundle's comparator."""

    def evaluations(self, steps: int) -> int:
        """Return the UNet evaluations of one image."""
        return self.calls + self.walks * steps

    def distances(self, under: BundleUnderTest, image: EncodedTest) -> Tensor:
        """Return how far each judged place is from the good, (h, w); its unit is the reading's own."""
        found = self.difference(under, image) * image.judged
        weigh = under.parts.witnesses.from_reconstruction
        if self.by_length:
            averaged = average_vectors(found, image.judged, weigh.window)
            return averaged.square().sum(dim=0).sqrt()
        return weigh.distances(found, image.judged)


def _rebuilt(under: BundleUnderTest, image: EncodedTest, noises: Sequence[Tensor]) -> Tensor:
    """Return z minus the mean of x^_0 over walks of the whole method, one for each noise: (K, h, w)."""
    count = len(noises)
    latents = image.latent.expand(count, -1, -1, -1).contiguous()
    walked = reconstruct_latents(
        latents,
        torch.stack(list(noises)),
        under.models,
        under.settings,
        valid=image.patches.expand(count, -1, -1),
        inspected_mask=image.shown.expand(count, -1, -1),
    )
    return (image.latent - walked.latents.mean(dim=0))[: under.parts.space.modelled]


def _noise(under: BundleUnderTest, image: EncodedTest, number: int = 0) -> Tensor:
    """Return the noise that the bundle fixes (number 0), or another one of the same shape."""
    channels, height, width = image.latent.shape
    return torch.from_numpy(fixed_noise(under.settings.noise_seed, (channels, height, width), number).copy())


def walked_with(signs: Sequence[int], under: BundleUnderTest, image: EncodedTest) -> Tensor:
    """Return z - x^_0 after walks with the bundle's noise, times each of these signs."""
    return _rebuilt(under, image, [sign * _noise(under, image) for sign in signs])


def walked_with_several(under: BundleUnderTest, image: EncodedTest) -> Tensor:
    """Return z - x^_0 after walks with `NOISES` noises."""
    return _rebuilt(under, image, [_noise(under, image, number) for number in range(NOISES)])


@torch.inference_mode()
def one_call(under: BundleUnderTest, image: EncodedTest) -> Tensor:
    """Return z - x_{t->0} after a single call from the first step that the bundle walks."""
    rebuilt = single_call(under.models.denoiser, image.latent[None], _noise(under, image)[None], under.settings)[0]
    return (image.latent - rebuilt)[: under.parts.space.modelled]


@torch.inference_mode()
def without_noise(under: BundleUnderTest, image: EncodedTest) -> Tensor:
    """Return the noise that the denoiser sees in z itself, at t = `CLEAN_STEP`."""
    timesteps = torch.tensor([CLEAN_STEP])
    schedule = noise_schedule(under.settings.schedule, image.latent.device)
    signal = schedule.signal(timesteps) * image.latent[None]
    return under.models.denoiser(signal, timesteps, None)[0, : under.parts.space.modelled]


@torch.inference_mode()
def inverted(under: BundleUnderTest, image: EncodedTest) -> Tensor:
    """Return the noise that z comes from: DDIM walked up the bundle's own grid, a call a step (InvAD, 2026).

    Of a good image it is like noise, short; what the denoiser does not know how to explain stays in it.
    """
    schedule = noise_schedule(under.settings.schedule, image.latent.device)
    latent, at = image.latent[None], CLEAN_STEP
    for target in sorted(set(under.settings.grid) - {CLEAN_STEP}) or [under.settings.start]:
        now, then = torch.tensor([at]), torch.tensor([target])
        predicted = under.models.denoiser(latent, now, None)
        latent = add_noise(predict_x0(latent, predicted, now, schedule), predicted, then, schedule)
        at = target
    return under.models.denoiser(latent, torch.tensor([at]), None)[0, : under.parts.space.modelled]


READINGS = (
    DenoiserReading("walk, the bundle's noise", partial(walked_with, (1,)), 0, walks=1),
    DenoiserReading("walk, its negative", partial(walked_with, (-1,)), 0, walks=1),
    DenoiserReading("walk, the mean of the pair", partial(walked_with, (1, -1)), 0, walks=2),
    DenoiserReading(f"walk, the mean of {NOISES}", walked_with_several, 0, walks=NOISES),
    DenoiserReading("one call from the first step", one_call, 1),
    DenoiserReading(f"no noise, one call at t = {CLEAN_STEP}", without_noise, 1),
    DenoiserReading("no noise, by length", without_noise, 1, by_length=True),
    DenoiserReading("inversion, by length", inverted, 0, walks=1, by_length=True),
)


@dataclass(frozen=True, eq=False)
class ReadDistances:
    """What memory and readings say of one image, in units of what good places show."""

    image: EncodedTest
    memory: Tensor
    """(h, w)."""
    readings: Mapping[str, Tensor]
    """By name: (h, w) each."""

    def maps(self, settings: MethodSettings) -> Iterator[tuple[str, Tensor]]:
        """Yield each detector's name and distances: the memory, each reading, and each beside the memory."""
        weights = settings.score.evidence
        yield MEMORY_ALONE, self.memory
        for name, found in self.readings.items():
            yield name, found
            yield beside(name), weights.memory * self.memory + weights.reconstruction * found

    def result(self, distances: Tensor, settings: MethodSettings) -> ImageResult:
        """Return these distances as the result of the image."""
        image = self.image
        filled = full_resolution(distances, image.judged, image.shown)
        return mapped_result(image.path, reading_score(distances, image.judged, settings), filled, image.placement)


def beside(name: str) -> str:
    """Return the name of a reading beside the memory."""
    return f"memory, {name}"


@dataclass(frozen=True, eq=False)
class ScaledReadings:
    """All readings of a bundle, each in its own unit."""

    under: BundleUnderTest
    units: Mapping[str, float]
    """By reading: the root mean square of its distances at good places."""

    @classmethod
    def learn(cls, under: BundleUnderTest, paths: Sequence[Path], progress: Progress) -> ScaledReadings:
        """Return the readings with their units from good images."""
        totals, count = dict.fromkeys((reading.name for reading in READINGS), 0.0), 0
        for done, path in enumerate(paths, start=1):
            image = under.encode(path)
            count += int(image.judged.sum())
            for reading in READINGS:
                totals[reading.name] += float(reading.distances(under, image).square().sum())
            progress("units, from good images held out", done, len(paths))
        return cls(under, {name: (total / max(1, count)) ** 0.5 or 1.0 for name, total in totals.items()})

    def __call__(self, image: EncodedTest) -> ReadDistances:
        """Return what memory and readings say of an image."""
        under = self.under
        memory = under.parts.witnesses.first_reading(image.latent, image.judged, under.settings).distances
        found = {one.name: one.distances(under, image) / self.units[one.name] for one in READINGS}
        return ReadDistances(image, memory, found)


def read_images(readings: ScaledReadings, images: Sequence[TestImage], progress: Progress) -> list[DetectorResult]:
    """Return what each detector says of the test images, the memory alone first; none has a threshold."""
    under, results = readings.under, dict[str, list[ImageResult]]()
    for done, one in enumerate(images, start=1):
        read = readings(under.encode(one.path))
        for name, distances in read.maps(under.settings):
            results.setdefault(name, []).append(read.result(distances, under.settings))
        progress("readings", done, len(images))
    cost = DetectorCost(None, None, None, None)
    return [DetectorResult(name, tuple(found), None, cost, {}) for name, found in results.items()]


def spreads(
    readings: ScaledReadings,
    images: Sequence[TestImage],
    results: Sequence[DetectorResult],
    exposures: int,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Return by detector how far a part's score moves from one photograph to the next.

    `std` is the median over good images of the standard deviation of their scores under the camera's noise; `of_iqr` is
    that as a share of the good images' interquartile range.

    Args:
        images: those that `results` are of.
        exposures: photographs of each good image, at least two.
    """
    under, good = readings.under, [one for one in images if one.defect == GOOD]
    stds: dict[str, list[float]] = {one.name: [] for one in results}
    for done, one in enumerate(good, start=1):
        scores: dict[str, list[float]] = {name: [] for name in stds}
        for exposure in range(exposures):
            read = readings(under.encode(one.path, CameraNoise(), exposure))
            for name, distances in read.maps(under.settings):
                scores[name].append(reading_score(distances, read.image.judged, under.settings))
        for name, found in scores.items():
            stds[name].append(float(np.std(found, ddof=1)))
        progress("photographs taken once more", done, len(good))
    rows = {}
    for result in results:
        of_good = [found.score for found, one in zip(result.images, images, strict=True) if one.defect == GOOD]
        low, high = np.quantile(of_good, [0.25, 0.75])
        std, iqr = float(np.median(stds[result.name])), float(high - low)
        rows[result.name] = {"std": std, "of_iqr": std / iqr if iqr else np.inf}
    return rows


def with_spreads(
    figures: Sequence[dict[str, Any]], found: Mapping[str, Mapping[str, float]], steps: int
) -> list[dict[str, Any]]:
    """Return the figures of `compare_detectors` with each detector's spread and UNet evaluations."""
    calls = {reading.name: reading.evaluations(steps) for reading in READINGS}
    calls |= {beside(name): count for name, count in calls.items()} | {MEMORY_ALONE: 0}
    return [{**one, "spread": dict(found.get(one["name"], {})), "unet_calls": calls[one["name"]]} for one in figures]
