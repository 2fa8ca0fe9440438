"""diffusers' UNet2DModel as the recipes here configure it, in plain PyTorch: ready in milliseconds.

Importing diffusers takes seconds, because its UNet's module brings every transformer that it knows. A worker that is to
be ready at once needs two dozen layers of it. Names of weights and the order of every operation are diffusers' own, so
that both answer alike to the bit (tests/model_store/networks/test_unet2d.py); training and what else a configuration
may ask for stay with diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

MAX_PERIOD = 10_000
"""Of the positional embedding of time (Vaswani et al. 2017)."""
DownType: TypeAlias = Literal["DownBlock2D", "AttnDownBlock2D"]
UpType: TypeAlias = Literal["UpBlock2D", "AttnUpBlock2D"]


class UNet2DConfig(BaseModel):
    """`config.json` of a UNet2DModel that this module can build; another one does not validate."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    block_out_channels: tuple[int, ...] = Field(min_length=1)
    down_block_types: tuple[DownType, ...]
    up_block_types: tuple[UpType, ...]
    layers_per_block: int = Field(ge=1)
    norm_num_groups: int = Field(ge=1)
    norm_eps: float
    attention_head_dim: int = Field(ge=1)
    add_attention: bool
    freq_shift: int
    flip_sin_to_cos: bool
    # What follows is not built here in any other way.
    center_input_sample: Literal[False] = False
    time_embedding_type: Literal["positional"] = "positional"
    time_embedding_dim: None = None
    mid_block_type: Literal["UNetMidBlock2D"] = "UNetMidBlock2D"
    mid_block_scale_factor: Literal[1] = 1
    downsample_padding: Literal[1] = 1
    downsample_type: Literal["conv"] = "conv"
    upsample_type: Literal["conv"] = "conv"
    act_fn: Literal["silu"] = "silu"
    attn_norm_num_groups: None = None
    resnet_time_scale_shift: Literal["default"] = "default"
    class_embed_type: None = None
    num_class_embeds: None = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value by its name, as a configuration of diffusers does; peft asks for it."""
        return getattr(self, name, default)


def unet2d_config(content: Mapping[str, Any]) -> UNet2DConfig | None:
    """Return a configuration that `UNet2D` can build; None: leave it to diffusers."""
    if content.get("_class_name") != "UNet2DModel":
        return None
    try:
        config = UNet2DConfig.model_validate(content)
    except ValidationError:
        return None
    blocks = {len(config.block_out_channels), len(config.down_block_types), len(config.up_block_types)}
    return config if len(blocks) == 1 and config.block_out_channels[0] % 2 == 0 else None


@dataclass(frozen=True)
class _Shape:
    """What all blocks of one UNet have in common."""

    time: int
    """Width of the embedding of time."""
    groups: int
    eps: float
    head: int
    """Width of an attention head."""


class _Resnet(nn.Module):
    def __init__(self, inputs: int, outputs: int, shape: _Shape) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(shape.groups, inputs, eps=shape.eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(shape.time, outputs)
        self.norm2 = nn.GroupNorm(shape.groups, outputs, eps=shape.eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        inner: Tensor = self.conv1(F.silu(self.norm1(values)))
        inner = inner + self.time_emb_proj(F.silu(time))[:, :, None, None]
        inner = self.conv2(F.silu(self.norm2(inner)))
        kept: Tensor = values if self.conv_shortcut is None else self.conv_shortcut(values)
        return kept + inner


class _Attention(nn.Module):
    def __init__(self, channels: int, shape: _Shape) -> None:
        super().__init__()
        self.heads = channels // shape.head
        inner = self.heads * shape.head
        self.group_norm = nn.GroupNorm(shape.groups, channels, eps=shape.eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, inner) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])

    def forward(self, values: Tensor) -> Tensor:
        count, channels, height, width = values.shape
        tokens = self.group_norm(values.view(count, channels, height * width)).transpose(1, 2)
        query, key, value = (
            part(tokens).view(count, height * width, self.heads, -1).transpose(1, 2)
            for part in (self.to_q, self.to_k, self.to_v)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.to_out[0](attended.transpose(1, 2).reshape(count, height * width, -1))
        return mixed.transpose(-1, -2).reshape(count, channels, height, width) + values


class _Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        halved: Tensor = self.conv(values)
        return halved


class _Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(values, scale_factor=2.0, mode="nearest"))
        return doubled


class _DownBlock(nn.Module):
    def __init__(self, widths: list[int], shape: _Shape, *, attends: bool, halves: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(a, b, shape) for a, b in pairwise(widths))
        self.attentions = nn.ModuleList(_Attention(width, shape) for width in widths[1:]) if attends else None
        self.downsamplers = nn.ModuleList([_Down(widths[-1])]) if halves else None

    def forward(self, values: Tensor, time: Tensor) -> Iterator[Tensor]:
        """Yield what each layer makes, the last of which goes on."""
        for number, resnet in enumerate(self.resnets):
            values = resnet(values, time)
            if self.attentions is not None:
                values = self.attentions[number](values)
            yield values
        if self.downsamplers is not None:
            yield self.downsamplers[0](values)


class _MidBlock(nn.Module):
    def __init__(self, width: int, shape: _Shape, *, attends: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_Attention(width, shape)] if attends else [])
        self.resnets = nn.ModuleList(_Resnet(width, width, shape) for _ in range(2))

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        values = self.resnets[0](values, time)
        for attention in self.attentions:
            values = attention(values)
        last: Tensor = self.resnets[1](values, time)
        return last


class _UpBlock(nn.Module):
    def __init__(self, inputs: list[int], width: int, shape: _Shape, *, attends: bool, doubles: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(one, width, shape) for one in inputs)
        self.attentions = nn.ModuleList(_Attention(width, shape) for _ in inputs) if attends else None
        self.upsamplers = nn.ModuleList([_Up(width)]) if doubles else None

    def forward(self, values: Tensor, skipped: list[Tensor], time: Tensor) -> Tensor:
        """Take the last of what was `skipped` for each layer, and go on."""
        for number, resnet in enumerate(self.resnets):
            values = resnet(torch.cat([values, skipped.pop()], dim=1), time)
            if self.attentions is not None:
                values = self.attentions[number](values)
        return values if self.upsamplers is None else self.upsamplers[0](values)


class _TimeEmbedding(nn.Module):
    def __init__(self, width: int, time: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, time)
        self.linear_2 = nn.Linear(time, time)

    def forward(self, embedded: Tensor) -> Tensor:
        time: Tensor = self.linear_2(F.silu(self.linear_1(embedded)))
        return time


class UNet2D(nn.Module):
    """The network of a `UNet2DConfig`, with the names of diffusers' weights."""

    unused: tuple[str, ...] = ()
    """Prefixes of weights that a folder holds beside."""

    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        self.config = config
        widths, layers = config.block_out_channels, config.layers_per_block
        shape = _Shape(4 * widths[0], config.norm_num_groups, config.norm_eps, config.attention_head_dim)
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = _TimeEmbedding(widths[0], shape.time)
        self.down_blocks = nn.ModuleList(
            _DownBlock([widths[max(0, i - 1)]] + [width] * layers, shape, attends=kind[0] == "A", halves=i < last)
            for i, (width, kind) in enumerate(zip(widths, config.down_block_types, strict=True))
        )
        self.mid_block = _MidBlock(widths[-1], shape, attends=config.add_attention)
        self.up_blocks = nn.ModuleList(
            _UpBlock(_up_inputs(widths[::-1], i, layers + 1), width, shape, attends=kind[0] == "A", doubles=i < last)
            for i, (width, kind) in enumerate(zip(widths[::-1], config.up_block_types, strict=True))
        )
        self.conv_norm_out = nn.GroupNorm(shape.groups, widths[0], eps=shape.eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    @property
    def device(self) -> torch.device:
        """Return where the weights lie."""
        return self.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return self.conv_in.weight.dtype

    def forward(self, sample: Tensor, timestep: Tensor, *, return_dict: Literal[False] = False) -> tuple[Tensor]:
        """Return the prediction (B, C, h, w), as the only one of a tuple, as diffusers does.

        Args:
            sample: (B, C, h, w).
            timestep: (B,) int64.
            return_dict: False.
        """
        time = self.time_embedding(self._embedded(timestep).to(self.dtype))
        values = self.conv_in(sample)
        skipped = [values]
        for block in self.down_blocks:
            skipped += block(values, time)
            values = skipped[-1]
        values = self.mid_block(values, time)
        for block in self.up_blocks:
            values = block(values, skipped, time)
        return (self.conv_out(F.silu(self.conv_norm_out(values))),)

    def _embedded(self, timestep: Tensor) -> Tensor:
        half = self.config.block_out_channels[0] // 2
        exponents = -math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep[:, None].float() * torch.exp(exponents / (half - self.config.freq_shift))[None, :]
        sine, cosine = torch.sin(angles), torch.cos(angles)
        return torch.cat([cosine, sine] if self.config.flip_sin_to_cos else [sine, cosine], dim=-1)


def _up_inputs(widths: tuple[int, ...], number: int, layers: int) -> list[int]:
    """Return the input channels of each layer of an upward block: what comes up, and what was skipped.

    Args:
        widths: of the upward blocks, in order.
        number: of the block.
        layers: of each block.
    """
    width, before, after = widths[number], widths[max(0, number - 1)], widths[min(number + 1, len(widths) - 1)]
    comes = [before] + [width] * (layers - 1)
    skipped = [width] * (layers - 1) + [after]
    return [a + b for a, b in zip(comes, skipped, strict=True)]
