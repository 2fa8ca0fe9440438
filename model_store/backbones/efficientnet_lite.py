"""EfficientNet-Lite0 to Lite2 as feature extractors (Google, 2020; weights under Apache-2.0).

MobileNetV2's inverted residuals, without squeeze-and-excitation, with ReLU6, and with TensorFlow's padding: at stride 2
it is wider on the right and below. Only the width and depth of the middle stages grow from Lite0 to Lite2. The
classifier is left away, and each batch norm is folded into the convolution before it (`efficientnet_checkpoint`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field, PositiveFloat
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from glad.settings import Frozen
from model_store.backbones.base import Colours, FrozenBackbone, freeze
from model_store.checkpoints import ImportRefused, check_names
from model_store.manifest import CONFIG_NAME, WEIGHTS_NAME, Kind

Variant: TypeAlias = Literal["lite0", "lite1", "lite2"]

LEVELS = 5
MEAN: Colours = (127 / 255,) * 3
STD: Colours = (128 / 255,) * 3
"""(x · 255 - 127) / 128, as TensorFlow trained them."""


class EfficientNetLiteConfig(Frozen):
    """`config.json` of an EfficientNet-Lite."""

    model_type: Literal["efficientnet_lite"] = "efficientnet_lite"
    variant: Variant
    levels: int = Field(LEVELS, ge=1, le=LEVELS, description="it was cut after this level; 5: whole")
    image_mean: Colours = MEAN
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = STD


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
"""EfficientNet-B0's; Lite0's are the same."""
_STEM = 32
_SCALES: Mapping[Variant, tuple[float, float]] = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}
"""Width and depth against Lite0."""


@dataclass(frozen=True)
class BlockShape:
    """One inverted residual: expand, filter each channel, project."""

    level: int
    """The block's places span 2 ** level pixels."""
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def block_shapes(variant: Variant, levels: int = LEVELS) -> tuple[BlockShape, ...]:
    """Return the blocks of a variant, up to a level."""
    return tuple(shape for shape in scaled_block_shapes(*_SCALES[variant]) if shape.level <= levels)


def scaled_block_shapes(width: float, depth: float) -> Iterator[BlockShape]:
    """Yield the blocks of a network of this width and depth against Lite0's."""
    level, inputs = 1, _STEM
    for stage in _STAGES:
        # The first and the last stage keep their depth in every variant, as the stem keeps its width.
        repeats = stage.repeats if stage in (_STAGES[0], _STAGES[-1]) else ceil(depth * stage.repeats)
        outputs = _scaled(stage.channels, width)
        level += stage.stride - 1
        for number in range(repeats):
            stride = stage.stride if number == 0 else 1
            yield BlockShape(level, stage.kernel, stride, stage.expansion, inputs, outputs)
            inputs = outputs


def _scaled(channels: int, width: float) -> int:
    """Return the multiple of 8 nearest to channels · width, but never less than nine tenths of it."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


class _SamePadded(nn.Conv2d):
    """A convolution whose output has the side ceil(side / stride): TensorFlow's padding "SAME"."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # At stride 1 the padding is the same on all sides, which the convolution does itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = images.shape[-2:]
            images = F.pad(images, (*_padding(width, kernel, stride), *_padding(height, kernel, stride)))
        return super().forward(images)


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class _Block(nn.Module):
    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.residual = shape.stride == 1 and shape.inputs == shape.outputs
        inner = shape.inputs * shape.expansion
        self.expand = _SamePadded(shape.inputs, inner, 1) if shape.expansion > 1 else None
        self.depthwise = _SamePadded(inner, inner, shape.kernel, shape.stride, groups=inner)
        self.project = _SamePadded(inner, shape.outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        # In place: what a convolution has just made is nobody else's.
        inner = images if self.expand is None else F.relu6(self.expand(images), inplace=True)
        outputs: Tensor = self.project(F.relu6(self.depthwise(inner), inplace=True))
        return images + outputs if self.residual else outputs


class EfficientNetLite(FrozenBackbone):
    """An EfficientNet-Lite without its classifier. Level i is the output of the last block at stride 2 ** i.

    Lite0 has 16, 24, 40, 112 and 320 channels at strides 2, 4, 8, 16 and 32. Images may have any side S; a level has
    the side ceil(S / stride).
    """

    def __init__(self, config: EfficientNetLiteConfig, shapes: Sequence[BlockShape] | None = None) -> None:
        """Build the network of a configuration, with random weights.

        Args:
            config: its variant, and the level up to which it goes.
            shapes: of the blocks; None: those of the variant.
        """
        super().__init__()
        self.config = config
        self.shapes = tuple(shapes or block_shapes(config.variant, config.levels))
        self.stem = _SamePadded(3, _STEM, 3, stride=2)
        self.blocks = nn.ModuleList(_Block(shape) for shape in self.shapes)

    @property
    def kind(self) -> Kind:
        """Return what it is called in a manifest."""
        return "efficientnet_lite"

    @property
    def levels(self) -> int:
        """Return the number of levels: 5, or less if it was cut."""
        return self.config.levels

    @property
    def mean(self) -> Colours:
        """Return the mean per colour, of images in [0, 1]."""
        return self.config.image_mean

    @property
    def std(self) -> Colours:
        """Return the standard deviation per colour, of images in [0, 1]."""
        return self.config.image_std

    @property
    def stored(self) -> EfficientNetLite:
        """Return this module: it saves itself."""
        return self

    def stride(self, level: int) -> int:
        """Return the pixels per place of a level on a side."""
        self.check_levels((level,))
        return int(2**level)

    def channels(self, level: int) -> int:
        """Return the channels of a level."""
        self.check_levels((level,))
        return self.shapes[self._last_block(level)].outputs

    def compute(self, normalised: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per level the last block's output (B, D, h, w) of normalised images, in the weights' type."""
        ends = {self._last_block(level) for level in levels}
        outputs = F.relu6(self.stem(normalised))
        taps = []
        for number, block in enumerate(self.blocks[: max(ends) + 1]):
            outputs = block(outputs)
            if number in ends:
                taps.append(outputs)
        return tuple(taps)

    def _last_block(self, level: int) -> int:
        return max(number for number, shape in enumerate(self.shapes) if shape.level == level)

    def cut(self, up_to: int) -> EfficientNetLite:
        """Return the same network up to a level; the two share their weights.

        Raises:
            ValueError: if there is no such level.
        """
        self.check_levels((up_to,))
        shorter = empty(self.config.model_copy(update={"levels": up_to}))
        state = self.state_dict()
        return filled(shorter, {name: state[name] for name in shorter.state_dict()})

    def save_pretrained(self, folder: Path) -> None:
        """Write `config.json` and the weights, as they are, into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / WEIGHTS_NAME["efficientnet_lite"], metadata={"format": "pt"})

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype = torch.float32) -> EfficientNetLite:
        """Return what `save_pretrained` wrote, frozen.

        Raises:
            ImportRefused: if configuration and weights are not those of an EfficientNet-Lite, or differ.
        """
        config, weights = _read_config(folder / CONFIG_NAME), folder / WEIGHTS_NAME["efficientnet_lite"]
        try:
            state = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise ImportRefused(f"{weights} does not load: {error}. Save the backbone again") from error
        module = empty(config)
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        model = f"an EfficientNet-{config.variant.capitalize()} up to level {config.levels}"
        check_names(state, shapes, origin=str(weights), model=model)
        return filled(module, {name: tensor.to(dtype) for name, tensor in state.items()})


def empty(config: EfficientNetLiteConfig) -> EfficientNetLite:
    """Return a module on the meta device: it has shapes and no weights, not even random ones."""
    with torch.device("meta"):
        return EfficientNetLite(config)


def filled(module: EfficientNetLite, state: Mapping[str, Tensor]) -> EfficientNetLite:
    """Return a module that was empty with these weights, frozen."""
    module.load_state_dict(state, assign=True)
    freeze(module)
    return module


def _read_config(path: Path) -> EfficientNetLiteConfig:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return EfficientNetLiteConfig.model_validate(content)
    except (OSError, ValueError) as error:
        variants = ", ".join(_SCALES)
        raise ImportRefused(
            f"{path} is no configuration of an EfficientNet-Lite: {error}. It needs a variant ({variants}) and levels "
            f"(1 ... {LEVELS}): save the backbone again"
        ) from error
