"""The share that is found is counted by kind, contrast and size; bounds and sizes are those that can be worked out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_store.bundle import open_bundle
from tests.support.tiny_bundle import make_tiny_bundle
from training.progress import silent
from training.sensitivity.choosing import CONTRASTS, ChosenAnomaly, WantedAnomalies, choose_anomalies
from training.sensitivity.measure import (
    FoundCount,
    Sensitivity,
    TriedAnomaly,
    line_of,
    measure_sensitivity,
    size_found,
)
from training.sensitivity.planting import AnomalyDraw, AnomalyMeasures
from training.sensitivity.plot import sensitivity_plot
from training.sensitivity.words import as_json, as_record, as_table, explanation, sentence, sentences, size_table
from training.synthesis.anomalies import KINDS
from training.synthesis.overlays import COMPUTED
from training.synthesis_recipe import SensitivityRecipe, SynthesisRecipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny"), resolution=32, steps=2, t_min=100)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Three noisy grey pictures of 48 x 40: 48 become 32."""
    folder, rng = tmp_path_factory.mktemp("good"), np.random.Generator(np.random.Philox(0))
    for number in range(3):
        levels = np.clip(rng.normal(128, 8, (40, 48, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(np.repeat(levels, 3, axis=-1)).save(folder / f"{number}.png")
    return tuple(sorted(folder.iterdir()))


def measured(bundle: Path, images: tuple[Path, ...], fail: float, **recipe: object) -> Sensitivity:
    """What a bundle finds at a threshold, of two kinds."""
    given = {"per_cell": 2, "kinds": ("spot", "missing"), **recipe}
    return measure_sensitivity(
        bundle, open_bundle(bundle).manifest.settings, fail, images, recipe=SensitivityRecipe.model_validate(given),
        synthesis=SynthesisRecipe(pairs=8), seed=3, progress=silent, workers=1,
    )  # fmt: skip


def test_everything_is_found_below_every_score_and_nothing_above(bundle: Path, images: tuple[Path, ...]) -> None:
    all_found, none_found = (measured(bundle, images, fail) for fail in (1e-9, 1e9))
    for found, expected in ((all_found, 1.0), (none_found, 0.0)):
        assert {line.all.share for line in found.lines if line.all.anomalies} == {expected}
        assert found.good.share == expected
    assert [one.chosen for one in all_found.tried] == [one.chosen for one in none_found.tried]
    assert {line.from_px for line in none_found.lines} == {None}
    assert all_found.learnt == frozenset(KINDS[:6])  # the default recipe has no flaws


def test_a_limit_of_time_takes_from_all_cells_alike(bundle: Path, images: tuple[Path, ...]) -> None:
    whole, short = measured(bundle, images, 1.0), measured(bundle, images, 1.0, seconds=1e-9)
    assert len(whole.tried) == whole.chosen > len(short.tried) == 1
    assert short.tried[0].chosen == whole.tried[0].chosen
    first_round = [one.chosen for one in whole.tried]
    cells = [(one.draw.kind, one.contrast, one.size_class) for one in first_round]
    once = len(set(cells))
    assert len(set(cells[:once])) == once  # one of each cell comes before a second of any
    assert f"1 anomaly of {short.chosen}, for which the time was too short" in explanation(short)


def test_the_same_seed_chooses_the_same_anomalies_and_another_seed_others(
    bundle: Path, images: tuple[Path, ...]
) -> None:
    settings = open_bundle(bundle).manifest.settings
    one, same, other = (WantedAnomalies(images, settings, ("paste",), 1, seed, COMPUTED) for seed in (5, 5, 6))
    chosen = choose_anomalies(one, one.size_edges(), workers=1)
    assert choose_anomalies(same, one.size_edges(), workers=1) == chosen
    assert choose_anomalies(other, one.size_edges(), workers=1) != chosen


def test_chosen_anomalies_lie_in_their_cells_on_several_images(bundle: Path, images: tuple[Path, ...]) -> None:
    settings = open_bundle(bundle).manifest.settings
    wanted = WantedAnomalies(images, settings, ("paste",), 3, 5, COMPUTED)
    edges = wanted.size_edges()
    assert edges == (2.2, 4.5, 9.0, 18.0, 36.0, 72.0)  # 1.5, 3 ... model pixels, each 1.5 of the original, two digits
    chosen = choose_anomalies(wanted, edges, workers=1)
    for one in chosen:
        low, high = CONTRASTS[one.contrast]
        assert low <= one.measures.contrast < high
        assert edges[one.size_class] <= one.size_px < (*edges, np.inf)[one.size_class + 1]
    assert {one.path for one in chosen} == set(images)


def test_lower_bounds_are_those_of_clopper_and_pearson() -> None:
    # All of n found: the bound p has p^n = 0.05. None found: 0. 1 of n: 1 - (1 - p)^n = 0.05.
    assert FoundCount(10, 10).at_least == pytest.approx(0.05 ** (1 / 10))
    assert FoundCount(10, 0).at_least == 0
    assert FoundCount(10, 1).at_least == pytest.approx(1 - 0.95 ** (1 / 10))
    assert FoundCount(0, 0).at_least == 0


@pytest.mark.parametrize(
    ("found", "size"),
    [
        ("000000111111", 7.0),  # sizes 1 ... 12: all from 7 on
        ("000101111111", 6.0),  # the 1 at 4 and the 0 at 5 are one block of a half: 90 % begin behind it
        ("000000111110", None),  # the block 1 1 1 1 1 0 is 5/6
        ("011111111110", 2.0),  # from 2 on ten of eleven
        ("000000000111", None),  # too few to say so
        ("111111111111", 1.0),
    ],
)  # fmt: skip
def test_the_size_from_which_nine_of_ten_are_found_is_read_off_a_rising_curve(found: str, size: float | None) -> None:
    sizes = np.arange(1.0, 13.0)
    shuffle = np.random.Generator(np.random.Philox(1)).permutation(12)  # the order in which they come is nothing to it
    flags = np.array([letter == "1" for letter in found])
    assert size_found(list(sizes[shuffle]), list(flags[shuffle])) == size


def tried(kind: str, contrast: str, sizes: list[float], found: list[bool]) -> list[TriedAnomaly]:
    """Anomalies of these sizes, in classes of 10 px."""
    return [
        TriedAnomaly(
            ChosenAnomaly(
                AnomalyDraw(kind, (number,), 1.0), Path("a/b.png"), contrast, 20.0, int(size // 10),
                AnomalyMeasures(size, 20.0),
            ),
            1.0 if hit else 0.0,
            hit,
        )
        for number, (size, hit) in enumerate(zip(sizes, found, strict=True))
    ]  # fmt: skip


def sensitivity() -> Sensitivity:
    """Strokes are found from 12 px on, spots never."""
    strokes = tried("stroke", "medium", [4, 8, 12, 14, 16, 18, 22, 24], [False] * 2 + [True] * 6)
    spots = tried("spot", "medium", [4, 8, 12, 22, 24, 26], [False] * 5 + [True])
    both = (*strokes, *spots)
    lines = tuple(line_of(kind, contrast, both, 3) for kind in ("stroke", "spot") for contrast in CONTRASTS)
    return Sensitivity(lines, (1.0, 10.0, 20.0), both, 20, FoundCount(10, 1), 0.5, 0, frozenset({"stroke"}))


def test_a_sentence_says_from_which_size_on_and_how_sure_that_is() -> None:
    found = sensitivity()
    # Six of six: 0.05^(1/6) = 0.607.
    assert sentences(found) == (
        "stroke of medium contrast: 90 % found from about 12 px of length of your originals on (6 of 6 that large; "
        "with 95 % confidence at least 61 %).",
        "spot of medium contrast (not trained on): at no size 90 % are found; of the largest ones 1 of 3.",
    )
    few = line_of("chip", "faint", tried("chip", "faint", [12.0], [True]), 2)
    assert sentence(few) == (
        "chip of faint contrast: 1 of 1 found; that is too few to say from which size on 90 % are (at least 6 are "
        "needed)."
    )
    area = line_of("chip", "strong", tried("chip", "strong", list(map(float, range(11, 19))), [True] * 8), 2)
    assert sentence(area).startswith("chip of strong contrast: 90 % found from about 11 × 11 px of your originals on")


def test_table_record_and_picture_say_the_same() -> None:
    found = sensitivity()
    assert as_table(found).rows == (
        ("stroke", "yes", "–", "12 px long", "–"),
        ("spot", "no", "–", "(1 of 6)", "–"),
    )
    assert size_table(found).rows[1] == ("medium", "0 % of 4", "80 % of 5", "60 % of 5")  # strokes and spots together
    record = as_record(found, "10 images of calibration/good")
    (stroke, spot) = record["lines"]
    assert (stroke["from_px"], stroke["beyond"]) == (12.0, {"anomalies": 6, "found": 6, "at_least": 0.607})
    assert stroke["by_size"] == {"1–10 px": "0 of 2", "10–20 px": "4 of 4", "from 20 px": "2 of 2"}
    assert (spot["from_px"], spot["trained_on"]) == (None, False)
    assert (record["anomalies"], record["chosen"], record["good_that_fail"]) == (14, 20, 1)
    assert len(as_json(found, "")["tried"]) == 14
    assert sensitivity_plot(found).startswith(b"\x89PNG")


def test_an_unknown_kind_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="no kind of anomaly is called 'scratch': choose of texture, shuffle"):
        SensitivityRecipe(kinds=("scratch",))
