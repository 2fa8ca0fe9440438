"""EfficientNet-Lite says what the reference package says, level by level, whole or cut, in torch and in ONNX."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from model_store.backbones.efficientnet_checkpoint import fold
from model_store.backbones.efficientnet_lite import EfficientNetLite, block_shapes
from model_store.backbones.loading import load_backbone, save_backbone
from model_store.pretrained import round_to_stored_precision
from tests.support.efficientnet_reference import PLACES, picture, reference, reference_levels
from training.export.onnx import Piece, write_onnx

GOLDEN = {
    1: 1.221726,
    2: 1.870842,
    3: -7.779732,
    4: 1.941908,
    5: -2.014759,
}
"""Of the reference package, not of ours; made by `python -m tests.support.efficientnet_reference`, torch 2.13.0+cpu."""

EVERY = (1, 2, 3, 4, 5)


# Even sides pad the right and the bottom only; from 100 px on down, sides are odd at several strides: 25, 13, 7.
@pytest.mark.parametrize("side", [256, 100])
def test_every_level_is_the_reference_packages(lite0: EfficientNetLite, side: int) -> None:
    images = picture(side, batch=2)
    expected = reference_levels(reference("lite0"), images)
    for level, features in zip(EVERY, lite0(images, EVERY), strict=True):
        assert features.shape == (2, lite0.channels(level), *[-(-side // lite0.stride(level))] * 2)
        # 2e-5 of a level's spread was seen: a folded batch norm rounds once where the reference rounds three times.
        spread = float(expected[level].std())
        torch.testing.assert_close(features, expected[level], atol=1e-4 * spread, rtol=0)


def test_activations_are_the_recorded_ones(lite0: EfficientNetLite) -> None:
    levels = lite0(picture(256), EVERY)
    found = {level: float(levels[level - 1][(0, *place)]) for level, place in PLACES.items()}
    assert found == pytest.approx(GOLDEN, abs=1e-3)


@pytest.mark.parametrize(
    ("variant", "channels"), [("lite0", (16, 24, 40, 112, 320)), ("lite2", (16, 24, 48, 120, 352))]
)
def test_a_level_is_the_last_stage_of_its_stride(variant: str, channels: tuple[int, ...]) -> None:
    # Lite2 is 1.1 times as wide, to the nearest 8: 26.4 -> 24, 44 -> 48 (44 lies between; half goes up), 123.2 -> 120.
    shapes = block_shapes(variant)  # type: ignore[arg-type]
    assert (
        tuple(max((n, s.outputs) for n, s in enumerate(shapes) if s.level == level)[1] for level in EVERY) == channels
    )


def test_a_deeper_variant_repeats_its_middle_stages() -> None:
    # Lite1 is 1.1 times as deep, rounded up: 1, 2, 2, 3, 3, 4, 1 blocks become 1, 3, 3, 4, 4, 5, 1; the ends stay.
    assert (len(block_shapes("lite0")), len(block_shapes("lite1"))) == (16, 21)


def test_a_folded_batch_norm_is_the_batch_norm() -> None:
    # One channel, by hand: γ 2, β 1, μ 3, σ² 0.249 and ε 0.001 give s = 2 / √0.25 = 4; bias 1 - 4 · 3 = -11.
    norm = {"weight": 2.0, "bias": 1.0, "running_mean": 3.0, "running_var": 0.249}
    weight, bias = fold(torch.full((1, 1, 1, 1), 0.5), {name: torch.tensor([value]) for name, value in norm.items()})
    assert weight.item() == pytest.approx(2.0)
    assert bias.item() == pytest.approx(-11.0)


def test_the_networks_mean_grey_is_what_its_padding_is(lite0: EfficientNetLite) -> None:
    grey = torch.full((1, 3, 8, 8), 2 * 127 / 255 - 1)
    assert lite0._normalised(grey).abs().max() < 1e-6
    assert lite0.mean == (127 / 255,) * 3
    assert lite0.std == (128 / 255,) * 3


def test_a_level_does_not_depend_on_the_others_that_are_asked_for(lite0: EfficientNetLite) -> None:
    images = picture(64)
    together = lite0(images, EVERY)
    for level in EVERY:
        assert torch.equal(lite0(images, (level,))[0], together[level - 1])


def test_nothing_beyond_the_highest_level_is_computed(lite0: EfficientNetLite) -> None:
    computed: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: computed.append(number))
        for number, block in enumerate(lite0.blocks)
    ]
    lite0(picture(64), (2, 3))
    for hook in hooks:
        hook.remove()
    assert computed == [0, 1, 2, 3, 4]  # stages of 1, 2 and 2 blocks


def test_batch_mates_change_nothing(lite0: EfficientNetLite) -> None:
    first, second, third = torch.tensor_split(picture(64, batch=3), 3)
    one, other = (lite0(torch.cat([first, mate]), (3, 4)) for mate in (second, third))
    for level, alone in enumerate(lite0(first, (3, 4))):
        assert torch.equal(one[level][:1], other[level][:1])
        # In a call of another size other kernels may run, which sum in another order.
        torch.testing.assert_close(one[level][:1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("levels", [(), (0,), (6,), (3, 2), (2, 2)])
def test_levels_that_are_not_there_or_do_not_ascend_are_refused(lite0: EfficientNetLite, levels: Sequence[int]) -> None:
    with pytest.raises(
        ValueError, match=r"levels 1 \.\.\. 5: name at least one of them, each once, in ascending order"
    ):
        lite0(picture(32), levels)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32)])
def test_images_of_another_shape_are_refused(lite0: EfficientNetLite, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a backbone takes \(B, 3, H, W\)"):
        lite0(torch.zeros(shape), (1,))


def test_features_are_contiguous_float32_and_its_weights_take_no_gradient(lite0: EfficientNetLite) -> None:
    for features in lite0(picture(32), EVERY):
        assert (features.dtype, features.is_contiguous(), features.requires_grad) == (torch.float32, True, False)
    assert not lite0.training


def test_cut_after_a_level_it_gives_the_same_up_to_there(lite0: EfficientNetLite) -> None:
    shorter = lite0.cut(3)
    assert shorter.levels == 3
    assert all(map(torch.equal, shorter(picture(64), (1, 3)), lite0(picture(64), (1, 3))))
    with pytest.raises(ValueError, match=r"levels 1 \.\.\. 3"):
        shorter(picture(64), (4,))
    with pytest.raises(ValueError, match=r"levels 1 \.\.\. 5"):
        lite0.cut(6)
    assert lite0.levels == 5


def test_saved_up_to_stride_16_it_is_1_4_mb_and_comes_back_to_the_bit(lite0: EfficientNetLite, tmp_path: Path) -> None:
    rounded = copy.deepcopy(lite0)
    round_to_stored_precision(rounded)
    source = save_backbone(lite0, tmp_path / "saved", licence="Apache-2.0", up_to=4)
    assert (source.kind, source.dtype) == ("efficientnet_lite", "float16")
    # Weights and biases of the stem and blocks 0 to 10 are counted here, two bytes each; the header is a few KB.
    counted = sum(
        tensor.numel()
        for name, tensor in lite0.state_dict().items()
        if name.startswith("stem") or int(name.split(".")[1]) <= 10
    )
    size = (source.folder / "model.safetensors").stat().st_size
    assert 2 * counted < size < 2 * counted + 10_000
    assert 1_300_000 < size < 1_400_000
    again = load_backbone(str(source.folder), licence="Apache-2.0")
    assert all(map(torch.equal, again.backbone(picture(64), (2, 3, 4)), rounded(picture(64), (2, 3, 4))))


def test_equal_backbones_have_equal_bytes(lite0: EfficientNetLite, tmp_path: Path) -> None:
    one, other = (save_backbone(lite0, tmp_path / name, licence="x", up_to=2).folder for name in ("one", "other"))
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes()


class _Taps(nn.Module):
    def __init__(self, backbone: EfficientNetLite) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images, (2, 3, 4)))


def test_onnx_runtime_says_the_same_at_256(lite0: EfficientNetLite, tmp_path: Path) -> None:
    file = tmp_path / "backbone.onnx"
    names = ("level_2", "level_3", "level_4")
    write_onnx(Piece(_Taps(lite0.cut(4)), {"images": torch.zeros(2, 3, 256, 256)}, names), file)
    images = picture(256, batch=3)  # another batch than the one that was traced
    outputs = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
        names, {"images": images.numpy()}
    )
    for found, expected in zip(outputs, lite0(images, (2, 3, 4)), strict=True):
        # The same float32 sums in another order.
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4 * float(expected.std()), rtol=0)
