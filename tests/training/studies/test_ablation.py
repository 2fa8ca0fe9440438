"""The rows of Tables 6 and 7: what differs between them is what their name says, and differences are paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glad.settings.method import MethodSettings
from model_store.bundle import open_bundle
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.data import dataset as data
from training.finetune.unet import LatentPairs, train_unet
from training.metrics.pixel_metrics import rank_pixels
from training.package import Naming
from training.pipeline import train
from training.progress import silent
from training.studies.ablation import FULL, as_json, as_markdown, compare, fixed_steps, measure, variants
from training.studies.retrained import train_plain, train_unadapted
from training.studies.variant_results import VariantResult
from training.training_run import TrainingRun

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

SETTINGS = MethodSettings.model_validate({"trigger": {"delta": 0.4}})


def test_the_fixed_steps_of_the_paper_come_out_at_its_own_t() -> None:
    assert fixed_steps(SETTINGS) == (350, 550, 750)
    assert fixed_steps(SETTINGS.changed(start=500, t_min=250)) == (233, 367, 500)


def test_each_row_differs_from_the_whole_method_in_what_its_name_says() -> None:
    bundle, plain = Path("bundle"), Path("plain")
    rows = {row.name: row for row in variants(bundle, SETTINGS, (plain, 0.6), (350, 750))}
    assert rows[FULL].settings == SETTINGS
    assert {name: row.bundle for name, row in rows.items() if "baseline" in name} == {
        "baseline": plain, "baseline + ADS": plain, "baseline + ATP": bundle
    }  # fmt: skip
    assert {name: row.settings.trigger.delta for name, row in rows.items()} == {
        "baseline": 0, "baseline + ADS": 0.6, "baseline + ATP": 0, "ADS + ATP without SAFF": 0.4,
        "fixed 350": 0, "fixed 750": 0, FULL: 0.4,
    }  # fmt: skip
    fused = {name for name, row in rows.items() if row.settings.fusion.enabled and row.settings.trigger.delta > 0}
    assert fused == {FULL}
    assert rows["fixed 350"].settings.start == 350
    assert {row.settings.steps for row in rows.values()} == {25}


def test_the_feature_form_adds_each_witness_alone_and_the_other_noise() -> None:
    feature = SETTINGS.changed(trigger={"delta": 0.4, "comparator": "latents"}, noise="fixed")
    before = {row.name for row in variants(Path("bundle"), SETTINGS, None, ())}
    added = {row.name: row.settings for row in variants(Path("bundle"), feature, None, ()) if row.name not in before}
    said = {
        name: (one.score.evidence.memory, one.score.evidence.reconstruction, one.noise) for name, one in added.items()
    }
    assert said == {
        "memory alone": (1, 0, "fixed"), "reconstruction alone": (0, 1, "fixed"), "noise: image": (1, 1, "image"),
        "no image walks": (1, 1, "fixed"),
    }  # fmt: skip


def test_a_bundle_with_clear_images_is_held_against_all_walking_and_none() -> None:
    feature = SETTINGS.changed(trigger={"delta": 0.4, "comparator": "latents"}, doubtful={"low": 1.0, "high": 2.0})
    rows = {row.name: row.settings.doubtful for row in variants(Path("bundle"), feature, None, ())}
    assert (rows["every image walks"], rows[FULL]) == (None, feature.doubtful)
    assert rows["reconstruction alone"] is None  # without the memory there is no first reading
    nobody = rows["no image walks"]
    assert nobody is not None
    assert not any(nobody.contains(reading) for reading in (0.0, 1.5, 1e9))


def test_a_fixed_step_above_t_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fixed steps \[900\] lie above the bundle's T of 750"):
        variants(Path("bundle"), SETTINGS, None, (350, 900))


def test_bundles_of_other_trainings_stand_under_settings_of_their_own() -> None:
    other = SETTINGS.changed(start=500, t_min=250)
    rows = {row.name: row for row in variants(Path("bundle"), SETTINGS, None, (), [("other", Path("other"), other)])}
    assert (rows["other"].bundle, rows["other"].settings) == (Path("other"), other)
    with pytest.raises(ValueError, match="two rows are called 'baseline"):
        variants(Path("bundle"), SETTINGS, None, (), [("baseline + ATP", Path("other"), other)])
    with pytest.raises(ValueError, match="two rows are called 'other'"):
        variants(Path("bundle"), SETTINGS, None, (), [("other", Path("one"), other), ("other", Path("two"), other)])


def found(scores: list[float], map_of_defect: list[list[float]]) -> VariantResult:
    """Two good images with an empty map, and two defects in the left column of a 2 x 2 image."""
    truth = np.array([[True, False], [True, False]])
    quiet_map, defect_map = np.zeros((2, 2), dtype=np.float32), np.array(map_of_defect, dtype=np.float32)
    maps, truths = [quiet_map, quiet_map, defect_map, defect_map], [truth & False, truth & False, truth, truth]
    return VariantResult(np.array(scores), rank_pixels(maps, truths), 500.0)


def labelled() -> tuple[data.TestImage, ...]:
    return tuple(
        data.TestImage(Path(f"{i}.png"), kind, None) for i, kind in enumerate(["good", "good", "dent", "dent"])
    )


def test_differences_are_paired_and_zero_where_nothing_differs() -> None:
    # The other variant ranks one defect below one good image: 3 of 4 pairs right. Its map marks the wrong column:
    # defective pixels tie with the 8 good images' zeros (half a win each) and lose to the 4 marked good pixels.
    whole, other = found([1, 2, 3, 4], [[1, 0], [1, 0]]), found([1, 3.5, 3, 4], [[0, 1], [0, 1]])
    chosen = variants(Path("bundle"), SETTINGS, None, (750,))
    measured = dict.fromkeys([row.name for row in chosen], whole) | {"ADS + ATP without SAFF": other}
    rows = {row.name: row for row in compare(chosen, measured, labelled())}
    same = rows["baseline + ATP"].differences
    assert all((gap.value, gap.low, gap.high) == (0, 0, 0) for gap in same.values())
    worse = rows["ADS + ATP without SAFF"]
    assert worse.figures["image_auroc"].value == pytest.approx(0.75)
    assert worse.differences["image_auroc"].value == pytest.approx(-0.25)
    assert worse.figures["pixel_auroc"].value == pytest.approx(8 / 2 / 12)
    assert as_json(list(rows.values()), labelled())["images"][2] == "dent/2.png"
    assert list(worse.scores) == [1, 3.5, 3, 4]
    assert worse.differences["pixel_auroc"].low <= worse.differences["pixel_auroc"].value < 0


def test_a_defect_without_a_mask_is_refused_before_anything_is_walked() -> None:
    with pytest.raises(ValueError, match=r"2\.png has no mask \(2 of 4 images\)"):
        measure(variants(Path("nowhere"), SETTINGS, None, (750,)), labelled(), progress=silent)


def test_without_atp_no_anomaly_is_ever_seen(tmp_path: Path) -> None:
    normal, first, second = (torch.randn(8, 4, 4, 4, generator=torch.Generator().manual_seed(s)) for s in range(3))
    recipe = TINY_RECIPE.unet.model_copy(update={"anomaly_weight": "none"})
    weights = [
        train_unet(
            LatentPairs(normal, anomalous), recipe, TINY_RECIPE.settings, TrainingRun(tmp_path / name), seed=0
        ).state_dict()
        for name, anomalous in (("first", first), ("second", second))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_is_trained_in_another_way_shares_all_else(tmp_path: Path) -> None:
    parts = draw_parts(tmp_path / "parts")
    bundle = train(
        TINY_RECIPE, parts, tmp_path / "run", tmp_path / "bundle", Naming("ramp", "1"),
        command="test", say=lambda text: None, workers=1,
    )  # fmt: skip
    folder, plain_delta = train_plain(bundle, parts, tmp_path / "plain", progress=silent, workers=1)
    ours, plain = bundle.manifest.components, open_bundle(folder).manifest.components
    assert ours["unet"].content_hash != plain["unet"].content_hash
    assert ours["autoencoder"].content_hash == plain["autoencoder"].content_hash
    assert ours["features"].content_hash == plain["features"].content_hash
    assert plain_delta > 0
    other, delta = train_unadapted(bundle, parts, tmp_path / "unadapted", progress=silent, workers=1)
    unadapted = open_bundle(other).manifest.components
    assert ours["features"].content_hash != unadapted["features"].content_hash
    assert ours["unet"].content_hash == unadapted["unet"].content_hash
    assert delta > 0
    images = data.test_images(parts)
    chosen = variants(
        bundle.path, bundle.manifest.settings, (folder, plain_delta), fixed_steps(bundle.manifest.settings)
    )
    rows = compare(chosen, measure(chosen, images, progress=silent, workers=1), images)
    table = as_markdown(rows)
    assert all(row.name in table for row in rows)
    assert {row.denoising_step for row in rows if row.name.startswith("fixed")} == {233, 367, 500}
    at_t = {row.name: row for row in rows}
    assert at_t["fixed 500"].figures == at_t["baseline + ATP"].figures, "plain DDIM from T is both"


def test_a_bundle_without_a_recipe_says_what_to_do(tmp_path: Path) -> None:
    bundle = open_bundle(make_tiny_bundle(tmp_path / "store"))
    with pytest.raises(ValueError, match=r"does not say by which recipe it was trained.*--without-atp"):
        train_plain(bundle, tmp_path, tmp_path / "run", progress=silent)


def test_a_bundle_of_the_feature_form_says_how_one_without_atp_is_made(tmp_path: Path) -> None:
    made = make_tiny_bundle(tmp_path / "store")
    opened = open_bundle(made)
    about = opened.manifest.provenance.model_copy(update={"recipe": {"backbone": "package:x"}})
    bundle = replace(opened, manifest=opened.manifest.model_copy(update={"provenance": about}))
    with pytest.raises(ValueError, match=r"feature form.*--set unet.anomaly_weight=none"):
        train_plain(bundle, tmp_path, tmp_path / "run", progress=silent)
