"""Published weights of EfficientNet-Lite, in the names of `efficientnet_lite_pytorch`, for `EfficientNetLite`.

Every batch norm is folded into its convolution, in float64. At inference the two are one affine map; folded, a bundle
has a third as many tensors, and an exported graph has no batch norm that an engine could treat in a way of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from model_store.backbones.efficientnet_lite import (
    EfficientNetLite,
    EfficientNetLiteConfig,
    Variant,
    empty,
    filled,
)
from model_store.checkpoints import check_names, read_tensors

EPSILON = 1e-3
"""Of the batch norms, in every variant."""
CLASSES, HEAD = 1000, 1280
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_PUBLISHED = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def read_published(file: Path, variant: Variant) -> EfficientNetLite:
    """Return the network of a published checkpoint, whole, float32 and frozen.

    Args:
        file: a state dict with batch norms and classifier, `.pth` or `.safetensors`; only tensors are unpickled.
        variant: which the file holds.

    Raises:
        ImportRefused: if it does not hold exactly the weights of that variant.
    """
    tensors = read_tensors(file)
    module = empty(EfficientNetLiteConfig(variant=variant))
    check_names(tensors, _expected(module), origin=str(file), model=f"EfficientNet-{variant.capitalize()}")
    state: dict[str, Tensor] = {}
    for name, convolution, norm in _convolutions(module):
        statistics = {part: tensors[f"{norm}.{part}"] for part in _STATISTICS}
        state[f"{name}.weight"], state[f"{name}.bias"] = fold(tensors[f"{convolution}.weight"], statistics)
    return filled(module, state)


def fold(weight: Tensor, norm: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return weight and bias, float32, of the convolution that does what a convolution and its batch norm do.

    γ (w x - μ) / √(σ² + ε) + β = (s w) x + (β - s μ), with s = γ / √(σ² + ε)

    Args:
        weight: (D, C, k, k), of a convolution without bias.
        norm: weight γ, bias β, running_mean μ and running_var σ², each (D,).
    """
    gamma, beta, mean, variance = (norm[part].double() for part in _STATISTICS)
    scale = gamma / torch.sqrt(variance + EPSILON)
    # contiguous: the published weights lie as TensorFlow has them.
    return (weight.double() * scale[:, None, None, None]).float().contiguous(), (beta - scale * mean).float()


def _convolutions(module: EfficientNetLite) -> Iterator[tuple[str, str, str]]:
    """Yield each convolution's name here, and its and its batch norm's published names."""
    yield "stem", "_conv_stem", "_bn0"
    for name, part in module.blocks.named_modules():
        if isinstance(part, nn.Conv2d):
            number, _, role = name.partition(".")
            convolution, norm = _PUBLISHED[role]
            yield f"blocks.{name}", f"_blocks.{number}.{convolution}", f"_blocks.{number}.{norm}"


def _expected(module: EfficientNetLite) -> dict[str, torch.Size]:
    """Return the published names and shapes, those of the classifier included."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    expected: dict[str, torch.Size] = {}
    for name, convolution, norm in _convolutions(module):
        expected[f"{convolution}.weight"] = shapes[f"{name}.weight"]
        expected |= _norm_shapes(norm, shapes[f"{name}.bias"])
    last = module.shapes[-1].outputs
    expected["_conv_head.weight"] = torch.Size((HEAD, last, 1, 1))
    expected |= _norm_shapes("_bn1", torch.Size((HEAD,)))
    return expected | {"_fc.weight": torch.Size((CLASSES, HEAD)), "_fc.bias": torch.Size((CLASSES,))}


def _norm_shapes(norm: str, channels: torch.Size) -> dict[str, torch.Size]:
    counter = {f"{norm}.num_batches_tracked": torch.Size(())}
    return {f"{norm}.{part}": channels for part in _STATISTICS} | counter
