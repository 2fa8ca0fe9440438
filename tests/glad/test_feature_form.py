"""The feature form on arithmetic networks: latent space, preconditioned denoiser, trigger, score, whole inspections.

The toy backbone has one level, the mean colour of each 8 × 8 pixels; the toy space keeps red and green as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glad.comparator import Observation
from glad.feature_form import (
    FeatureEncoder,
    FeatureModels,
    FeatureScorer,
    LatentComparator,
    LatentSpace,
    PreconditionedDenoiser,
    Witnesses,
)
from glad.image_codec import Pixels
from glad.memory_bank import MemoryBank
from glad.noise_schedule import NoiseSchedule, add_noise, predict_x0
from glad.residual_comparator import ResidualComparator
from glad.scoring import LaneResult
from glad.settings.embedding import AverageOver, EmbeddingSettings
from glad.settings.method import EvidenceSettings, MethodSettings, ScheduleSettings, ScoreSettings
from model_store.inspection import inspect

SCHEDULE = ScheduleSettings()
TABLE = NoiseSchedule.from_settings(SCHEDULE)
EMBEDDING = EmbeddingSettings(levels=(3,), averages=(1,), stride=8)
SETTINGS: dict[str, Any] = {
    "resolution": 64,
    "start": 120,
    "start_level": "first_step",
    "steps": 3,
    "t_min": 40,
    "noise": "fixed",
    "trigger": {"delta": 5.0, "comparator": "latents"},
    "score": {"smoothing": {"value": 1}, "taps": {"value": 1}, "top": {"value": 64}},
}


@dataclass(frozen=True)
class MeanColours:
    """glad.protocols.Backbone: level 3 is the mean colour of each 8 × 8 pixels."""

    levels: int = 3
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def stride(self, level: int) -> int:
        return 8

    def channels(self, level: int) -> int:
        return 3

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(F.avg_pool2d(images, 8) for _ in levels)


@dataclass(frozen=True)
class Silent:
    """A network that corrects nothing. Keeps the shapes that it was called with."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        self.shapes.append(tuple(latents.shape))
        return torch.zeros_like(latents)


@dataclass(frozen=True)
class Blurring:
    """A network that corrects by what stands around."""

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        return F.avg_pool2d(latents, 3, stride=1, padding=1)


@dataclass(frozen=True)
class Nothing:
    """glad.protocols.LatentDecoder: every picture is mid-grey."""

    def decode(self, latents: Tensor) -> Tensor:
        return torch.zeros(len(latents), 3, 8 * latents.shape[2], 8 * latents.shape[3])


def space(modelled: int = 2, variances: tuple[float, float] = (1.0, 1.0)) -> LatentSpace:
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    return LatentSpace(EMBEDDING, (1.0,), torch.zeros(3), directions, torch.tensor(variances), modelled)


def witnesses(patches: Tensor, modelled: int = 2) -> Witnesses:
    """Both weigh every channel alike."""
    channels = patches.shape[1]
    alike = (ResidualComparator(torch.eye(size), 1) for size in (channels, modelled))
    return Witnesses(MemoryBank(patches.half()), *alike)


def models(**changes: Any) -> FeatureModels:
    """The memory knows mid-grey alone; the comparator weighs both witnesses alike."""
    parts: dict[str, Any] = {
        "backbone": MeanColours(),
        "denoiser": Silent(),
        "decoder": Nothing(),
        "space": space(),
        "witnesses": witnesses(torch.zeros(1, 2)),
        "schedule": SCHEDULE,
        "fold": 1,
    }
    return FeatureModels(**{**parts, **changes})


def level_of(step: int) -> tuple[float, float]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)."""
    return float(TABLE.signals[step]), float(TABLE.noises[step])


def test_without_a_network_each_channel_is_denoised_by_its_variance_alone() -> None:
    """Wiener: w = a v / (a² v + s²), with v = 4 and v = 0.25."""
    signal, noise = level_of(300)
    denoiser = PreconditionedDenoiser(Silent(), torch.tensor([4.0, 0.25]), SCHEDULE, modelled=2)
    noisy = torch.full((1, 2, 4, 4), 3.0)
    found = denoiser.denoised(noisy, torch.tensor([300]))
    for channel, variance in enumerate((4.0, 0.25)):
        expected = signal * variance / (signal**2 * variance + noise**2) * 3.0
        assert found[0, channel].flatten().tolist() == pytest.approx([expected] * 16, rel=1e-5)


def test_the_predicted_noise_gives_the_same_estimate_by_equation_2() -> None:
    denoiser = PreconditionedDenoiser(Silent(), torch.tensor([4.0, 0.25]), SCHEDULE, modelled=2)
    noisy, steps = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 50, 700])
    estimate = predict_x0(noisy, denoiser(noisy, steps), steps, TABLE)
    assert torch.allclose(estimate, denoiser.denoised(noisy, steps), atol=1e-4)


@dataclass(frozen=True)
class Oracle:
    """Knows z, and answers what is missing to it in the preconditioning's units: F = (z - w x_t) / c, folded."""

    truth: Tensor
    linear: PreconditionedDenoiser
    fold: int

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        linear = self.linear
        scaled = F.pixel_shuffle(latents, self.fold)
        signal, noise = TABLE.signal(timesteps), TABLE.noise(timesteps)
        total = signal.square() * linear.variances[None, :, None, None] + noise.square()
        guess, error, _ = linear.linear(scaled * total.sqrt(), timesteps)
        return F.pixel_unshuffle((self.truth - guess) / error, self.fold)


@pytest.mark.parametrize("fold", [1, 2])
def test_a_network_that_knows_what_is_missing_gives_back_latent_and_noise(fold: int) -> None:
    draw = torch.Generator().manual_seed(2)
    latents, noise = (torch.randn(2, 3, 4, 4, generator=draw) for _ in range(2))
    variances, steps = torch.tensor([3.0, 1.0, 0.1]), torch.tensor([20, 400])
    plain = PreconditionedDenoiser(Silent(), variances, SCHEDULE, modelled=3)
    denoiser = PreconditionedDenoiser(Oracle(latents, plain, fold), variances, SCHEDULE, 3, fold)
    noisy = add_noise(latents, noise, steps, TABLE)
    assert torch.allclose(denoiser.denoised(noisy, steps), latents, atol=1e-5)
    assert torch.allclose(denoiser(noisy, steps), noise, atol=1e-3)


def test_the_network_sees_the_modelled_channels_alone_folded_to_a_coarser_grid() -> None:
    network = Silent()
    denoiser = PreconditionedDenoiser(network, torch.ones(5), SCHEDULE, modelled=3, fold=2)
    assert denoiser(torch.zeros(2, 5, 8, 8), torch.tensor([1, 2])).shape == (2, 5, 8, 8)
    assert network.shapes == [(2, 12, 4, 4)]


def test_the_denoiser_of_the_modelled_channels_answers_the_same_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(4)
    noisy, variances, steps = torch.randn(1, 5, 8, 8, generator=draw), torch.rand(5, generator=draw), torch.tensor([90])
    whole = PreconditionedDenoiser(Blurring(), variances, SCHEDULE, 3, 2)
    with torch.no_grad():
        assert torch.equal(whole.of_modelled_channels()(noisy[:, :3], steps), whole(noisy, steps)[:, :3])


def test_the_trigger_measures_the_root_mean_square_of_what_is_not_padding() -> None:
    """Differences (3, 4) at one place: sqrt((9 + 16) / 2) = 3.5355; 100 on the padding counts nothing."""
    settings = MethodSettings.model_validate({**SETTINGS, "trigger": {"delta": 1, "top": {"value": 1}, "least_top": 1}})
    generated = torch.zeros(2, 2, 2)
    generated[:, 0, 0] = torch.tensor([3.0, 4.0])
    generated[:, 1, 1] = 100.0
    valid = torch.tensor([[True, True], [True, False]])
    zeros = torch.zeros(2, 2, 2)
    (found,) = LatentComparator()([Observation(settings, 1, zeros, generated, zeros, valid)], (1,))
    assert found.score == pytest.approx(12.5**0.5)
    assert found.map.flatten().tolist() == pytest.approx([12.5**0.5, 0, 0, 0])


@pytest.mark.parametrize(
    ("memory", "reconstruction", "expected"), [(1.0, 1.0, 3.0), (1.0, 0.0, 1.0), (0.0, 1.0, 2.0), (0.5, 2.0, 4.5)]
)
def test_the_witnesses_distances_add_up_by_their_weights(memory: float, reconstruction: float, expected: float) -> None:
    """The memory's patches lie at 0 and 10, so that 9 is 1 from the nearer one; from the reconstruction, 7, it is 2."""
    latent, judged = torch.full((1, 1, 2), 9.0), torch.tensor([[True, False]])
    heard = witnesses(torch.tensor([[0.0], [10.0]]), modelled=1)
    settings = EvidenceSettings(memory=memory, reconstruction=reconstruction)
    found = heard.distances(latent, torch.full((1, 1, 2), 7.0), judged, settings)
    assert found.tolist() == [[expected, 0.0]]


def test_without_any_witness_there_is_no_score() -> None:
    with pytest.raises(ValueError, match="nothing would be scored; raise one"):
        EvidenceSettings(memory=0, reconstruction=0)


def test_the_evidence_of_a_place_covers_the_pixels_that_it_shows() -> None:
    """z = (3, 0) at the second place; memory and reconstruction are 0 there: 3 + 3."""
    latent = torch.zeros(2, 2, 2)
    latent[0, 0, 1] = 3.0
    result = LaneResult(torch.zeros(3, 16, 16), latent, torch.zeros(2, 2, 2), None)
    (found,) = FeatureScorer(witnesses(torch.zeros(1, 2)))([result], ScoreSettings(), (1,))
    assert found.layers_map.shape == (16, 16)
    assert float(found.layers_map[0, 15]) == pytest.approx(6)
    assert float(found.layers_map[15, 0]) == 0
    assert found.distance is None
    assert found.grey is None


def test_a_zone_that_is_ignored_neither_counts_nor_stains_its_surroundings() -> None:
    """Row 1 of the places is ignored from its middle on: what it shows is not judged, and its pixels are 0."""
    latent = torch.zeros(2, 2, 2)
    latent[:, 1] = 50.0
    shown = torch.ones(16, 16, dtype=torch.bool)
    shown[12:] = False
    result = LaneResult(torch.zeros(3, 16, 16), latent, torch.zeros(2, 2, 2), None, shown)
    (found,) = FeatureScorer(witnesses(torch.zeros(1, 2)))([result], ScoreSettings(), (1,))
    assert float(found.layers_map.max()) == 0


def test_an_encoder_projects_the_levels_and_says_its_grid() -> None:
    encoder = FeatureEncoder(MeanColours(), space())
    images = torch.zeros(1, 3, 16, 16)
    images[:, 0, :8, 8:], images[:, 1, 8:] = 1.0, 0.5
    assert (encoder.latent_channels, encoder.factor) == (2, 8)
    assert encoder.encode(images)[0].tolist() == [[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.5, 0.5]]]


def test_a_space_that_would_need_a_mask_is_refused() -> None:
    wrong = EmbeddingSettings(levels=(3,), averages=(3,), average_over=AverageOver.IMAGE)
    with pytest.raises(ValueError, match="latents are made without a mask: set it to all"):
        LatentSpace(wrong, (1.0,), torch.zeros(3), torch.eye(3), torch.ones(3), 3)


def part(*, defective: bool, height: int = 64, width: int = 64) -> Pixels:
    """Mid-grey; defective: with a red square of 16 pixels on the grid."""
    pixels = np.full((height, width, 3), 128, dtype=np.uint8)
    if defective:
        pixels[16:32, 16:32] = (255, 128, 128)
    return pixels


def test_a_defect_is_found_where_it_is_and_the_same_in_any_batch() -> None:
    settings = MethodSettings.model_validate(SETTINGS)
    ready = models().assemble()
    parts = [part(defective=False), part(defective=True), part(defective=True, height=48)]
    together = inspect(parts, ready, settings)
    assert together[0].score < 0.2
    assert together[1].score > 1.0
    assert together[1].map[24, 24] > 5 * together[1].map[48, 48]
    for one, pixels in zip(together, parts, strict=True):
        (alone,) = inspect([pixels], ready, settings)
        assert alone.score == one.score
        assert np.array_equal(alone.map, one.map)


def test_fixed_noise_depends_on_the_bundle_and_not_on_the_photograph() -> None:
    """One grey level at one pixel draws another noise under `image`, and so moves the score of the whole image."""
    other = part(defective=False)
    other[60, 60] = 129
    ready = models(space=space(variances=(0.01, 0.01))).assemble()
    scores = {
        noise: [
            inspect([pixels], ready, MethodSettings.model_validate({**SETTINGS, "noise": noise}))[0].score
            for pixels in (part(defective=False), other)
        ]
        for noise in ("fixed", "image")
    }
    moved = {noise: abs(first - second) for noise, (first, second) in scores.items()}
    assert moved["fixed"] < 1e-3 < moved["image"]
