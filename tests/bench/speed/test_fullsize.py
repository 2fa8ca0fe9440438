"""`glad bench fullsize` counts what it says it counts. What it times is nobody's test."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.speed.device_table import DevicePlan, PartRow, WholeRow, measure_device, share_of_peak
from bench.speed.fullsize import FULL, NARROW, measure_invariance, random_models
from bench.speed.fullsize_features import dinov2_size, efficientnet_size, random_feature_models
from training.progress import silent


def test_a_lane_is_the_same_in_every_batch_but_for_rounding() -> None:
    fixed, free = measure_invariance(random_models(NARROW), 64)
    assert (fixed.calls_compared, free.calls_compared) == (3 + 6, 3 + 6)
    # Not to the bit, even with one call size: the lane's row in the call moves, and kernels treat rows differently.
    for varied in (fixed, free):
        assert varied.latents < 1e-5
        assert varied.scores < 1e-4


def test_the_full_width_is_the_published_one() -> None:
    assert (FULL.unet, FULL.prompt, FULL.autoencoder) == ((320, 640, 1280, 1280), 768, (128, 256, 512, 512))
    assert FULL.features == 768


def test_backbones_have_the_sizes_that_they_are_called_after() -> None:
    """EfficientNet-B4 has 56 and 160 channels at strides 8 and 16; ViT-B a width of 768 and 7 M weights a block."""
    b4 = efficientnet_size(1.4, 1.8).make()
    assert [b4.channels(level) for level in (3, 4)] == [56, 160]
    with torch.device("meta"):
        dinov2 = dinov2_size(768, 12).make()
    assert (dinov2.levels, dinov2.channels(9), dinov2.stride(9)) == (9, 768, 14)
    assert sum(one.numel() for one in dinov2.parameters()) == pytest.approx(9 * 7.1e6 + 1.5e6, rel=0.02)


@pytest.mark.parametrize(("wanted", "side"), [(512, 504), (256, 280), (10, 56)])
def test_a_vision_transformers_side_is_whole_patches_on_an_even_grid(wanted: int, side: int) -> None:
    assert dinov2_size(768, 12).side(wanted) == side


def test_random_models_find_every_image_clear_unless_all_walk() -> None:
    made = random_feature_models(efficientnet_size(0.5, 0.5), 64, torch.float32, "cpu")
    assert made.settings.doubtful is not None
    assert not made.settings.doubtful.contains(1.0)
    assert made.settings.where_all_walk.doubtful is None
    assert set(made.parameters) == {"backbone", "unet", "decoder"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command prints and keeps at a small width."""
    file = tmp_path_factory.mktemp("fullsize") / "figures.json"
    words = ["fullsize", "--narrow", "--side", "64", "--batch", "1,2", "--device", "cpu", "--rounds", "1"]
    done = CliRunner().invoke(cli.app, [*words, "--json", str(file)])
    assert done.exit_code == 0, done.output
    return done.output, json.loads(file.read_text(encoding="utf-8"))["figures"]


def test_every_part_is_measured_in_every_batch_with_its_work(told: tuple[str, dict[str, Any]]) -> None:
    rows = [PartRow(**row) for row in told[1]["parts"]]
    pixel = {(row.part, row.batch) for row in rows if row.models.startswith("Stable Diffusion")}
    assert {part for part, _ in pixel} >= {"encoder", "decoder", "unet"}
    assert {batch for _, batch in pixel} == {1, 2}
    for name in ("EfficientNet-B4's size", "DINOv2-B's size"):
        assert {row.part for row in rows if row.models == name} == {"backbone", "decoder", "unet"}
    for one in (row for row in rows if row.batch == 1):
        (two,) = (row for row in rows if (row.models, row.part, row.batch) == (one.models, one.part, 2))
        assert two.tflop == pytest.approx(2 * one.tflop, rel=0.01)
        assert one.tflop > 0
        assert share_of_peak(one, 1.0) == pytest.approx(one.tflop / one.ms * 1e3)


def test_a_convolutions_work_is_counted_as_it_is(told: tuple[str, dict[str, Any]]) -> None:
    """The decoder's work is most of what its convolutions take: two operations for each weight at each place."""
    (row,) = (one for one in told[1]["parts"] if (one["models"], one["part"], one["batch"]) == SMALL_DECODER)
    made = random_feature_models(efficientnet_size(0.5, 0.5), 64, torch.float32, "cpu")
    decoder, work = made.models.decoder, 0.0

    def count(module: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal work
        work += 2 * module.weight.numel() * output.shape[-1] * output.shape[-2]  # type: ignore[operator]

    for module in decoder.module.decoder.modules():  # type: ignore[attr-defined]
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    decoder.decode(torch.zeros(1, made.models.space.channels, 8, 8))
    assert row["tflop"] * 1e12 == pytest.approx(work, rel=0.01)


SMALL_DECODER = ("EfficientNet-B4's size", "decoder", 1)


def test_whole_images_go_every_way(told: tuple[str, dict[str, Any]]) -> None:
    output, figures = told
    rows = [WholeRow(**row) for row in figures["whole"]]
    ways = {(row.models.split("'")[0], row.way, row.images) for row in rows}
    small = {
        (name, way, count) for name in ("EfficientNet-B4", "DINOv2-B") for way in ("clear", "walks") for count in (1, 2)
    }
    assert ways == small | {("Stable Diffusion 1.5, ViT-B/8", "walks", count) for count in (1, 2)}
    assert all(row.images_per_s == pytest.approx(1e3 * row.images / row.p50_ms) for row in rows)
    assert figures["left_out"] == []
    assert "TFLOP/s" in output


def test_what_there_is_no_time_for_is_named() -> None:
    small = {"small": efficientnet_size(0.5, 0.5)}
    found = measure_device(DevicePlan((64,), (1,), ("float32",), "cpu", NARROW, small, minutes=0), silent)
    assert (found.parts, found.whole) == ((), ())
    assert found.left_out == ("pixel form, 64², float32: no time", "small, 64², float32: no time")
