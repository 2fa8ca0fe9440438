"""Tables 6 and 7 by a training: each class with ATP and without, the mean over classes beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_recipe import TINY_TOML, draw_parts
from training.progress import silent
from training.studies.ablation import FULL
from training.studies.protocol import FIXED, PAPER, plan_trainings, protocol_table, run_protocol

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def test_the_mean_over_classes_stands_beside_the_papers_figure() -> None:
    names = (*PAPER, *FIXED)
    first = dict.fromkeys(names, (0.5, 0.6))
    second = dict.fromkeys(names, (0.7, 1.0)) | {FULL: (0.9, 0.8)}
    table = protocol_table({"carpet": first, "grid": second})
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows[FULL] == ("70.0", "99.3", "70.0", "98.6")  # (0.5 + 0.9) / 2, (0.6 + 0.8) / 2
    assert rows["baseline"] == ("60.0", "98.3", "80.0", "98.0")
    assert rows["fixed 350/750 of T"] == ("60.0", "98.8", "80.0", "97.6")


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
    plans = plan_trainings("mvtec-ad", tmp_path / "data", str(recipe), (), ("carpet",))
    said: list[str] = []
    table = run_protocol(plans, tmp_path, command="test", progress=silent, say=said.append, workers=1)
    assert [row[0] for row in table.rows] == [*PAPER, *FIXED]
    recorded = json.loads((tmp_path / "carpet-tables-6-7.json").read_text())
    figures = {row["name"]: row["figures"]["image_auroc"]["value"] for row in recorded["rows"]}
    scores = dict(
        zip(recorded["images"], next(r["scores"] for r in recorded["rows"] if r["name"] == FULL), strict=True)
    )
    good = [score for name, score in scores.items() if name.startswith("good/")]
    bad = [score for name, score in scores.items() if name.startswith("hole/")]
    assert (len(good), len(bad)) == (3, 2)
    assert figures[FULL] == pytest.approx(np.mean([(b > g) + 0.5 * (b == g) for b in bad for g in good]))
    rows = {row[0]: row[1] for row in table.rows}
    assert rows[FULL] == f"{100 * figures[FULL]:.1f}"
    said.clear()
    assert run_protocol(plans, tmp_path, command="test", progress=silent, say=said.append, workers=1) == table
    assert not [line for line in said if "training" in line]
