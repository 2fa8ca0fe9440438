"""Settings that do not hold together are refused with the value, the rule and the fix."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from glad.settings.framing import Polygon, Stretch, Tiles, Zones
from glad.settings.method import Direction, MethodSettings, StartLevel

PUBLISHED: dict[str, Any] = {"guidance": 9.0, "trigger": {"delta": 0.35}}


def test_a_delta_stays_with_the_settings_it_was_found_under() -> None:
    found = MethodSettings.model_validate(PUBLISHED).with_delta(0.4)
    assert found.trigger.delta == 0.4
    assert MethodSettings.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"guidance": 1.0}, "guidance 9.0; the settings have guidance 1.0"),
        ({"start": 500}, "start 750; the settings have start 500"),
        ({"steps": 10}, "steps 25; the settings have steps 10"),
        ({"start_level": StartLevel.T_MINUS_1}, "start_level T; the settings have start_level T-1"),
        ({"resolution": 256}, "resolution 512; the settings have resolution 256"),
        ({"schedule": {"beta_end": 0.02}}, "schedule .*; the settings have schedule .*"),
    ],
)
def test_a_delta_of_another_guidance_or_grid_is_refused(change: dict[str, Any], told: str) -> None:
    found = MethodSettings.model_validate(PUBLISHED).with_delta(0.4)
    with pytest.raises(ValidationError, match=f"delta 0.4 was calibrated for {told}.*find a new delta"):
        found.changed(**change)


@pytest.mark.parametrize(
    "change", [{"layer": 9}, {"direction": Direction.MEAN}, {"window": 2}, {"imagenet_normalise": True}]
)
def test_a_delta_of_another_comparator_is_refused(change: dict[str, Any]) -> None:
    found = MethodSettings.model_validate(PUBLISHED).with_delta(0.4)
    with pytest.raises(ValidationError, match=f"was calibrated for {next(iter(change))} "):
        found.changed(trigger={**found.trigger.model_dump(), **change})


def test_what_delta_does_not_depend_on_may_change() -> None:
    found = MethodSettings.model_validate(PUBLISHED).with_delta(0.4)
    assert found.changed(t_min=200, noise_seed=7).trigger.delta == 0.4


def test_a_delta_that_does_not_say_what_it_was_found_under_is_taken_as_given() -> None:
    assert MethodSettings.model_validate(PUBLISHED).changed(guidance=1.0).guidance == 1.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"t_min": 800}, "t_min is 800, start .T. is 750"),
        ({"start": 1200}, "start .T. is 1200; the schedule has 1000 steps"),
        ({"trigger": {"delta": -0.1}}, "greater than or equal to 0"),
        ({"guidance": 0.5}, "greater than or equal to 1"),
        ({"framing": {"kind": "tiles", "side": 512, "overlap": 300}}, "overlap is 300, a tile's side 512"),
        ({"framing": {"kind": "circle"}}, "letterbox.*stretch.*tiles"),
    ],
)
def test_settings_that_do_not_hold_together_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        MethodSettings.model_validate({**PUBLISHED, **change})


def test_framing_and_zones_survive_the_manifest() -> None:
    mask = io.BytesIO()
    Image.new("L", (4, 4), 255).save(mask, "PNG")
    zones = Zones(
        ignore=(Polygon(points=((0, 0), (0.5, 0), (0, 0.5))),),
        ignore_mask=base64.b64encode(mask.getvalue()).decode(),
    )
    for framing in (Stretch(via=256), Tiles(side=512, overlap=64)):
        stored = MethodSettings.model_validate({**PUBLISHED, "framing": framing, "zones": zones})
        assert MethodSettings.model_validate_json(stored.model_dump_json()) == stored
    assert zones.ignore_png == mask.getvalue()
    assert not zones.everywhere


@pytest.mark.parametrize(("value", "told"), [("no base64!", "not base64"), ("aGVsbG8=", "not the base64 of a PNG")])
def test_an_ignore_mask_that_is_no_png_is_refused(value: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Zones(ignore_mask=value)


def test_a_polygon_outside_the_image_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Polygon(points=((0, 0), (640, 0), (0, 480)))
