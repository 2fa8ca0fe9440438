"""EfficientNet-Lite in the words of `efficientnet_lite_pytorch`, the package that the published weights come with.

    python -m tests.support.efficientnet_reference      prints the golden of tests/model_store/backbones

The package is an implementation of its own, so it is a second witness of stages, padding and normalisation.
"""

from __future__ import annotations

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from model_store.backbones.sources import PACKAGES, PackageSource, find_in_package

PLACES = {1: (0, 100, 31), 2: (3, 10, 40), 3: (7, 20, 5), 4: (60, 9, 3), 5: (200, 2, 6)}
"""Per level the channel, row and column of the golden, chosen where nothing is near 0."""


def picture(side: int, batch: int = 1) -> Tensor:
    """Images (B, 3, S, S) in [-1, 1] with edges, waves and colours at every scale; no random numbers."""
    places = torch.arange(side, dtype=torch.float64) / side
    y, x = places[:, None], places[None, :]
    waves = [torch.sin((3 + 5 * n) * x * (1 + y) * 3) * torch.cos((2 + 7 * n) * y * 3 - n) for n in range(3)]
    edges = ((x * 5).floor() + (y * 7).floor()) % 2 - 0.5
    one = (torch.stack(waves) * 0.6 + edges * 0.7).clamp(-1, 1).float()
    return torch.stack([one.roll(number * 11, dims=-1) * (1 - number * 0.1) for number in range(batch)])


def reference(variant: str) -> nn.Module:
    """The package's network with the published weights. Without an image size it pads as each image needs."""
    package = next(name for name, known in PACKAGES.items() if known == variant)
    file = find_in_package(PackageSource(package)).place
    model: nn.Module = EfficientNet.from_name(f"efficientnet-{variant}", image_size=None)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


@torch.no_grad()
def reference_levels(model: nn.Module, images: Tensor) -> dict[int, Tensor]:
    """Stride's level -> what the last block at that stride puts out, of images in [-1, 1]."""
    outputs = (((images + 1) / 2) * 255 - 127) / 128
    outputs = torch.nn.functional.relu6(model.get_submodule("_bn0")(model.get_submodule("_conv_stem")(outputs)))
    sides = {-(-images.shape[-1] // 2**level): level for level in range(1, 6)}
    found: dict[int, Tensor] = {}
    for block in model.get_submodule("_blocks").children():
        outputs = block(outputs)
        found[sides[outputs.shape[-1]]] = outputs
    return found


if __name__ == "__main__":
    levels = reference_levels(reference("lite0"), picture(256))
    for level, place in PLACES.items():
        print(f"    {level}: {float(levels[level][(0, *place)]):.6f},")
