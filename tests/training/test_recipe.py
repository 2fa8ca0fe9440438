"""Recipes: the shipped ones load; a bad one is refused with the value, the rule and the fix."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from training.recipe import FeatureRecipe, Recipe, SynthesisRecipe
from training.recipe_file import SHIPPED, RecipeError, load_recipe, recipe_class, recipe_from

BUNDLES = Path(__file__).parents[2] / "model_store" / "bundles"
NANO = Path(__file__).parents[1] / "model_store" / "nano_manifest.json"
"""Of a bundle that was shipped before, in the other form."""


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_every_shipped_recipe_loads_by_name_and_by_path(file: Path, tmp_path: Path) -> None:
    data = Path({"mpdd": "tubes"}.get(file.stem, "pcb1" if file.stem in ("visa", "pcb-bank") else "carpet"))
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    if content.get("multi_class"):
        data = tmp_path
        (tmp_path / "cable").mkdir()
    recipe = load_recipe(file.stem, (), data)
    assert recipe == load_recipe(str(file), (), data)
    assert recipe.name == file.stem


def test_an_unknown_name_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'nanoo'.*shipped names: .*nano"):
        load_recipe("nanoo")


def test_a_recipe_survives_the_way_through_json() -> None:
    recipe = load_recipe("nano")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_the_former_name_of_the_autoencoders_table_still_loads() -> None:
    content = tomllib.loads((SHIPPED / "nano.toml").read_text(encoding="utf-8"))
    content["vae"] = content.pop("autoencoder")
    recipe = recipe_from(content, "old.toml")
    assert recipe == load_recipe("nano")
    assert {"autoencoder", "vae"} & recipe.model_dump().keys() == {"autoencoder"}


@pytest.mark.parametrize(
    "manifest", [*sorted(BUNDLES.glob("*/*/manifest.json")), NANO], ids=lambda path: path.parent.name
)
def test_the_recipe_in_a_shipped_bundles_provenance_is_read(manifest: Path) -> None:
    recorded = json.loads(manifest.read_text(encoding="utf-8"))["provenance"]["recipe"]
    recipe = recipe_class(recorded).model_validate(recorded)
    assert isinstance(recipe, Recipe | FeatureRecipe)
    assert recipe.unet.widths == tuple(recorded["unet"]["widths"])
    assert recipe_class(recorded).model_validate(recipe.model_dump(mode="json")) == recipe


def _changed(path: str, value: Any) -> dict[str, Any]:
    content = tomllib.loads((SHIPPED / "nano.toml").read_text(encoding="utf-8"))
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("settings.resolution", 190, r"resolution 190 is not divisible .* choose a multiple of 8"),
        ("settings.resolution", 200, r"latent's side 25 cannot be halved 2 times .* divisible by 32"),
        ("settings.steps", 0, r"settings.steps is 0: .*greater than or equal to 1"),
        ("settings.t_min", 900, r"t_min is 900, .*lower t_min"),
        ("settings.score.layers", [2, 9], r"score layers are \(2, 9\), .*raise features.depth"),
        ("settings.trigger.layer", 1, r"trigger.layer is 1; .*choose one of them"),
        ("settings.score.imagenet_normalise", True, r"imagenet_normalise is true; .*set it to false"),
        ("features.patch", 16, r"factor 8 and the patch 16 differ"),
        ("features.heads", 3, r"features.width \d+ is not divisible by features.heads 3"),
        ("autoencoder.crop", 60, r"autoencoder.crop 60 is not divisible"),
        ("autoencoder.norm_groups", 5, r"autoencoder.widths .* not divisible by autoencoder.norm_groups 5: choose mul"),
        ("unet.norm_groups", 7, r"unet.widths .* not divisible by unet.norm_groups 7"),
        ("unet.error_unit", "sample", r"unet.error_unit is sample; .*leave error_unit out"),
        ("unet.widths", [48, 96, 100], r"not divisible by unet.norm_groups"),
        ("autoencoder.widths", [], r"autoencoder.widths is \[\]: .*at least 1 item"),
        ("synthesis.pairs", 1, r"synthesis.pairs is 1: .*greater than or equal to 8"),
        (
            "calibration.training_parts",
            True,
            r"calibration.training_parts is true; .* learnt every image .* set it to fa",
        ),
        ("calibration.holdout", 1.0, r"calibration.holdout is 1.0: .*less than 1"),
        (
            "unet.learnign_rate",
            1e-4,
            r"unet.learnign_rate is not a known key: did you mean learning_rate\? Keys of",
        ),
        ("settings.trigger.dleta", 1, r"settings.trigger.dleta is not a known key: did you mean delta\?"),
        ("uent", {}, r"uent is not a known key: did you mean unet\? Keys of the file: name, seed, .*autoencoder, unet"),
        ("features.xyzzy", 1, r"features.xyzzy is not a known key: remove it. Keys of \[features\]: width, depth, "),
        ("settings.framing", {"kind": "tiles", "xyzzy": 1}, r"xyzzy is not a known key: remove it"),
        ("vae", {"widths": [8]}, r"vae and autoencoder are two names of the same table: give \[autoencoder\] alone"),
    ],
)
def test_a_value_that_cannot_work_is_refused_before_anything_long_begins(path: str, value: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe_from(_changed(path, value), "nano.toml")


@pytest.mark.parametrize(
    ("changes", "data", "told"),
    [
        ((), None, r"\{class\} in its preset 'mvtec-ad/\{class\}' stands for the folder's name"),
        ((), "carpett", r"no preset 'mvtec-ad/carpett': did you mean mvtec-ad/carpet"),
        (
            ("unet.lora.rnak=3",),
            "carpet",
            r"unet.lora.rnak is not a known key: did you mean rank\? Keys of \[unet.lora\]",
        ),
        (("autoencoder.steps=9", "autoencoder.trained=all", "unet=no"), "carpet", r"unet is 'no'"),
        (("settings.trigger.comparator=latents",), "carpet", r"published models compare decoded images"),
        (("calibration.training_parts=true",), "carpet", r"learnt every image .* set it to false"),
        (("multi_class=true", "features.epochs=1"), "carpet", r"multi_class trains the UNet alone"),
        (("unet.lora.rank=2", "unet.ema=0.99"), "carpet", r"adapters have no moving average; set ema to 0"),
    ],
)
def test_a_recipe_of_published_models_that_cannot_work_is_refused(
    changes: tuple[str, ...], data: str | None, told: str, tmp_path: Path
) -> None:
    (tmp_path / "carpet/train").mkdir(parents=True)
    with pytest.raises(RecipeError, match=told):
        load_recipe("mvtec-ad", changes, None if data is None else tmp_path / data)


def test_the_framing_of_a_preset_is_replaced_as_a_whole_by_another_kind() -> None:
    letterboxed = load_recipe("mvtec-ad", ("settings.framing={ kind = 'letterbox' }",), Path("carpet"))
    assert letterboxed.settings.framing.kind == "letterbox"
    assert load_recipe("mvtec-ad", (), Path("carpet")).settings.framing.kind == "stretch"


def test_a_min_snr_weighting_of_the_feature_form_is_refused() -> None:
    with pytest.raises(RecipeError, match="in the feature form error_unit says what counts"):
        load_recipe("light", ("unet.loss_weighting=min_snr",))


def test_a_recipe_whose_anomalies_all_weigh_nothing_is_refused() -> None:
    kinds = SynthesisRecipe(pairs=8).weights
    content = _changed("synthesis", {"pairs": 100, **dict.fromkeys(kinds, 0)})
    with pytest.raises(RecipeError, match=r"every weight of synthesis is 0: give at least one"):
        recipe_from(content, "nano.toml")


def test_a_file_that_is_not_toml_is_refused_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("name = ", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"broken\.toml is not TOML"):
        load_recipe(str(file))


def test_a_recipe_takes_another_confidence_and_keeps_its_own_without_one() -> None:
    light = load_recipe("light")
    assert light.with_confidence(None) is light
    sure = light.with_confidence(0.95)
    assert sure.calibration.confidence == 0.95
    assert sure.calibration.model_copy(update={"confidence": light.calibration.confidence}) == light.calibration


def test_single_values_of_a_recipe_are_changed() -> None:
    light = load_recipe("light")
    changes = ("unet.steps=7", "unet.anomaly_weight=none", "latent.channels=64", "settings.score.evidence.memory=2.5")
    changed = load_recipe("light", changes)
    assert isinstance(light, FeatureRecipe)
    assert isinstance(changed, FeatureRecipe)
    assert (changed.unet.steps, changed.unet.anomaly_weight) == (7, "none")
    assert changed.settings.score.evidence.memory == 2.5
    assert changed.settings.score.evidence.reconstruction == light.settings.score.evidence.reconstruction
    assert changed.unet.widths == light.unet.widths
    assert load_recipe("light", ()) == light


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("unet.steps", "give a key and its value"),
        ("=3", "give a key and its value"),
        ("unet..steps=3", "give a key and its value"),
        ("unet.step=3", "unet.step is not a known key: did you mean steps"),
        ("unet.steps=many", "unet.steps is 'many'"),
        ("unet=3", "unet is 3"),
    ],
)
def test_a_change_of_no_value_is_refused_and_named(change: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told) as raised:
        load_recipe("light", (change,))
    assert f"--set {change}" in str(raised.value)
