"""The tables of a recipe about denoisers: what ATP mixes in and what counts, LoRA, and a published UNet's fine-tuning.

`training.recipe` joins them into recipes; its UNet that is trained from scratch has the first one too.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from glad.settings import Frozen

AnomalyWeight: TypeAlias = Literal["t/1000", "t/T", "sigma", "none"]
"""a in z_s = a z^a + (1 - a) z, as a function of t."""


class AtpRecipe(Frozen):
    """How a denoiser learns to take anomalies away (ATP, Sec. 3.5): at which steps it sees how much of them."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    anomaly_weight: AnomalyWeight = Field(
        "t/T",
        description="a in z_s = a z^a + (1-a) z; paper: t/1000; t/T and sigma reach 1 at T, sigma as σ_t does; "
        "none: 0, which is training without ATP",
    )
    loss_weighting: Literal["plain", "min_snr"] = Field(
        "plain", description="of the squared error at each t; min_snr: by min(SNR, snr_gamma) / SNR"
    )
    snr_gamma: float = Field(5.0, gt=0)
    up_to_start: bool = Field(True, description="draw t from 0...T instead of the whole schedule")
    study_minus_sign: bool = Field(
        False,
        description="for a study alone: the minus that Eqs. 9 and 10 print, with which the denoiser learns to double "
        "an anomaly instead of removing it; never for a product",
    )


class LoraRecipe(Frozen):
    """Low-rank adapters (peft) in the place of all weights: few are trained, then merged into the UNet's own."""

    rank: int = Field(16, ge=1)
    alpha: float | None = Field(None, gt=0, description="the change is scaled by alpha / rank; None: as the rank")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="ends of the names of the layers that get one; these are the attention's",
    )
    learning_rate: float = Field(1e-4, gt=0, description="in the place of unet.learning_rate, which is for all weights")


class UnetFinetuneRecipe(AtpRecipe):
    """Stable Diffusion's UNet, fine-tuned with ATP under a constant prompt. What is left out is as in the paper."""

    steps: int = Field(4000, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(5e-6, gt=0, description="constant")
    anomaly_weight: AnomalyWeight = Field("t/1000", description="a in z_s = a z^a + (1-a) z")
    up_to_start: bool = Field(False, description="draw t from 0...T instead of the whole schedule")
    ema: float = Field(0.0, ge=0, lt=1, description="of the moving average of the weights; 0: none, as in the paper")
    lora: LoraRecipe | None = Field(None, description="None: all weights are trained")

    @model_validator(mode="after")
    def _lora_fits(self) -> UnetFinetuneRecipe:
        if self.lora is not None and self.ema:
            raise ValueError(f"ema is {self.ema} and lora is given: adapters have no moving average; set ema to 0")
        return self
