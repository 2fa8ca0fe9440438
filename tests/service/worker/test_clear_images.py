"""The runner on images of which some are clear at their first reading: their lanes are finished when they are added."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from glad.image_codec import MAX_PIXELS, Pixels
from glad.models import Models
from glad.settings.method import MethodSettings
from model_store.inspection import inspect
from service.worker.bundle_cache import LoadedBundle
from service.worker.picture_codec import PreparedInspection, prepare_inspection
from service.worker.runner import Runner, StepReport
from tests.glad.test_feature_form import SETTINGS, Silent, models, part
from tests.service.worker.test_tiles import served

DOUBTFUL = MethodSettings.model_validate({**SETTINGS, "doubtful": {"low": 0.5, "high": 5.0}})
"""A grey part is read as nearly 0, which is clear; one with a red square as about 1, which is doubtful."""
TILED = DOUBTFUL.changed(framing={"kind": "tiles", "side": 64, "overlap": 8})


@pytest.fixture
def network() -> Silent:
    return Silent()


@pytest.fixture
def ready(network: Silent) -> Models:
    return models(denoiser=network).assemble()


def prepared(
    toy: LoadedBundle, ready: Models, pixels: Pixels, settings: MethodSettings = DOUBTFUL
) -> PreparedInspection:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    manifest = toy.manifest.model_copy(update={"settings": settings})
    bundle = replace(toy, models=ready, manifest=manifest)
    return prepare_inspection(target.getvalue(), bundle, MAX_PIXELS)


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_a_mix_of_clear_and_doubtful_images_gets_what_the_offline_loop_gives(
    lanes: int, toy: LoadedBundle, ready: Models
) -> None:
    pictures = [part(defective=bool(i % 2), height=48 if i == 3 else 64) for i in range(5)]
    images = {str(i): prepared(toy, ready, pixels) for i, pixels in enumerate(pictures)}
    found = served(Runner("cpu", lanes), images, lanes)
    assert [found[str(i)].lane.walked for i in range(5)] == [False, True, False, True, False]
    for i, expected in enumerate(inspect(pictures, ready, DOUBTFUL)):
        assert found[str(i)].score == expected.score
        assert np.array_equal(found[str(i)].map, expected.map)
        rebuilt = found[str(i)].reconstruction
        assert rebuilt is not None
        assert np.array_equal(rebuilt, expected.reconstruction)
        assert found[str(i)].lane == expected.lane


def test_a_clear_image_alone_is_finished_by_a_step_that_calls_no_unet(
    toy: LoadedBundle, ready: Models, network: Silent
) -> None:
    runner, image = Runner("cpu", 2), prepared(toy, ready, part(defective=False))
    assert not runner.start_tile("clear", image)
    assert runner.start_tile("doubtful", prepared(toy, ready, part(defective=True)))
    runner.release("doubtful")
    assert runner.step(image.bundle.group, ["clear"]) == StepReport(finished=("clear",), lanes=0)
    assert network.shapes == []
    assert (runner.finish("clear").lane.unet_evaluations, runner.finish("clear").lane.denoising_step) == (0, 0)


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_the_clear_tiles_of_an_image_leave_their_lanes_to_others(
    lanes: int, toy: LoadedBundle, ready: Models, network: Silent
) -> None:
    """Three tiles of 64 pixels, 56 apart; the red square lies in the first alone, which makes three steps."""
    pixels = part(defective=True, width=176)
    image = prepared(toy, ready, pixels, TILED)
    assert len(image.framed.tiles) == 3
    found = served(Runner("cpu", lanes), {"wide": image}, lanes)["wide"]
    calls = len(network.shapes)
    (expected,) = inspect([pixels], ready, TILED)
    assert (found.score, found.lane) == (expected.score, expected.lane)
    assert np.array_equal(found.map, expected.map)
    assert (found.lane.unet_evaluations, calls) == (3, 3)


def test_a_bundle_that_no_memory_reads_fails_the_image_and_not_the_worker(toy: LoadedBundle, ready: Models) -> None:
    blind = replace(ready, first_reader=None)
    with pytest.raises(ValueError, match="no memory to read an image first"):
        Runner("cpu", 1).start_tile("a", prepared(toy, blind, part(defective=False)))
