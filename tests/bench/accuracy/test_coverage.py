"""`glad bench coverage`: what it counts, by hand and against the exact law, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from bench.accuracy import coverage
from bench.accuracy.coverage import CoveragePlan, GoodPopulation, measure_coverage, read_scores
from bench.cli import app
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts


def singles(count: int, seed: int = 0) -> GoodPopulation:
    scores = np.random.Generator(np.random.Philox(seed)).lognormal(size=count)
    return GoodPopulation(tuple(scores.tolist()), tuple(map(str, range(count))))


def exposures(parts: int, seed: int = 0) -> GoodPopulation:
    """One to five photographs a part, nearly alike."""
    rng = np.random.Generator(np.random.Philox(seed))
    part_of = np.repeat(np.arange(parts), rng.integers(1, 6, parts))
    scores = rng.lognormal(size=parts)[part_of] * np.exp(0.05 * rng.normal(size=len(part_of)))
    return GoodPopulation(tuple(scores.tolist()), tuple(map(str, part_of)))


def test_single_images_follow_the_exact_law() -> None:
    rows = measure_coverage(singles(1000), CoveragePlan(sizes=(50, 300), draws=200))
    assert [(row.rule, row.images, row.parts) for row in rows] == [
        ("on average", 50, 50), ("with confidence", 50, 50), ("on average", 300, 300), ("with confidence", 300, 300)
    ]  # fmt: skip
    assert [row.can_promise for row in rows] == [True, False, True, True]  # 49 are needed, and 149
    for row in rows:
        assert row.kept_by_law is not None
        low, high = binom.interval(0.999, 200, row.kept_by_law)  # each draw keeps it with that chance
        assert low <= 200 * row.kept <= high
        assert row.low <= row.mean <= row.high
    # Ranks 295 and 299 of 300: 6 / 301 and 2 / 301 of the others lie above in the mean; 200 draws know it to 0.0006.
    assert rows[2].mean == pytest.approx(6 / 301, abs=0.0024)
    assert rows[3].mean == pytest.approx(2 / 301, abs=0.0024)


def test_parts_with_several_photographs_are_drawn_whole_and_compared_with_other_rules() -> None:
    population = exposures(500)
    rows = {row.rule: row for row in measure_coverage(population, CoveragePlan(sizes=(100,), draws=60, quantile=0.9))}
    assert len(rows) == 5
    ours, taken = rows["with confidence"], rows["with confidence, images taken for parts"]
    assert ours.parts == pytest.approx(100 / 3, rel=0.1)  # three photographs a part in the mean
    assert ours.can_promise
    assert ours.kept_by_law is None
    assert ours.kept > taken.kept
    assert rows["with confidence, largest of each part"].mean <= ours.mean


def test_each_part_counts_alike_in_the_false_rejects() -> None:
    # Two photographs of part a, one above 2; one each of b and c, c's above: (1/2 + 0 + 1) / 3. Part d calibrates.
    population = GoodPopulation((3.0, 1.0, 1.0, 3.0, 2.0), ("a", "a", "b", "c", "d"))
    rule = coverage.RULES[0]
    drawn = np.array([False, False, False, False, True])
    assert coverage._false_rejects(population, drawn, rule, CoveragePlan()) == pytest.approx(0.5)


def test_sizes_that_leave_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--sizes is 300, and there are 320 scores: .* leave at least 50 images"):
        measure_coverage(singles(320), CoveragePlan(sizes=(300,)))


def test_scores_of_reports_and_of_tables_are_read_with_their_parts(tmp_path: Path) -> None:
    rows = [
        {"score": 1.5, "defect": "good", "group": "p1"},
        {"score": 9.0, "defect": "hole", "group": "p2"},
        {"score": 2.5, "defect": "good", "group": ""},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    (tmp_path / "b.csv").write_text("score,part_group\n3.5,p1\n4.5,p1\n", encoding="utf-8")
    found = read_scores([tmp_path / "a.json", tmp_path / "b.csv"])
    assert found.scores == (1.5, 2.5, 3.5, 4.5)
    assert found.parts == 3  # p1 of one file is another part than p1 of the other


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "{}", "a.json is no report of `glad evaluate --json`"),
        ("a.json", '{"rows": []}', "a.json has no good image"),
        ("a.json", '{"rows": [{"score": NaN, "defect": "good"}]}', "score of good image 1 is nan"),
        ("a.csv", "value\n1\n", r"a.csv has columns \['value'\]; it needs `score`"),
        ("a.csv", "score\nx\n", "line 2 of .*a.csv has a score that is no number"),
    ],
)
def test_a_file_without_usable_scores_is_named(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        read_scores([tmp_path / name])


def test_the_command_shows_a_table_and_keeps_the_figures(tmp_path: Path) -> None:
    scores = "\n".join(["score", *map(str, singles(400).scores)])
    (tmp_path / "good.csv").write_text(scores + "\n", encoding="utf-8")
    words = ["coverage", "--scores", tmp_path / "good.csv", "--sizes", "50,100", "--draws", "20"]
    done = CliRunner().invoke(app, [*map(str, words), "--json", str(tmp_path / "figures.json")])
    assert done.exit_code == 0, done.output
    assert re.search(r"\| 50 \| 50 \| with confidence \| no \|", done.output)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["figures"]
    assert (figures["images"], figures["parts"], len(figures["rows"])) == (400, 400, 4)


def test_images_are_inspected_where_there_are_no_scores_yet(tmp_path: Path) -> None:
    bundle, data = make_tiny_bundle(tmp_path / "store"), draw_parts(tmp_path / "parts")
    words = ["coverage", "--bundle", bundle, "--data", data, "--sizes", "1", "--draws", "3", "--quantile", "0.5"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output  # of 3 good test images 1 calibrates, and 2 are counted on
    assert "| 1 | 1 | on average | yes |" in done.output


def test_the_command_needs_scores_or_a_bundle_with_images() -> None:
    done = CliRunner().invoke(app, ["coverage", "--bundle", "bracket"])
    assert done.exit_code == 1
    assert "give either --scores, or both --bundle and --data" in done.output
