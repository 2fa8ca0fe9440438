"""What an evaluation writes: tables in the paper's form, and a page that needs no other file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_store.manifest import VerdictThresholds
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.evaluation.evaluate import evaluate
from training.evaluation.figures import measure
from training.evaluation.misses import inspect_worst, outlined, worst
from training.evaluation.plots import score_histograms
from training.evaluation.report import origin_of, page, write_report
from training.evaluation.rows import Evaluation, EvaluationRow, Located, thinned
from training.evaluation.tables import as_markdown, interval_table, notes, paper_table
from training.metrics.counts import Curve


def _row(file: str, score: float, defect: str = "good", verdict: str | None = "pass") -> EvaluationRow:
    return EvaluationRow(file, defect, None, file, score, verdict, 201, False)


def test_the_worst_are_the_lowest_defects_and_the_highest_good_ones() -> None:
    rows = [_row("g1", 0.1), _row("g2", 0.3), _row("g3", 0.2), _row("d1", 0.9, "dent"), _row("d2", 0.2, "dent")]
    assert [row.file for row in worst(rows, 2)] == ["d2", "g2"]
    assert [row.file for row in worst(rows, 3)] == ["d2", "d1", "g2"]
    assert [row.file for row in worst(rows, 9)] == ["d2", "d1", "g2", "g3", "g1"]
    assert [row.file for row in worst(rows[:3], 2)] == ["g2", "g3"]
    assert worst(rows, 0) == ()


def test_the_outline_lies_outside_the_defect() -> None:
    truth = np.zeros((9, 9), np.bool_)
    truth[4, 4] = True
    drawn = outlined(np.full((9, 9, 3), 128, np.uint8), truth)
    changed = (drawn != 128).any(2)
    assert changed.sum() == 8  # the ring around one pixel
    assert not changed[4, 4]
    assert set(np.unique(drawn[changed])) == {0, 255}


def test_false_rejects_have_one_interval_and_it_counts_each_part_once() -> None:
    rows = [replace(_row(f"{part}{n}", 0.1), group=part) for part in "ab" for n in range(30)]
    found = measure(rows, [], VerdictThresholds(review=0.5, fail=1.0, pixel=1.0), lambda *_: None).figures
    assert found["false_reject_rate"] == found["found_at_its_threshold"]["false_rejects"]
    assert found["false_reject_rate"]["high"] == pytest.approx(1 - 0.025 ** (1 / 2))  # none of two parts, not of 60
    singly = [replace(row, group=row.file) for row in rows]
    alone = measure(singly, [], VerdictThresholds(review=0.5, fail=1.0, pixel=1.0), lambda *_: None).figures
    assert alone["false_reject_rate"]["high"] == pytest.approx(1 - 0.025 ** (1 / 60))


def test_figures_have_the_papers_form() -> None:
    estimate = {"value": 0.98765, "low": 0.9, "high": 1.0}
    figures = {
        "bundle": {"product": "bracket", "version": "2"},
        "images": {"good": 3, "defect": 2},
        "image": {"auroc": estimate, "ap": estimate, "f1_max": estimate},
        "pixel": dict.fromkeys(("auroc", "ap", "f1_max", "pro"), estimate)
        | {"aupimo": estimate | {"finest_rate": 1e-3}},
    }
    assert paper_table(figures).as_markdown().splitlines() == [
        "|  | bracket 2 |",
        "| --- | --- |",
        "| I-AUROC/I-AP/I-F1-max | 98.8/98.8/98.8 |",
        "| P-AUROC/P-AP/P-F1-max/PRO | 98.8/98.8/98.8/98.8 |",
        "| AUPIMO | 98.8 |",
    ]
    assert interval_table(figures).rows[0] == ("I-AUROC", "98.8", "90.0 – 100.0")
    (note,) = notes(figures)
    assert "is 1.0e-03, the lowest needed 1e-05" in note


def test_a_report_says_which_share_walked_where_some_images_did_not() -> None:
    figures = {
        "bundle": {"hash": "ab" * 32},
        "images": {"good": 4, "defect": 2},
        "measured": {"at": "today", "machine": "here", "command": ""},
    }
    of_all = {"good": {"mean": 61.0, "walked_share": 1.0}}
    some = {"good": {"mean": 15.0, "walked_share": 0.25}, "hole": {"mean": 60.0, "walked_share": 0.5}}
    assert origin_of({**figures, "denoising_step": some}) == (
        "4 good and 2 defective images, today, here. Walked: 25% of good, 50% of hole. Bundle abababababab."
    )
    assert "Walked" not in origin_of({**figures, "denoising_step": of_all})
    assert "Walked" not in origin_of(figures)  # a detector that never walks, such as the yardstick


def test_the_share_that_walked_counts_the_images_with_a_denoising_step() -> None:
    rows = [_row("a", 0.1), replace(_row("b", 0.2), denoising_step=0)]
    found = measure(rows, [], None, lambda done, total: None).figures["denoising_step"]
    assert found == {"good": {"mean": 100.5, "triggered_share": 0.0, "walked_share": 0.5}}


def test_without_thresholds_nothing_speaks_of_verdicts() -> None:
    rows = [_row(f"g{i}", i / 10, verdict=None) for i in range(3)] + [_row("d", 0.9, "dent", verdict=None)]
    truth = np.eye(6, dtype=np.bool_)
    maps = [np.zeros((6, 6), np.float16)] * 3 + [truth.astype(np.float16)]
    located = [Located(i, m, truth if i == 3 else np.zeros_like(truth)) for i, m in enumerate(maps)]
    found = measure(rows, located, None, lambda done, total: None)
    assert not {"verdicts", "false_reject_rate", "thresholds"} & set(found.figures)
    assert "failed" not in found.figures["by_defect"][0]
    named = {**found.figures, "bundle": {"product": "p", "version": "1", "hash": "0" * 64}}
    named["measured"] = {"command": "", "at": "now", "machine": "here"}
    text = page(Evaluation(named, found.rows, found.curves), (), None)
    assert "The bundle has no thresholds" in text
    assert "false reject" not in as_markdown(named)
    assert found.figures["pixel"]["pro"]["value"] == pytest.approx(1)


def test_a_thinned_curve_keeps_its_ends_and_its_shape() -> None:
    rates = np.linspace(0, 1, 50_001)
    found = thinned(Curve(rates, rates**0.1))
    assert len(found.false_positive_rate) <= 1000
    assert (found.false_positive_rate[0], found.false_positive_rate[-1]) == (0, 1)
    between = np.interp(rates, found.false_positive_rate, found.true_positive_rate)
    assert np.abs(between - rates**0.1).max() < 0.4  # the first step of the curve itself is 0.34
    assert np.trapezoid(between, rates) == pytest.approx(1 / 1.1, abs=2e-3)


def test_an_evaluation_writes_a_page_that_needs_no_other_file(tmp_path: Path) -> None:
    data, bundle = draw_parts(tmp_path / "ramp"), make_tiny_bundle(tmp_path / "store", resolution=64)
    found = evaluate(bundle, data, workers=1)
    misses = inspect_worst(bundle, data, found.rows, 3, workers=1)
    assert [miss.row.defect for miss in misses] == ["hole", "hole", "good"]
    (tmp_path / "e.html").mkdir()  # what cannot be written ends the call
    with pytest.raises(IsADirectoryError):
        write_report(found, misses, None, tmp_path / "e.json")
    assert not (tmp_path / "e.json").exists(), "it means that the report is whole"
    (tmp_path / "e.html").rmdir()
    files = write_report(found, misses, None, tmp_path / "e.json")
    text = files.page.read_text(encoding="utf-8")
    assert text.count('src="data:image/') == text.count("<img") == 2 + 3
    assert "http" not in text.replace("http-equiv", "")
    for miss in misses:
        assert f"{miss.row.file}</b> score {miss.row.score:.4f}" in text
    assert "| I-AUROC/I-AP/I-F1-max |" in files.markdown.read_text(encoding="utf-8")
    assert len(json.loads(files.json.read_text(encoding="utf-8"))["rows"]) == 5


def test_histograms_are_drawn_for_good_images_alone_and_for_equal_scores() -> None:
    assert score_histograms([_row("g", 0.5), _row("h", 0.5)], None).startswith(b"\x89PNG")
