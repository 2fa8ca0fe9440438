"""Settings from a file lie over a bundle's own, field by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glad.settings.framing import Tiles
from glad.settings.method import Foreground, MethodSettings
from training.recalibrate import apply_settings_file

BASE = MethodSettings.model_validate({"trigger": {"delta": 0.4}, "score": {"pixel_weight": 2.0}}).with_delta(0.4)


def written(folder: Path, text: str, name: str = "own.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_zones_framing_and_foreground_are_added_and_the_rest_stays(tmp_path: Path) -> None:
    text = """
    framing = { kind = "tiles", side = 512, overlap = 64 }
    score = { foreground = "dark" }
    zones.ignore = [{ points = [[0.8, 0.9], [1.0, 0.9], [1.0, 1.0], [0.8, 1.0]] }]
    """
    found = apply_settings_file(BASE, written(tmp_path, text))
    assert found.framing == Tiles(side=512, overlap=64)
    assert (found.score.foreground, found.score.pixel_weight) == (Foreground.DARK, 2.0)
    assert found.zones.ignore[0].points[0] == (0.8, 0.9)
    assert found.trigger == BASE.trigger, "delta still belongs to these settings"


def test_json_says_the_same(tmp_path: Path) -> None:
    found = apply_settings_file(BASE, written(tmp_path, json.dumps({"score": {"foreground": "dark"}}), "own.json"))
    assert found.score.foreground is Foreground.DARK


def test_a_delta_that_no_longer_belongs_no_longer_says_so(tmp_path: Path) -> None:
    found = apply_settings_file(BASE, written(tmp_path, "start = 600"))
    assert (found.start, found.trigger.delta, found.trigger.calibrated_for) == (600, 0.4, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zonez = {}", "own.toml: zonez is not a known key: did you mean zones?"),
        ("start = ", "neither TOML nor"),
        ("t_min = 900", "own.toml: .*t_min is 900, start .T. is 750"),
    ],
)
def test_what_is_wrong_is_told_with_the_files_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){told}"):
        apply_settings_file(BASE, written(tmp_path, text))
