"""Tables 6 and 7 by a training: each class with ATP and without, the mean over classes beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glad.settings.presets import SINGLE_CLASS
from tests.support.tiny_recipe import TINY_TOML, draw_parts
from training.metrics.bootstrap import Estimate
from training.progress import silent
from training.studies.ablation import FULL
from training.studies.protocol import plan_trainings, run_protocol
from training.studies.protocol_tables import IMAGE, PIXEL, MeasuredClass, classes_table, describe_run, variants_table
from training.studies.published_figures import CLASSES, COMPONENTS

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def measured_class(product: str, shares: dict[str, tuple[float, float]]) -> MeasuredClass:
    """A class of 50 images trained on, 2 good and 8 defective ones; each interval reaches 0.1 down and to 1."""
    figures = {
        name: {key: Estimate(value, value - 0.1, 1.0) for key, value in zip((IMAGE, PIXEL), values, strict=True)}
        for name, values in shares.items()
    }
    return MeasuredClass(product, 50, 2, 8, figures)


@pytest.fixture
def two_classes() -> tuple[MeasuredClass, MeasuredClass]:
    """The second class is better than the first, and the whole method is better on it still."""
    first = dict.fromkeys(COMPONENTS, (0.5, 0.6))
    second = dict.fromkeys(COMPONENTS, (0.7, 1.0)) | {FULL: (0.9, 0.8)}
    return measured_class("carpet", first), measured_class("grid", second)


def test_the_mean_over_classes_stands_beside_the_papers_figure(two_classes: tuple[MeasuredClass, ...]) -> None:
    rows = {row[0]: row[1:] for row in variants_table(two_classes).rows}
    assert rows[FULL] == ("70.0", "99.3", "70.0", "98.6")  # (0.5 + 0.9) / 2, (0.6 + 0.8) / 2
    assert rows["baseline"] == ("60.0", "98.3", "80.0", "98.0")
    assert rows["fixed 350/750 of T"] == ("60.0", "98.8", "80.0", "97.6")


def test_each_class_stands_beside_the_papers_figure_of_that_class(two_classes: tuple[MeasuredClass, ...]) -> None:
    rows = {row[0]: row[1:] for row in classes_table("mvtec-ad", two_classes).rows}
    assert rows["carpet"] == ("50", "2", "8", "50.0 [40.0, 100.0]", "99.0", "60.0 [50.0, 100.0]", "98.5")
    assert rows["grid"][4::2] == ("100.0", "99.6")
    assert rows["mean"] == ("", "", "", "70.0", "99.5", "70.0", "99.0")  # (99.0 + 100) / 2, (98.5 + 99.6) / 2 = 99.05


def test_the_tables_say_how_few_images_made_them(two_classes: tuple[MeasuredClass, ...]) -> None:
    said = describe_run("mvtec-ad", "light --set unet.steps=9", 256, two_classes)
    assert "2 of 15 classes of mvtec-ad, 20 test images (4 good, 16 defective)" in said
    assert "Recipe light --set unet.steps=9, images of 256 × 256 pixels" in said
    assert "no width" not in said


def test_a_perfect_ranking_of_few_images_is_not_shown_as_certain() -> None:
    perfect = measured_class("grid", dict.fromkeys(COMPONENTS, (1.0, 0.9)))
    said = describe_run("mvtec-ad", "light", 256, [perfect])
    assert "Of grid every defect scores above every good image, so the interval has no width" in said


def test_the_papers_classes_are_ours_and_average_to_what_it_prints() -> None:
    printed = {"mvtec-ad": (99.3, 98.6), "mpdd": (97.5, 98.7), "visa": (99.5, 98.6), "pcb-bank": (98.7, 99.3)}
    for dataset, (_, classes) in SINGLE_CLASS.items():
        assert list(CLASSES[dataset]) == list(classes)
        assert np.mean(list(CLASSES[dataset].values()), axis=0) == pytest.approx(printed[dataset], abs=0.06)


def test_what_is_wrong_shows_before_anything_is_trained(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_TOML)
    draw_parts(tmp_path / "data" / "carpet")
    with pytest.raises(ValueError, match="no data set 'mvtec'"):
        plan_trainings("mvtec", tmp_path / "data", str(recipe), (), ("carpet",))
    with pytest.raises(ValueError, match="grid is missing"):
        plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet", "grid"))
    with pytest.raises(ValueError, match="trains no UNet with ATP"):
        plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), ("unet.anomaly_weight=none",), ("carpet",))
    (tmp_path / "data/carpet/ground_truth/hole/000_mask.png").unlink()
    with pytest.raises(ValueError, match="000"):
        plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet",))


def test_a_class_is_trained_both_ways_measured_under_every_variant_and_not_done_twice(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_TOML)
    draw_parts(tmp_path / "data" / "carpet")
    plan = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet",))
    said: list[str] = []
    result = run_protocol(plan, tmp_path, command="test", progress=silent, say=said.append, workers=1)
    assert [row[0] for row in result.variants.rows] == list(COMPONENTS)
    recorded = json.loads((tmp_path / "carpet-tables-6-7.json").read_text())
    figures = {row["name"]: row["figures"]["image_auroc"]["value"] for row in recorded["rows"]}
    scores = dict(
        zip(recorded["images"], next(r["scores"] for r in recorded["rows"] if r["name"] == FULL), strict=True)
    )
    good = [score for name, score in scores.items() if name.startswith("good/")]
    bad = [score for name, score in scores.items() if name.startswith("hole/")]
    assert (len(good), len(bad)) == (3, 2)
    assert figures[FULL] == pytest.approx(np.mean([(b > g) + 0.5 * (b == g) for b in bad for g in good]))
    rows = {row[0]: row[1] for row in result.variants.rows}
    assert rows[FULL] == f"{100 * figures[FULL]:.1f}"
    assert result.classes.rows[0][:4] == ("carpet", "10", "3", "2")
    written = (tmp_path / "tables-6-7.md").read_text()
    assert result.made_of in written, "a table is never shown without its images"
    assert "1 of 15 classes" in written
    assert json.loads((tmp_path / "tables-6-7.json").read_text())["of_classes"] == {"carpet": recorded}
    assert "baseline + ADS" in (tmp_path / "carpet-tables-6-7.md").read_text()
    said.clear()
    assert run_protocol(plan, tmp_path, command="test", progress=silent, say=said.append, workers=1) == result
    assert not [line for line in said if "training" in line]

    other = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), ("unet.steps=5",), ("carpet",))
    with pytest.raises(ValueError, match=r"holds class carpet of another run: recipe.unet.steps was 4 and is 5 now"):
        run_protocol(other, tmp_path, command="test", progress=silent, say=said.append, workers=1)
    cheaper = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), ("training.accumulate=2",), ("carpet",))
    again = run_protocol(cheaper, tmp_path, command="test", progress=silent, say=said.append, workers=1)
    assert again.variants == result.variants, "how the device is used may change within a run"
