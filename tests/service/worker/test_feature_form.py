"""A form whose latents are features passes through every loop: lanes, tiles, reconstruction, inspection, warm-up.

Every good part is mid-grey, 0 in [-1, 1], and so is every reconstruction; a white square is 1. So the map is
|1 - 0| = 1 on the square and 0 beside it, but for the noise that the schedule's last level leaves:
sqrt(1 - alpha_bar_0) = sqrt(0.00085) = 0.029 of a standard deviation.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glad.image_codec import MAX_PIXELS, Pixels
from glad.lane import TriggerReason
from glad.models import ComponentModels
from glad.reconstruct import reconstruct
from glad.scoring import ImageScorer, LaneResult
from glad.settings.method import MethodSettings, ScoreSettings
from model_store.inspection import inspect
from service.worker.bundle_cache import LoadedBundle
from service.worker.picture_codec import prepare_inspection
from service.worker.runner import Runner
from tests.glad.feature_toys import FACTOR, FeatureToys
from tests.glad.toys import PixelFeatures
from tests.service.worker.test_tiles import served

SETTINGS: dict[str, Any] = {
    "resolution": 64,
    "start": 500,
    "start_level": "first_step",
    "steps": 5,
    "t_min": 250,
    "trigger": {"delta": 0.2},
    "score": {"layers": (1,), "smoothing": {"value": 1}, "taps": {"value": 3}, "top": {"value": 64}},
}
LETTERBOX = {"kind": "letterbox"}
TILES = {"kind": "tiles", "side": 64, "overlap": 16}


def part(height: int, width: int, *, defective: bool) -> Pixels:
    """Grey; defective: with a white square of 24 pixels at (16, 16), on the latent's grid."""
    pixels = np.full((height, width, 3), 128, dtype=np.uint8)
    if defective:
        pixels[16:40, 16:40] = 255
    return pixels


def png_of(pixels: Pixels) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def bundle_of(toy: LoadedBundle, parts: ComponentModels, framing: dict[str, Any]) -> LoadedBundle:
    settings = MethodSettings.model_validate({**SETTINGS, "framing": framing})
    return replace(toy, manifest=toy.manifest.model_copy(update={"settings": settings}), models=parts.assemble())


@pytest.mark.parametrize(("framing", "size", "tiles"), [(LETTERBOX, (64, 64), 1), (TILES, (112, 160), 6)])
@pytest.mark.parametrize("lanes", [1, 4])
def test_the_runner_finds_what_inspect_finds_and_decodes_each_tile_once(
    toy: LoadedBundle, framing: dict[str, Any], size: tuple[int, int], tiles: int, lanes: int
) -> None:
    toys = FeatureToys()
    bundle = bundle_of(toy, toys, framing)
    images = {"good": part(*size, defective=False), "bad": part(*size, defective=True)}
    jobs = {name: prepare_inspection(png_of(pixels), bundle, MAX_PIXELS) for name, pixels in images.items()}
    found = served(Runner("cpu", lanes), jobs, lanes)
    assert toys.decoder.rows == [1] * 2 * tiles  # for the result's picture, and for nothing else
    assert len(toys.scorer.shown) == 2 * tiles
    assert all(result.picture is None for result in toys.scorer.shown)

    offline = inspect(list(images.values()), bundle.models, bundle.settings)
    for one, expected in zip(found.values(), offline, strict=True):
        assert one.score == pytest.approx(expected.score, rel=1e-5)
        assert one.lane.trigger == expected.lane.trigger
        np.testing.assert_allclose(one.map, expected.map, atol=1e-5)
        np.testing.assert_array_equal(one.reconstruction, expected.reconstruction)
    assert sum(toys.decoder.rows) == 4 * tiles


@pytest.mark.parametrize("framing", [LETTERBOX, TILES])
def test_the_defect_is_what_the_latents_differ_by(toy: LoadedBundle, framing: dict[str, Any]) -> None:
    bundle = bundle_of(toy, FeatureToys(), framing)
    good, bad = inspect(
        [part(64, 64, defective=defective) for defective in (False, True)], bundle.models, bundle.settings
    )
    assert bad.score == pytest.approx(1.0, abs=0.1)  # 0.029 of a deviation, and 3 of them
    assert bad.map[24, 24] == pytest.approx(1.0, abs=0.1)
    assert bad.map[56, 56] == pytest.approx(0.0, abs=0.1)
    assert good.score == pytest.approx(0.0, abs=0.1)
    assert bad.lane.trigger is not None
    assert good.lane.trigger is not None
    assert (bad.lane.trigger.reason, good.lane.trigger.reason) == (TriggerReason.SCORE, TriggerReason.T_MIN)
    np.testing.assert_allclose(bad.reconstruction, 128, atol=13)  # 0.1 of half the 255 levels


def test_the_scorer_is_given_z_and_the_reconstructions_latent(toy: LoadedBundle) -> None:
    toys = FeatureToys()
    bundle = bundle_of(toy, toys, LETTERBOX)
    (prepared,) = (prepare_inspection(png_of(part(64, 48, defective=True)), bundle, MAX_PIXELS),)
    served(Runner("cpu", 2), {"bad": prepared}, 2)
    inspect([part(64, 48, defective=True)], bundle.models, bundle.settings)
    model_input = prepared.framed.model_input(prepared.framed.tiles[0])
    image = torch.from_numpy(model_input.image)
    valid = torch.from_numpy(model_input.inspected_patches)
    rebuilt = reconstruct(
        image[None], torch.from_numpy(model_input.noise)[None], bundle.models, bundle.settings, valid=valid[None]
    )
    assert len(toys.scorer.shown) == 2  # of the runner and of inspect
    for shown in toys.scorer.shown:
        assert torch.equal(shown.image, image)
        assert torch.equal(shown.latent, torch.nn.functional.avg_pool2d(image[None], FACTOR)[0])
        assert torch.equal(shown.latent, rebuilt.encoded[0])
        torch.testing.assert_close(shown.x0, rebuilt.latents[0])
        assert shown.valid is not None
        assert torch.equal(shown.valid, valid)
        assert not bool(valid.all())  # 48 of 64 columns are image


def test_the_warm_up_calls_every_model_of_the_form(toy: LoadedBundle) -> None:
    toys = FeatureToys()
    runner = Runner("cpu", lanes=4)
    assert list(runner.warm(bundle_of(toy, toys, LETTERBOX))) == [
        "images x 1",
        "denoiser x 1",
    ]
    assert (toys.decoder.rows, toys.comparator.buckets) == ([1], [(1,)])
    assert [result.picture for result in toys.scorer.shown] == [None]
    assert toys.denoiser.batches == [1]


def test_a_score_of_pictures_refuses_a_result_without_one() -> None:
    image = torch.zeros(3, 8, 8)
    without: Sequence[LaneResult] = [LaneResult(image, image, image, image), LaneResult(image, image, image, None)]
    with pytest.raises(ValueError, match="1 of 2 results have no picture"):
        ImageScorer(PixelFeatures())(without, ScoreSettings(layers=(1,)), (1,))
