"""The published settings: complete, typed, and bound to what they were found under."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from glad.settings.method import Direction, Foreground, MethodSettings, StartLevel
from glad.settings.presets import UnknownPreset, preset, preset_names

# The number of classes of each data set, from its own publication.
CLASSES = {"mvtec-ad": 15, "mpdd": 6, "visa": 12, "pcb-bank": 7}


@pytest.mark.parametrize(("dataset", "count"), CLASSES.items())
def test_every_class_has_a_preset_of_its_own_and_one_of_the_model_for_all(dataset: str, count: int) -> None:
    assert sum(name.startswith(f"{dataset}/") for name in preset_names()) == count
    assert sum(name.startswith(f"multi/{dataset}/") for name in preset_names()) == count


@pytest.mark.parametrize("name", preset_names())
def test_a_published_delta_is_refused_without_the_guidance_it_was_found_under(name: str) -> None:
    settings = preset(name).settings
    assert settings.guidance == 9
    with pytest.raises(ValidationError, match=r"was calibrated for guidance 9\.0"):
        settings.changed(guidance=1.0)


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_a_manifest(name: str) -> None:
    settings = preset(name).settings
    assert MethodSettings.model_validate_json(settings.model_dump_json()) == settings


def test_a_texture_of_mvtec() -> None:
    carpet = preset("mvtec-ad/carpet")
    s = carpet.settings
    assert (s.start, s.steps, s.t_min, s.trigger.delta) == (750, 25, 350, 0.32)
    assert s.grid[0] == 721  # 1 + 24 * 30
    assert s.start_step == 750
    assert (s.score.pixel_weight, s.score.resolution, s.score.foreground) == (0, None, Foreground.WHOLE)
    assert carpet.prompt == "a photo of sks"


def test_the_exceptions_of_single_classes() -> None:
    assert preset("mvtec-ad/transistor").settings.start == 850
    assert preset("mvtec-ad/capsule").settings.start == 600
    assert preset("mpdd/bracket_white").settings.start == 450
    assert preset("mpdd/bracket_white").settings.t_min == 200
    assert preset("mpdd/tubes").settings.trigger.delta == 0.1


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("mvtec-ad/transistor", Direction.SUM),
        ("visa/pcb4", Direction.SUM),
        ("pcb-bank/pcb1", Direction.SUM),
        ("multi/visa/pcb1", Direction.MEAN),
        ("visa/pcb2", Direction.INPUT),
        ("multi/mvtec-ad/screw", Direction.INPUT),
    ],
)
def test_missing_parts_are_looked_for_where_the_authors_did(name: str, direction: Direction) -> None:
    assert preset(name).settings.score.direction is direction
    assert preset(name).settings.trigger.direction is Direction.INPUT


def test_visa_starts_one_below_t_and_is_scored_at_256() -> None:
    s = preset("visa/candle").settings
    assert s.start_level is StartLevel.T_MINUS_1
    assert s.start_step == 449
    assert s.grid[0] == 1 + 14 * 30
    assert (s.score.resolution, s.score.pixel_weight) == (256, 7)


def test_a_model_of_all_classes_is_told_which_without_a_space() -> None:
    one = preset("multi/mvtec-ad/metal_nut")
    assert one.prompt == "a photo of sksmetal_nut"
    assert (one.settings.start, one.settings.trigger.delta, one.settings.score.resolution) == (650, 0.45, 256)
    assert one.settings.framing.kind == "stretch"
    assert one.settings.framing.via == 256


@pytest.mark.parametrize(
    ("name", "foreground"),
    [
        ("mvtec-ad/screw", Foreground.DARK),
        ("mpdd/bracket_brown", Foreground.DARK),
        ("mpdd/bracket_white", Foreground.BRIGHT),
        ("mvtec-ad/bottle", Foreground.WHOLE),
        ("multi/mvtec-ad/screw", Foreground.WHOLE),
    ],
)
def test_only_single_class_models_mask_the_ground_at_test(name: str, foreground: Foreground) -> None:
    assert preset(name).settings.score.foreground is foreground


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownPreset, match="did you mean mvtec-ad/metal_nut"):
        preset("mvtec/metal-nut")


@pytest.mark.parametrize(
    ("name", "foreground"),
    [
        ("mvtec-ad/bottle", Foreground.DARK),
        ("mvtec-ad/screw", Foreground.DARK),
        ("mvtec-ad/pill", Foreground.BRIGHT),
        ("mpdd/metal_plate", Foreground.DARK),
        ("mpdd/bracket_white", Foreground.BRIGHT),
        ("multi/visa/pipe_fryum", Foreground.BRIGHT),
        ("visa/pcb1", Foreground.WHOLE),
        ("mvtec-ad/carpet", Foreground.WHOLE),
    ],
)
def test_synthetic_anomalies_lie_on_the_object_of_more_classes_than_are_masked_at_test(
    name: str, foreground: Foreground
) -> None:
    assert preset(name).synthesis_foreground is foreground
