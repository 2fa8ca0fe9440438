"""What a report makes of a run's curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.report.contents import LossCurve, TrainingReport, report_warnings
from training.report.page import in_hours
from training.report.run_records import POINTS, machine_in_words, read_curves


def _write(run: Path, stage: str, losses: list[float]) -> None:
    (run / "curves").mkdir(exist_ok=True)
    lines = [f"{step},{loss},0.001,{10 + step % 3},1000" for step, loss in enumerate(losses)]
    header = "step,loss,learning_rate,images_per_s,memory_bytes"
    (run / "curves" / f"{stage}.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")


def test_a_short_curve_is_shown_as_it_is(tmp_path: Path) -> None:
    _write(tmp_path, "unet", [3.0, 2.0, 1.0])
    assert read_curves(tmp_path) == (LossCurve(stage="unet", steps=(0, 1, 2), loss=(3.0, 2.0, 1.0), images_per_s=11),)


def test_a_long_curve_is_thinned_to_means_and_keeps_its_last_step(tmp_path: Path) -> None:
    _write(tmp_path, "unet", [float(step) for step in range(1000)])
    (curve,) = read_curves(tmp_path)
    assert len(curve.steps) == POINTS == 200  # 5 steps each
    assert (curve.steps[0], curve.loss[0]) == (4, 2.0)  # the mean of 0 ... 4
    assert (curve.steps[-1], curve.loss[-1]) == (999, 997.0)


def test_curves_stand_in_the_order_in_which_their_stages_began(tmp_path: Path) -> None:
    for stage in ("autoencoder", "features", "unet"):
        _write(tmp_path, stage, [1.0])
    begun = ", ".join(f'{{"name": "{stage}", "begun": ""}}' for stage in ("unet", "autoencoder"))
    (tmp_path / "stages.json").write_text(f"[{begun}]", encoding="utf-8")
    assert [curve.stage for curve in read_curves(tmp_path)] == ["unet", "autoencoder", "features"]


@pytest.mark.parametrize(
    ("losses", "warned"), [([2.0] * 40, True), ([2.0] * 36 + [1.9] * 4, False), ([1.0, 2.0], False)]
)
def test_a_loss_that_does_not_fall_is_warned_of(losses: list[float], warned: bool, pixel_free: TrainingReport) -> None:
    curve = LossCurve(stage="unet", steps=tuple(range(len(losses))), loss=tuple(losses))
    told = report_warnings(pixel_free.model_copy(update={"curves": (curve,)}), ("too dark",))
    assert told[0] == "too dark"
    assert any("the loss of stage unet did not fall" in one for one in told) is warned


@pytest.fixture
def pixel_free() -> TrainingReport:
    """A report that says next to nothing."""
    return TrainingReport.model_validate(
        {
            "product": "part",
            "version": "1",
            "made_at": "2026-11-29T12:00:00Z",
            "machine": "",
            "command": "",
            "recipe": {},
            "seed": 0,
            "software": {},
            "data": {},
            "resolution": 32,
            "framing": "letterbox",
        }
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(2.34, "2.3 s"), (59.4, "59 s"), (432, "7 min 12 s"), (7500, "2 h 5 min")]
)
def test_times_are_told_as_people_say_them(seconds: float, words: str) -> None:
    assert in_hours(seconds) == words


def test_the_machine_is_told_without_its_name() -> None:
    told = machine_in_words()
    assert "GiB" in told
    assert "core" in told
