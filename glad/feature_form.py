"""The feature form: GLAD where the latent is the feature.

The paper compares two latents by decoding both and extracting features of both pictures, and most of an image's time
goes there. Here a latent is the embedding of a frozen backbone, in fewer channels. Then x^_{t->0} and x_{t->0}, and at
the end z and x^_0, are compared as they are (Eq. 11 without decoder and extractor), and a decoder is asked for the
picture that people see and for nothing else.

The score hears two witnesses: the difference of each place from the nearest patch of a memory of good parts, and its
difference from the reconstruction. A learnt comparator weighs each (`glad.residual_comparator`); both answer in units
of what good places show, and the answers add up.

Before an image walks, the memory can be heard, and what a single call of the denoiser rebuilds (`glad.first_reading`).
Of an image that need not walk, that call is the reconstruction; where it was not made, the reconstruction says what it
says of good places on the whole, `TYPICAL_GOOD`. So all scores lie on one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glad.comparator import Comparison, Observation
from glad.embedding import combine_levels, full_resolution, judged_places
from glad.first_reading import FirstReading, reading_score
from glad.foreground import grey_of
from glad.memory_bank import MemoryBank
from glad.models import Models
from glad.noise_schedule import add_noise, noise_schedule, predict_x0
from glad.patch_matching import top_mean
from glad.protocols import Condition, Denoiser, LatentDecoder, LevelFeatures
from glad.residual_comparator import ResidualComparator
from glad.scoring import Evidence, LaneResult, at_side
from glad.settings.embedding import AverageOver, EmbeddingSettings
from glad.settings.method import EvidenceSettings, Foreground, MethodSettings, ScheduleSettings, ScoreSettings

TYPICAL_GOOD = 1.0
"""A witness's distance at a good place: the unit of `ResidualComparator.in_units_of`, a root mean square of 1."""


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """How an embedding becomes a latent: its principal directions, with a variance of 1 on average."""

    settings: EmbeddingSettings
    scales: tuple[float, ...]
    """Of each level: `glad.embedding.level_scales`."""
    mean: Tensor
    """(D,): of good places."""
    directions: Tensor
    """(D, C), orthogonal, all of one length, those of the largest variance first."""
    variances: Tensor
    """(C,): of each of the latent's channels over good places."""
    modelled: int
    """K: the denoiser's network sees the first K channels; of the others it knows the variance alone."""

    def __post_init__(self) -> None:
        if self.settings.average_over is not AverageOver.ALL:
            raise ValueError(
                f"average_over is {self.settings.average_over}; latents are made without a mask: set it to all"
            )

    @property
    def channels(self) -> int:
        """Return the channels C of a latent."""
        return self.directions.shape[1]

    def from_levels(self, levels: Sequence[Tensor], side: int) -> Tensor:
        """Return the latents (B, C, h, w) of a backbone's levels, of images whose side is `side` pixels."""
        everywhere = torch.ones(len(levels[0]), side, side, dtype=torch.bool, device=levels[0].device)
        features = combine_levels(levels, everywhere, self.settings, self.scales).features
        return torch.einsum("bdhw,dc->bchw", features - self.mean[:, None, None], self.directions).contiguous()


@dataclass(frozen=True)
class FeatureEncoder:
    """glad.protocols.LatentEncoder: a backbone's embedding as a latent."""

    backbone: LevelFeatures
    space: LatentSpace

    @property
    def latent_channels(self) -> int:
        """Return the channels C of a latent."""
        return self.space.channels

    @property
    def factor(self) -> int:
        """Return how many pixels one latent element spans on a side."""
        return self.space.settings.stride

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (B, C, h, w) of prepared images (B, 3, S, S)."""
        return self.space.from_levels(self.backbone(images, self.space.settings.levels), images.shape[-1])


@dataclass(frozen=True)
class PreconditionedDenoiser:
    """glad.protocols.Denoiser: the linear denoiser of each channel, and a network for what it cannot know.

    Of a channel with variance v the best linear guess of z from x_t = a z + s epsilon, with a² = alpha_bar_t and
    s² = 1 - alpha_bar_t, is w x_t with w = a v / (a² v + s²) (Wiener); what is left has the variance c² =
    v s² / (a² v + s²). So

        D(x_t) = w x_t + c F(x_t / sqrt(a² v + s²), t)

    where input and target of the network F have a variance of about 1 at every t (Karras et al. 2022, their
    preconditioning per channel). Channels that hardly vary are quiet without any training, and F need not be as wide as
    the latent to let noise through.

    The network may see the first K channels only: the others, of little variance, keep the linear guess. And its grid
    may be coarser than the latent's: k × k places are then the channels of one (space to depth).
    """

    network: Denoiser
    """F: takes and gives (B, k² K, h / k, w / k)."""
    variances: Tensor
    """v: (C,)."""
    schedule: ScheduleSettings
    modelled: int
    """K."""
    fold: int = 1
    """k."""

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Return the predicted noise (x_t - a D(x_t)) / s: (B, C, h, w) float32."""
        signal, noise = self._levels(latents, timesteps)
        return (latents - signal * self.denoised(latents, timesteps)) / noise

    def denoised(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Return D(x_t), the estimate of z: (B, C, h, w) float32; differentiable if the network is."""
        guess, error, scaled = self.linear(latents, timesteps)
        answer = self.network(self.folded(scaled), timesteps)
        correction = error[:, : self.modelled] * F.pixel_shuffle(answer, self.fold)
        return torch.cat([guess[:, : self.modelled] + correction, guess[:, self.modelled :]], dim=1)

    def folded(self, scaled: Tensor) -> Tensor:
        """Return what the network takes, (B, k² K, h / k, w / k), of x_t at a variance of 1 (B, C, h, w)."""
        return F.pixel_unshuffle(scaled[:, : self.modelled], self.fold)

    def network_input(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network is called with at x_t, besides t: (B, k² K, h / k, w / k)."""
        return self.folded(self.linear(latents, timesteps)[2])

    def linear(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return w x_t (B, C, h, w), c (B, C, 1, 1), and x_t at a variance of 1 (B, C, h, w)."""
        signal, noise = self._levels(latents, timesteps)
        variances = self.variances.to(latents.device)[None, :, None, None]
        total = signal.square() * variances + noise.square()
        guess = signal * variances / total * latents
        return guess, (variances / total).sqrt() * noise, latents / total.sqrt()

    def of_modelled_channels(self) -> PreconditionedDenoiser:
        """Return the denoiser of the first K channels alone, (B, K, h, w): the same answers, less work."""
        return replace(self, variances=self.variances[: self.modelled])

    def _levels(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        schedule = noise_schedule(self.schedule, latents.device)
        return schedule.signal(timesteps), schedule.noise(timesteps)


@dataclass(frozen=True)
class LatentComparator:
    """glad.comparator.Comparator: how far x^_{t->0} and x_{t->0} lie apart at each place.

    M_t is the root mean square over the channels of their difference; no model is called.
    """

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        """Return one comparison per observation."""
        return tuple(self._compared(observation) for observation in observations)

    def _compared(self, observation: Observation) -> Comparison:
        distances = observation.difference.float().square().mean(0).sqrt()
        values = distances.flatten()
        if observation.valid is not None:
            values = distances[observation.valid]
            distances = torch.where(observation.valid, distances, 0.0)
        trigger = observation.settings.trigger
        score = top_mean(values, trigger.top.elements(values.numel(), least=trigger.least_top))
        return Comparison(float(score), distances)


@dataclass(frozen=True, eq=False)
class Witnesses:
    """What was learnt in closed form from good images and synthetic anomalies."""

    memory: MemoryBank
    """Of good latents, (N, C)."""
    from_memory: ResidualComparator
    """Weighs the difference from the memory: C channels."""
    from_reconstruction: ResidualComparator
    """Weighs the difference from the reconstruction: its first K channels."""
    from_one_call: ResidualComparator | None = None
    """Weighs the difference from what a single call rebuilds; None: first readings don't ask the denoiser."""

    @property
    def modelled(self) -> int:
        """Return K, the channels in which a reconstruction is compared."""
        return len(self.from_reconstruction.weights)

    def rebuilt(self, latent: Tensor, x0: Tensor, judged: Tensor) -> Tensor:
        """Return the difference of z from x^_0, (K, h, w), of one image; 0 where nothing is judged."""
        return (latent[: self.modelled] - x0[: self.modelled]) * judged

    def first_reading(
        self,
        latent: Tensor,
        judged: Tensor,
        settings: MethodSettings,
        *,
        x0: Tensor | None = None,
        without: int | None = None,
    ) -> FirstReading:
        """Return what is said of one image before it walks.

        Args:
            latent: z, (C, h, w).
            judged: (h, w) bool, at least one.
            settings: of the product.
            x0: what a single call rebuilds, (K, h, w) or more channels; None: the memory is asked alone.
            without: the image's own part, if it is in the memory: see `MemoryBank.residuals`.
        """
        weights = settings.score.evidence
        apart = self.memory.residuals(latent, judged, without=without)
        distances = self.from_memory.distances(apart, judged)
        if x0 is None or self.from_one_call is None:
            score = weights.memory * reading_score(distances, judged, settings)
            return FirstReading(score, distances, latent - apart)
        rebuilt = self.from_one_call.distances(self.rebuilt(latent, x0, judged), judged)
        score = reading_score(weights.memory * distances + weights.reconstruction * rebuilt, judged, settings)
        return FirstReading(score, distances, latent - apart, rebuilt, unet_evaluations=1)

    def distances(
        self,
        latent: Tensor,
        x0: Tensor | None,
        judged: Tensor,
        settings: EvidenceSettings,
        reading: FirstReading | None = None,
    ) -> Tensor:
        """Return how far each judged place of one image is from the good: (h, w) float32, 0 elsewhere.

        Args:
            latent: z, (C, h, w).
            x0: x^_0, (C, h, w); None: the image did not walk. Then its reading's single call stands for it, and
                where there was none it counts as a good one.
            judged: (h, w) bool.
            settings: a witness of weight 0 is not asked.
            reading: of the same places, if there is one: the memory is not asked again.
        """
        found = torch.zeros(judged.shape, device=latent.device)
        if settings.memory:
            found += settings.memory * (self._from_memory(latent, judged) if reading is None else reading.distances)
        if settings.reconstruction:
            found += settings.reconstruction * self._from_reconstruction(latent, x0, judged, reading)
        return found

    def _from_memory(self, latent: Tensor, judged: Tensor) -> Tensor:
        return self.from_memory.distances(self.memory.residuals(latent, judged), judged)

    def _from_reconstruction(
        self, latent: Tensor, x0: Tensor | None, judged: Tensor, reading: FirstReading | None
    ) -> Tensor:
        if x0 is None:
            return TYPICAL_GOOD * judged if reading is None or reading.rebuilt is None else reading.rebuilt
        return self.from_reconstruction.distances(self.rebuilt(latent, x0, judged), judged)


def single_call(denoiser: Denoiser, latents: Tensor, noise: Tensor, settings: MethodSettings) -> Tensor:
    """Return x_{t->0} of one call from the first step of the grid (Eqs. 1 and 2): (B, C, h, w).

    Args:
        denoiser: of the latents.
        latents: z, (B, C, h, w).
        noise: epsilon, (B, C, h, w).
        settings: of the product.
    """
    schedule = noise_schedule(settings.schedule, latents.device)
    timesteps = torch.full((len(latents),), settings.grid[0], device=latents.device)
    noisy = add_noise(latents, noise, timesteps, schedule)
    return predict_x0(noisy, denoiser(noisy, timesteps, None), timesteps, schedule)


@dataclass(frozen=True)
class FeatureReader:
    """glad.first_reading.FirstReader: what memory and a single call say of the places that the score will judge."""

    witnesses: Witnesses
    denoiser: Denoiser
    """Of the modelled channels."""

    def __call__(
        self, latent: Tensor, noise: Tensor, inspected_mask: Tensor | None, settings: MethodSettings
    ) -> FirstReading:
        """Return the first reading of one image."""
        x0 = None
        if self.witnesses.from_one_call is not None and settings.score.evidence.reconstruction:
            first = slice(self.witnesses.modelled)
            x0 = single_call(self.denoiser, latent[None, first], noise[None, first], settings)[0]
        return self.witnesses.first_reading(latent, _judged(latent, inspected_mask), settings, x0=x0)


@dataclass(frozen=True)
class FeatureScorer:
    """glad.scoring.Scorer: what memory and reconstruction say of each place."""

    witnesses: Witnesses

    @property
    def needs_picture(self) -> bool:
        """Return False: latents are compared as they are."""
        return False

    def __call__(
        self, results: Sequence[LaneResult], settings: ScoreSettings, buckets: Sequence[int]
    ) -> list[Evidence]:
        """Return one evidence per result, at the scoring resolution; layers and matching have no say in it."""
        return [self._evidence(result, settings) for result in results]

    def _evidence(self, result: LaneResult, settings: ScoreSettings) -> Evidence:
        everywhere = torch.ones(result.image.shape[1:], dtype=torch.bool, device=result.image.device)
        shown = everywhere if result.inspected_mask is None else result.inspected_mask
        judged = _judged(result.latent, shown)
        x0 = result.x0 if result.walked else None
        distances = self.witnesses.distances(result.latent, x0, judged, settings.evidence, result.reading)
        anomaly_map = full_resolution(distances, judged, shown)
        scored = at_side(anomaly_map[None, None], settings.resolution, settings.resize)[0, 0]
        grey = None
        if settings.foreground is not Foreground.WHOLE:
            grey = grey_of(at_side(result.image[None], settings.resolution, settings.resize))[0]
        return Evidence(scored, None, grey)


def _judged(latent: Tensor, inspected_mask: Tensor | None) -> Tensor:
    """Return the places (h, w) of a latent (C, h, w) that are judged, for first reading and score alike."""
    if inspected_mask is None:
        return torch.ones(latent.shape[1:], dtype=torch.bool, device=latent.device)
    return judged_places(inspected_mask[None], len(inspected_mask) // latent.shape[-1])[0]


@dataclass(frozen=True)
class FeatureModels:
    """The networks of the feature form, and what was learnt beside them."""

    backbone: LevelFeatures
    denoiser: Denoiser
    """F of `PreconditionedDenoiser`."""
    decoder: LatentDecoder
    space: LatentSpace
    witnesses: Witnesses
    schedule: ScheduleSettings
    fold: int
    """k of `PreconditionedDenoiser`."""
    condition: Condition | None = None

    @property
    def components(self) -> Mapping[str, object]:
        """Return backbone, unet, decoder, embedding and memory."""
        return {
            "backbone": self.backbone,
            "unet": self.denoiser,
            "decoder": self.decoder,
            "embedding": self.space,
            "memory": self.witnesses,
        }

    def with_components(self, components: Mapping[str, Any]) -> FeatureModels:
        """Return the same form with these networks."""
        return replace(
            self,
            backbone=components["backbone"],
            denoiser=components["unet"],
            decoder=components["decoder"],
            space=components["embedding"],
            witnesses=components["memory"],
        )

    @property
    def preconditioned(self) -> PreconditionedDenoiser:
        """Return the denoiser of latents: the network, and what stands around it."""
        return PreconditionedDenoiser(
            self.denoiser, self.space.variances, self.schedule, self.space.modelled, self.fold
        )

    def assemble(self) -> Models:
        """Return the models that the lane engine runs on."""
        return Models(
            encoder=FeatureEncoder(self.backbone, self.space),
            denoiser=self.preconditioned,
            comparator=LatentComparator(),
            scorer=FeatureScorer(self.witnesses),
            decoder=self.decoder,
            condition=self.condition,
            first_reader=FeatureReader(self.witnesses, self.preconditioned.of_modelled_channels()),
        )
