"""Tables 6 and 7 by a training: each class with ATP and without, the mean over classes beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glad.settings.presets import SINGLE_CLASS
from tests.support.processes import entered_by_another_thread
from tests.support.tiny_recipe import TINY_PRETRAINED_TOML, TINY_TOML, draw_parts
from training.metrics.bootstrap import Estimate
from training.progress import silent
from training.run_lock import RunInUse, locked_run
from training.studies.ablation import FULL
from training.studies.protocol import plan_trainings, run_protocol
from training.studies.protocol_tables import IMAGE, PIXEL, MeasuredClass, classes_table, describe_run, variants_table
from training.studies.published_figures import CLASSES, COMPONENTS
from training.studies.reproduced_folder import claim_folder, class_held
from training.studies.reproduction_outlook import protocol_outlook
from training.training_run import read_records

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


def test_a_dry_run_says_what_is_left_and_what_would_fail_and_writes_nothing(tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.toml", tmp_path / "out"
    recipe.write_text(TINY_TOML)
    for name in ("carpet", "grid"):
        draw_parts(tmp_path / "data" / name)
    plan = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet", "grid"))
    outlook = protocol_outlook(plan, out, progress=silent, workers=1)
    assert {row[1:4] for row in outlook.classes.rows} == {("to do", "to do", "to do")}
    assert outlook.costs[0].startswith("trainings: 4 of 4 are left, about ")
    assert outlook.costs[0].endswith(" for the stages of which a step was tried; the others were not measured")
    assert outlook.costs[1].startswith("measuring: 10 images of 2 classes are left; how long one takes is known when")
    assert outlook.as_text().endswith("nothing was done; nothing stands in the way")
    assert not out.exists()

    damaged = tmp_path / "data/grid/test/hole/001.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    problems = protocol_outlook(plan, out, progress=silent, workers=1).problems
    assert [problem.partition(":")[0] for problem in problems] == [str(damaged)]
    with pytest.raises(ValueError, match=r"hole/001\.png: PNG image of 200 bytes does not decode"):
        run_protocol(plan, out, command="test", progress=silent, say=lambda _: None, workers=1)
    assert not (out / "runs").exists()  # the last class's image shows before the first one is trained


def test_a_class_that_another_call_works_on_is_refused_with_the_way_out(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_TOML)
    draw_parts(tmp_path / "data" / "carpet")
    plan = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet",))
    with entered_by_another_thread(class_held(tmp_path, "carpet"), locked_run(tmp_path / "runs/carpet-trained")):
        refused = pytest.raises(RunInUse, match=r"runs/carpet \(process .*or give --out another folder for this one")
        with refused, class_held(tmp_path, "carpet"):
            pass
        with class_held(tmp_path, "grid"):  # another class is free
            pass
        (problem,) = protocol_outlook(plan, tmp_path, progress=silent, workers=1).problems
        assert "runs/carpet (process" in problem
        assert problem.endswith("or give --out another folder for this one")


def test_a_record_that_a_kill_left_half_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"carpet": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json is damaged .*: bring it back from a backup, or give --out"):
        claim_folder(tmp_path, {"carpet": {}})  # without it, trainings by another recipe would be taken for its own
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == '{"carpet": '


def test_what_was_measured_stays_done_without_its_runs_and_a_damaged_record_shows_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    recipe, out = tmp_path / "tiny.toml", tmp_path / "out"
    recipe.write_text(TINY_TOML)
    for name in ("carpet", "grid"):
        draw_parts(tmp_path / "data" / name)
        (out / "bundles" / name / "trained").mkdir(parents=True)
    (out / "carpet-tables-6-7.json").write_text('{"bundle": "0"}', encoding="utf-8")
    plan = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet", "grid"))
    outlook = protocol_outlook(plan, out, progress=silent, workers=1)
    assert [row[1:4] for row in outlook.classes.rows] == [("done", "done", "done"), ("done", "to do", "to do")]
    assert outlook.costs[0].startswith("trainings: 1 of 4 are left, ")

    (out / "grid-tables-6-7.json").write_text('{"bundle": ', encoding="utf-8")
    problems = protocol_outlook(plan, out, progress=silent, workers=1).problems
    assert [problem.partition(" (")[0] for problem in problems] == [f"{out / 'grid-tables-6-7.json'} is damaged"]
    with pytest.raises(ValueError, match=r"grid-tables-6-7\.json is damaged .*: remove it, so that it is made anew"):
        run_protocol(plan, out, command="test", progress=silent, say=lambda _: None, workers=1)
    assert not (out / "runs").exists()


def test_a_dry_run_of_published_models_says_which_disk_it_does_not_count(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_PRETRAINED_TOML)
    draw_parts(tmp_path / "data" / "carpet")
    plan = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet",))
    disk = protocol_outlook(plan, tmp_path / "out", progress=silent, workers=1).costs[2]
    assert disk.startswith("disk: more than 0.0 GiB (0.0 GiB for each of 2 trainings in ")
    assert "; checkpoints and weights are not counted: what they take is known when the first training is done)" in disk


def test_a_class_is_trained_both_ways_measured_under_every_variant_and_not_done_twice(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_TOML)
    draw_parts(tmp_path / "data" / "carpet")
    plan = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet",))
    said: list[str] = []
    shown: list[tuple[str, int, int]] = []
    (tmp_path / "runs/carpet").mkdir(parents=True)
    former = '[{"name": "measuring", "begun": "2026-11-30T08:00:00+00:00", "seconds": 1e6, "finished": true}]'
    (tmp_path / "runs/carpet/stages.json").write_text(former, encoding="utf-8")
    noted: dict[str, float] = {}

    def stop_at_the_third(stage: str, done: int, total: int) -> None:
        shown.append((stage, done, total))
        noted[stage] = read_records(tmp_path / "runs/carpet")["measuring"].seconds
        if stage == "carpet: baseline + ATP":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_protocol(plan, tmp_path, command="test", progress=stop_at_the_third, say=said.append, workers=1)
    assert ("carpet: baseline + ADS", 1, 5) in shown
    assert noted["carpet: baseline"] < noted["carpet: baseline + ADS"] < noted["carpet: baseline + ATP"] < 1e6, (
        "a kill loses the time of the variant under way alone, and what a former measuring took does not count"
    )
    assert [line for line in said if "train" in line and "carpet" in line]
    trained = {path: path.read_bytes() for path in (tmp_path / "bundles").rglob("*") if path.is_file()}
    said.clear()
    shown.clear()
    result = run_protocol(
        plan, tmp_path, command="test", progress=lambda *one: shown.append(one), say=said.append, workers=1
    )
    assert {path: path.read_bytes() for path in (tmp_path / "bundles").rglob("*") if path.is_file()} == trained
    assert not [line for line in said if "training with" in line]
    assert [one for one in shown if "baseline" in one[0]][:3] == [
        ("carpet: baseline", 5, 5), ("carpet: baseline + ADS", 5, 5), ("carpet: baseline + ATP", 1, 5)
    ]  # fmt: skip
    assert not (tmp_path / "runs/carpet/results").exists()
    draw_parts(tmp_path / "data" / "grid")
    both = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet", "grid"))
    outlook = protocol_outlook(both, tmp_path, progress=silent, workers=1)
    assert outlook.classes.rows == (
        ("carpet", "done", "done", "done", "3 good, 2 defective"),
        ("grid", "to do", "to do", "to do", "3 good, 2 defective"),
    )
    assert outlook.costs[0].startswith("trainings: 2 of 4 are left, at most about ")
    assert outlook.costs[1].startswith("measuring: 5 images of 1 classes are left, about ")
    assert outlook.problems == ()
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
