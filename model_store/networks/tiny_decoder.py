"""The decoder of diffusers' AutoencoderTiny in plain PyTorch; why: see `model_store.networks.unet2d`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn


class TinyDecoderConfig(BaseModel):
    """`config.json` of an AutoencoderTiny whose decoder this module can build; another one does not validate."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    latent_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    decoder_block_out_channels: tuple[int, ...] = Field(min_length=1)
    num_decoder_blocks: tuple[int, ...] = Field(min_length=1)
    scaling_factor: float
    upsampling_scaling_factor: int = Field(ge=1)
    upsample_fn: Literal["nearest"] = "nearest"
    act_fn: Literal["relu"] = "relu"


def tiny_decoder_config(content: Mapping[str, Any]) -> TinyDecoderConfig | None:
    """Return a configuration that `TinyDecoder` can build; None: leave it to diffusers."""
    if content.get("_class_name") != "AutoencoderTiny":
        return None
    try:
        config = TinyDecoderConfig.model_validate(content)
    except ValidationError:
        return None
    widths = config.decoder_block_out_channels
    # Where widths differ, diffusers' decoder takes one width and gives the next: it does not run.
    return config if len(set(widths)) == 1 and len(widths) == len(config.num_decoder_blocks) else None


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.conv(values) + values)


class _Layers(nn.Module):
    def __init__(self, config: TinyDecoderConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers(config))

    def forward(self, latents: Tensor) -> Tensor:
        drawn: Tensor = self.layers(torch.tanh(latents / 3) * 3)
        return drawn.mul(2).sub(1)


def _layers(config: TinyDecoderConfig) -> Iterator[nn.Module]:
    width, blocks = config.decoder_block_out_channels[0], config.num_decoder_blocks
    yield nn.Conv2d(config.latent_channels, width, 3, padding=1)
    yield nn.ReLU()
    for number, count in enumerate(blocks, start=1):
        yield from (_Block(width) for _ in range(count))
        if number == len(blocks):
            yield nn.Conv2d(width, config.out_channels, 3, padding=1)
        else:
            yield nn.Upsample(scale_factor=config.upsampling_scaling_factor, mode=config.upsample_fn)
            yield nn.Conv2d(width, width, 3, padding=1, bias=False)


class TinyDecoder(nn.Module):
    """The decoder of a `TinyDecoderConfig`, with the names of diffusers' weights; its encoder is not built."""

    unused: tuple[str, ...] = ("encoder.",)
    """Prefixes of weights that a folder holds beside."""

    def __init__(self, config: TinyDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = _Layers(config)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return next(self.parameters()).dtype

    def decode(self, latents: Tensor, *, return_dict: Literal[False] = False) -> tuple[Tensor]:
        """Return the picture (B, 3, H, W) of latents (B, C, h, w), as the only one of a tuple, as diffusers does."""
        return (self.decoder(latents),)
