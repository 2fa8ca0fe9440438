"""A toy of the feature form: the latent is the feature itself, so that nothing is decoded to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glad.comparator import Comparison, Observation
from glad.models import Models
from glad.noise_schedule import noise_schedule
from glad.patch_matching import top_mean
from glad.protocols import Condition
from glad.scoring import Evidence, LaneResult, at_side
from glad.settings.method import ScheduleSettings, ScoreSettings
from tests.glad.toys import ToyDenoiser

FACTOR = 8


@dataclass(frozen=True)
class MeanColours:
    """The mean colour of each 8 × 8 pixels is feature and latent."""

    latent_channels: int = 3
    factor: int = FACTOR

    def encode(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, FACTOR)


@dataclass(frozen=True)
class ColourSquares:
    """Draws each mean colour as a square. Keeps how many rows each call had."""

    rows: list[int] = field(default_factory=list)

    def decode(self, latents: Tensor) -> Tensor:
        self.rows.append(len(latents))
        return F.interpolate(latents, scale_factor=FACTOR, mode="nearest")


@dataclass(frozen=True)
class LatentComparator:
    """M_t is |x^_{t->0} - x_{t->0}|, the mean over channels. Keeps the buckets that it was given."""

    buckets: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        self.buckets.append(tuple(buckets))
        return tuple(self._compared(observation) for observation in observations)

    def _compared(self, observation: Observation) -> Comparison:
        distance = observation.difference.abs().mean(0)
        if observation.valid is not None:
            distance = torch.where(observation.valid, distance, 0.0)
        return Comparison(float(top_mean(distance.flatten(), 4)), distance)


@dataclass(frozen=True)
class LatentScorer:
    """The evidence is |z - x^_0|, the mean over channels. Keeps what it was shown."""

    shown: list[LaneResult] = field(default_factory=list)

    @property
    def needs_picture(self) -> bool:
        return False

    def __call__(
        self, results: Sequence[LaneResult], settings: ScoreSettings, buckets: Sequence[int]
    ) -> list[Evidence]:
        self.shown.extend(results)
        return [self._evidence(result, settings) for result in results]

    def _evidence(self, result: LaneResult, settings: ScoreSettings) -> Evidence:
        side = at_side(result.image[None], settings.resolution).shape[-1]
        distance = (result.latent - result.x0).abs().mean(0)
        return Evidence(F.interpolate(distance[None, None], (side, side), mode="nearest")[0, 0], None, None)


def grey(latent: Tensor, timestep: int) -> Tensor:
    """The noise by which x_{t->0} = 0 everywhere: every good part is mid-grey."""
    alpha_bar = noise_schedule(ScheduleSettings(), latent.device).alpha_bar(torch.tensor([timestep]))[0]
    return latent / (1 - alpha_bar).sqrt()


@dataclass(frozen=True)
class FeatureToys:
    """The networks of the form, and what they make."""

    backbone: MeanColours = field(default_factory=MeanColours)
    denoiser: ToyDenoiser = field(default_factory=lambda: ToyDenoiser(grey))
    comparator: LatentComparator = field(default_factory=LatentComparator)
    scorer: LatentScorer = field(default_factory=LatentScorer)
    decoder: ColourSquares = field(default_factory=ColourSquares)
    condition: Condition | None = None

    @property
    def components(self) -> Mapping[str, object]:
        return {"backbone": self.backbone, "unet": self.denoiser, "decoder": self.decoder}

    def with_components(self, components: Mapping[str, Any]) -> FeatureToys:
        return FeatureToys(
            components["backbone"], components["unet"], self.comparator, self.scorer, components["decoder"]
        )

    def assemble(self) -> Models:
        return Models(self.backbone, self.denoiser, self.comparator, self.scorer, self.decoder)
