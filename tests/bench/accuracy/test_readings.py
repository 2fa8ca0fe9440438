"""`glad bench readings`: the denoiser of a bundle asked in other ways."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.accuracy.readings import (
    MEMORY_ALONE,
    READINGS,
    BundleUnderTest,
    ScaledReadings,
    beside,
    inverted,
    one_call,
    walked_with,
    without_noise,
)
from bench.cli import app
from model_store.bundle import open_bundle
from model_store.inspection import inspect
from training.data import dataset
from training.progress import silent


@pytest.fixture(scope="module")
def under(exported_features: Path) -> BundleUnderTest:
    """The tiny bundle of the feature form."""
    return BundleUnderTest.load(open_bundle(exported_features))


def test_the_bundles_own_reading_is_that_of_an_inspection(under: BundleUnderTest, parts: Path) -> None:
    path = dataset.test_images(parts)[0].path
    image = under.encode(path)
    judged = image.judged
    found = READINGS[0].distances(under, image)
    memory = under.parts.witnesses.first_reading(image.latent, judged, under.settings).distances
    weights = under.settings.score.evidence
    (whole,) = inspect([dataset.read_pixels(path)], under.models, under.settings)
    ours = weights.memory * memory + weights.reconstruction * found
    # The map of an inspection is smoothed; its mean over everything stays what the distances' is.
    assert float(ours[judged].mean()) == pytest.approx(float(whole.map[image.shown.numpy()].mean()), rel=0.05)


def test_the_pair_lies_between_both_of_its_noises(under: BundleUnderTest, parts: Path) -> None:
    image = under.encode(dataset.test_images(parts)[0].path)
    plus, minus, both = (walked_with(signs, under, image) for signs in ((1,), (-1,), (1, -1)))
    assert not torch.equal(plus, minus)
    torch.testing.assert_close(both, (plus + minus) / 2, rtol=1e-3, atol=1e-3)


def test_a_reading_without_noise_hangs_on_no_noise(under: BundleUnderTest, parts: Path) -> None:
    image = under.encode(dataset.test_images(parts)[0].path)
    other = replace(under, settings=under.settings.changed(noise_seed=under.settings.noise_seed + 1))
    for difference in (without_noise, inverted):
        torch.testing.assert_close(difference(under, image), difference(other, image))
    assert not torch.equal(one_call(under, image), one_call(other, image))


def test_a_unit_is_what_good_places_show(under: BundleUnderTest, parts: Path) -> None:
    good = [one.path for one in dataset.test_images(parts) if one.defect == "good"][:2]
    readings = ScaledReadings.learn(under, good, silent)
    read = [readings(under.encode(path)) for path in good]
    for name in readings.units:
        places = torch.cat([one.readings[name][one.image.judged] for one in read])
        assert float(places.square().mean()) == pytest.approx(1, rel=1e-3)


def test_the_command_measures_every_reading_alone_and_beside_the_memory(
    exported_features: Path, parts: Path, tmp_path: Path
) -> None:
    file = tmp_path / "readings.json"
    words = ("readings", str(exported_features), "--data", str(parts), "--exposures", "2", "--json", str(file))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    content = json.loads(file.read_text(encoding="utf-8"))["figures"]
    names = [one["name"] for one in content["methods"]]
    assert names == [MEMORY_ALONE, *(name for one in READINGS for name in (one.name, beside(one.name)))]
    assert set(content["minus_memory_alone"]) == set(names[1:])
    assert all(one["spread"]["std"] > 0 for one in content["methods"])
    assert "I-AUROC minus memory alone" in done.output


def test_a_bundle_of_the_pixel_form_is_refused(exported: Path, parts: Path) -> None:
    done = CliRunner().invoke(app, ["readings", str(exported), "--data", str(parts)])
    assert done.exit_code == 1
    assert "pixel form" in done.output


def test_one_exposure_shows_no_spread(exported_features: Path, parts: Path) -> None:
    done = CliRunner().invoke(app, ["readings", str(exported_features), "--data", str(parts), "--exposures", "1"])
    assert done.exit_code == 1
    assert "at least 2" in done.output
