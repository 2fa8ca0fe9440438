"""The whole road in the feature form, on tiny models: images become a bundle that finds a hole and repeats itself."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from model_store.bundle import Bundle, open_bundle
from model_store.checkpoints import ImportRefused
from model_store.engines.feature_form import load_feature_models
from model_store.engines.loading import load
from model_store.errors import ModelLoadError
from model_store.inspection import inspect
from model_store.manifest import MANIFEST_NAME, CalibrationKind, Form, Manifest, calibration_digest
from tests.support.bundles import agree
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE, draw_parts
from training.calibration.search import SearchRanges
from training.data.dataset import good_split
from training.data.image_files import DataError, read_pixels
from training.feature_recipe import DoubtfulRecipe
from training.package import Naming, counts_training_parts
from training.pipeline import FEATURE_STAGES, train
from training.recalibrate import RecalibrationPlan, recalibrate
from training.recipe import CalibrationRecipe, FeatureRecipe
from training.recipe_file import RecipeError, load_recipe, recipe_from


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("parts"))


def _train(data: Path, folder: Path, say: Any = lambda _: None) -> Bundle:
    return train(
        TINY_FEATURE_RECIPE, data, folder / "run", folder / "bundle", Naming("part", "1"),
        command="glad train tiny-feature", say=say, workers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _train(data, tmp_path_factory.mktemp("unbroken"))


def test_a_folder_of_good_images_becomes_a_bundle_of_the_feature_form(bundle: Bundle) -> None:
    found = open_bundle(bundle.path).manifest
    assert found.form is Form.FEATURE
    assert {name: component.kind for name, component in found.components.items()} == {
        "backbone": "efficientnet_lite",
        "embedding": "latent_space",
        "unet": "unet2d",
        "memory": "patch_memory",
        "decoder": "autoencoder_tiny",
    }
    assert "Apache" in found.components["backbone"].licence
    assert found.thresholds.good_images == 5
    assert found.thresholds.calibrated_for == calibration_digest(found.settings, found.components)
    # What images are padded with is what the backbone subtracts, in the settings that the worker reads.
    assert found.settings.preparation.mean == pytest.approx((127 / 255,) * 3)
    again = Manifest.model_validate_json((bundle.path / MANIFEST_NAME).read_bytes())
    assert again.to_bytes() == (bundle.path / MANIFEST_NAME).read_bytes()


def test_the_bundle_scores_a_hole_above_every_good_part_and_alike_in_any_batch(bundle: Bundle, data: Path) -> None:
    models, settings = load(bundle).models, bundle.manifest.settings
    files = sorted((data / "test").rglob("*.png"))
    together = inspect([read_pixels(file) for file in files], models, settings)
    scores: dict[str, list[float]] = {file.parent.name: [] for file in files}
    for file, one in zip(files, together, strict=True):
        scores[file.parent.name].append(one.score)
        # The UNet's batches of other sizes differ in the last bits.
        assert inspect([read_pixels(file)], models, settings)[0].score == pytest.approx(one.score, rel=1e-5)
        assert one.map.shape == one.reconstruction.shape[:2] == (64, 64)
    assert min(scores["hole"]) > max(scores["good"])


@pytest.mark.parametrize("step", [1, 6])  # in the UNet's and in the decoder's training
def test_a_run_interrupted_in_any_stage_resumes_to_the_same_bundle(
    step: int, bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, backward = 0, Accelerator.backward

    def interrupted(self: Accelerator, loss: Any, **others: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            signal.raise_signal(signal.SIGINT)
        backward(self, loss, **others)

    monkeypatch.setattr(Accelerator, "backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(data, tmp_path)
    resumed = _train(data, tmp_path)
    assert taken == 4 + 3
    assert resumed.manifest.components == bundle.manifest.components
    assert resumed.manifest.calibration == bundle.manifest.thresholds


def test_a_training_says_its_stages_and_what_it_made(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    _train(data, tmp_path, lines.append)
    assert f"stages: {', '.join(FEATURE_STAGES)}; each resumes where it was interrupted" in lines
    assert "memory: 200 patches; latents: 24 channels, 8 modelled" in lines


def test_pictures_of_the_decoder_lie_where_tensorboard_finds_them(bundle: Bundle) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loading.EventAccumulator(str(bundle.path.parent / "run/tensorboard/decoder")).Reload()
    shown = events.Images("images above their drawings")
    assert [picture.step for picture in shown] == [0, 1, 2]  # eight in all, where there are so many steps
    assert (shown[0].width, shown[0].height) == (2 * 16, 2 * 16)  # a batch of 2, drawn at 16 x 16, in two rows


def test_a_memory_of_one_part_is_refused_before_anything_long_begins(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "parts")
    files = sorted((tmp_path / "parts").rglob("good/*.png"))
    rows = [f"{file.relative_to(tmp_path / 'parts').as_posix()},{file.parts[-3]}" for file in files]
    (tmp_path / "parts/groups.csv").write_text("\n".join(["file,group", *rows]))
    with pytest.raises(DataError, match=r"all 10 images to train on show one part; .* give images of at least two"):
        _train(tmp_path / "parts", tmp_path)
    assert not (tmp_path / "run/unet.ckpt").exists()


def test_a_backbone_that_is_not_there_is_refused_in_words(data: Path, tmp_path: Path) -> None:
    recipe = TINY_FEATURE_RECIPE.model_copy(update={"backbone": str(tmp_path / "nowhere")})
    with pytest.raises(ImportRefused, match="nowhere"):
        train(recipe, data, tmp_path / "run", tmp_path / "bundle", Naming("part", "1"), command="", say=lambda _: None)


def test_too_few_parts_held_out_are_joined_by_those_of_the_training(data: Path, tmp_path: Path) -> None:
    """10 images to train on and 5 to calibrate on, each a part. In the whole memory each of the 10 finds itself."""
    base = TINY_FEATURE_RECIPE
    heard = base.settings.changed(score={**base.settings.score.model_dump(), "evidence": {"reconstruction": 0}})
    recipe = base.model_copy(
        update={
            "settings": heard,
            "calibration": base.calibration.model_copy(update={"training_parts": True}),
            "memory": base.memory.model_copy(update={"patches": 5000}),
            "synthesis": base.synthesis.model_copy(update={"shift_px": 0, "gain": 0.0, "noisy": 0.0}),
        }
    )
    lines: list[str] = []
    made = train(
        recipe, data, tmp_path / "run", tmp_path / "bundle", Naming("part", "1"),
        command="glad train", say=lines.append, workers=1,
    )  # fmt: skip
    found = made.manifest.thresholds
    assert (found.good_images, found.groups, found.kind) == (15, None, CalibrationKind.ESTIMATE)
    assert any(line.startswith("15 good images, each counted as a part: 2 % false rejects cannot") for line in lines)
    assert any("the scores are of other models than the bundle's" in line for line in lines)
    assert "and 10 of the training, each held against" in made.manifest.quality["calibration"]["calibration_images"]

    models, settings = load(made).models, made.manifest.settings
    files = sorted((data / "train/good").glob("*.png"))
    at_home = [one.score for one in inspect([read_pixels(file) for file in files], models, settings)]
    assert max(at_home) < 0.1 < min(found.good_scores)  # but for float16, nothing differs from itself


def test_a_calibration_that_keeps_the_promise_needs_no_training_parts(data: Path) -> None:
    recipe = CalibrationRecipe(training_parts=True, fail_quantile=0.8)  # 4 parts suffice: 1 / (4 + 1) = 0.2
    assert not counts_training_parts(recipe, good_split(data, 0.2, 0))
    assert counts_training_parts(CalibrationRecipe(training_parts=True), good_split(data, 0.2, 0))
    assert not counts_training_parts(CalibrationRecipe(), good_split(data, 0.2, 0))


def test_settings_are_not_searched_on_images_that_the_memory_knows(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    plan = RecalibrationPlan(SearchRanges())
    with pytest.raises(ValueError, match=r"memory knows the images .* --keep-settings"):
        recalibrate(bundle.path, data, tmp_path / "2", plan, command="", progress=lambda *_: None, workers=1)


def test_the_memory_of_a_tiled_product_knows_a_tile_of_every_pair(data: Path, tmp_path: Path) -> None:
    """40 pairs of 16 × 16 pixels of the original, enlarged to 64 × 64: 8 × 8 places each, none of them padding."""
    tiles = TINY_FEATURE_RECIPE.settings.changed(framing={"kind": "tiles", "side": 16, "overlap": 4})
    memory = TINY_FEATURE_RECIPE.memory.model_copy(update={"patches": 5000})
    synthesis = TINY_FEATURE_RECIPE.synthesis.model_copy(update={"pairs": 40, "none": 0.0, "texture": 3.0})
    recipe = TINY_FEATURE_RECIPE.model_copy(update={"settings": tiles, "memory": memory, "synthesis": synthesis})
    lines: list[str] = []
    train(
        recipe, data, tmp_path / "run", tmp_path / "bundle", Naming("part", "1"),
        command="glad train", say=lines.append, workers=1,
    )  # fmt: skip
    assert f"memory: {40 * 64} patches; latents: 24 channels, 8 modelled" in lines


def test_a_bundle_of_this_form_is_calibrated_again(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    again = recalibrate(
        bundle.path, data, tmp_path / "2", RecalibrationPlan(None), command="glad calibrate",
        progress=lambda *_: None, workers=1,
    ).bundle  # fmt: skip
    assert again.manifest.components == bundle.manifest.components
    assert again.manifest.thresholds.good_scores == bundle.manifest.thresholds.good_scores


def test_a_training_finds_which_images_walk_and_calibrates_under_that(data: Path, tmp_path: Path) -> None:
    """Half of the good parts of the training, each read without itself, are clear; so are some of the held-out ones."""
    assert TINY_FEATURE_RECIPE.doubtful == DoubtfulRecipe(low_quantile=0.5, high_ratio=1.5, one_call=True)
    lines: list[str] = []
    made = train(
        TINY_FEATURE_RECIPE, data, tmp_path / "run", tmp_path / "bundle", Naming("part", "1"),
        command="glad train", say=lines.append, workers=1,
    )  # fmt: skip
    found = made.manifest.settings.doubtful
    assert found is not None
    assert 0 < found.low < found.high
    assert f"images walk whose first reading lies between {found.low:.3f} and {found.high:.3f}" in lines
    models, settings = load(made).models, made.manifest.settings
    files = sorted((data / "calibration/good").glob("*.png"))
    inspected = inspect([read_pixels(file) for file in files], models, settings)
    assert {one.lane.unet_evaluations for one in inspected} == {1, 1 + settings.steps}  # a reading's call, and a walk
    report = made.manifest.quality["calibration"]
    assert report["good_walked_share"] == sum(one.lane.walked for one in inspected) / len(files) < 1
    assert sorted(one.score for one in inspected) == pytest.approx(sorted(made.manifest.thresholds.good_scores))
    by_score = sorted(zip(inspected, files, strict=True), key=lambda pair: -pair[0].score)
    named = [(one["image"], one["score"]) for one in report["most_unusual"]]
    assert named == [(f"good/{file.name}", round(one.score, 4)) for one, file in by_score[:6]]
    assert report["trigger_peaks"]["median"] > 0  # delta is found where every image walks

    again = recalibrate(
        made.path, data, tmp_path / "2", RecalibrationPlan(None), command="glad calibrate",
        progress=lambda *_: None, workers=1,
    ).bundle  # fmt: skip
    assert again.manifest.settings == settings
    assert again.manifest.thresholds.good_scores == made.manifest.thresholds.good_scores


def _spoilt(bundle: Bundle, folder: Path, name: str, change: Any) -> Bundle:
    """A copy whose component's config.json is changed, and whose manifest agrees with that."""
    shutil.copytree(bundle.path, folder)
    path = folder / name / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    agree(folder)
    manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    manifest["calibration"]["calibrated_for"] = None
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return open_bundle(folder)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("embedding", lambda c: c["settings"].update(levels=[2, 4]), r"projects 152 channels; the backbone's .* 136"),
        ("embedding", lambda c: c["settings"].update(levels=[3, 7]), "names level 7; the backbone has 4"),
        ("embedding", lambda c: c["settings"].update(average_over="image"), "latents are made without a mask"),
        ("embedding", lambda c: c.update(modelled=9), "it is to model 9: both must be 9 times a square"),
        ("embedding", lambda c: c.update(colour=1), "cannot be used"),
        ("memory", lambda c: c.pop("memory_window"), "cannot be used"),
    ],
)
def test_components_that_do_not_fit_are_refused_in_words(
    name: str, change: Any, said: str, bundle: Bundle, tmp_path: Path
) -> None:
    spoilt = _spoilt(bundle, tmp_path / "spoilt", name, change)
    with pytest.raises((ModelLoadError, ValueError), match=said):
        load_feature_models(spoilt)


def test_settings_of_the_other_form_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    spoilt = _spoilt(bundle, tmp_path / "spoilt", "memory", lambda _: None)
    settings = spoilt.manifest.settings.changed(trigger={"delta": 1.0}, resolution=72, doubtful=None)
    changed = Bundle(spoilt.path, spoilt.manifest.model_copy(update={"settings": settings}), spoilt.hash)
    with pytest.raises(ValueError, match=r"(?s)must be a multiple of 32.*use 64 or 96.*comparator is images"):
        load_feature_models(changed)


def test_the_shipped_recipe_is_of_this_form() -> None:
    light = load_recipe("light")
    assert isinstance(light, FeatureRecipe)
    assert torch.tensor(light.settings.grid).diff().max() < 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"settings": {"resolution": 72, "trigger": {"delta": 1, "comparator": "latents"}}},
            "72 is not divisible by 32",
        ),
        ({"settings": {"resolution": 64, "trigger": {"delta": 1}}}, "trigger.comparator is images"),
        ({"latent": {"channels": 8, "modelled": 9}}, "latent.modelled is 9, latent.channels 8"),
        (
            {"latent": {"channels": 8, "modelled": 8}, "memory": {"searched": 9}},
            "memory.searched is 9, latent.channels 8",
        ),
        ({"decoder": {"steps": 3, "doublings": 4}}, "the picture would be larger than the image"),
        ({"comparator": {"window": 2}}, "window is 2; it needs a middle"),
        (
            {"unet": {"widths": [16, 20], "steps": 1, "batch": 1, "learning_rate": 1}},
            "not divisible by unet.norm_groups",
        ),
        ({"memry": {"patches": 3}}, "did you mean memory"),
        (
            {"doubtful": {"low_quantile": 1.5, "high_ratio": 1}},
            "doubtful.low_quantile is 1.5: .*less than or equal to 1",
        ),
        ({"doubtful": {"low_quantile": 0.5, "high_ratio": 0.9}}, "doubtful.high_ratio is 0.9: .*or equal to 1"),
        (
            {
                "doubtful": {"low_quantile": 0.5, "high_ratio": 1},
                "settings": {
                    "resolution": 64,
                    "trigger": {"delta": 1, "comparator": "latents"},
                    "doubtful": {"low": 1, "high": 2},
                },
            },
            "both say which images walk: give one of them",
        ),
        (
            {
                "doubtful": {"low_quantile": 0.5, "high_ratio": 1},
                "settings": {
                    "resolution": 64,
                    "trigger": {"delta": 1, "comparator": "latents"},
                    "score": {"evidence": {"memory": 0}},
                },
            },
            "evidence.memory is 0: .* or remove .doubtful., so that every image walks",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_before_anything_is_made(change: dict[str, Any], said: str) -> None:
    content = {**TINY_FEATURE_RECIPE.model_dump(mode="json", exclude_defaults=True), **change}
    with pytest.raises(RecipeError, match=said):
        recipe_from(content, "mine.toml")
