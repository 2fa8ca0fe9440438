"""Which device computes: GLAD_DEVICE, for the worker and for every command that runs models."""

from __future__ import annotations

import os

import torch


def choose_device(wanted: str) -> str:
    """`auto` is a GPU if there is one. ValueError for a device that is not there."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ValueError(f"GLAD_DEVICE is {wanted!r}, which cannot be used ({first_line}): use auto or cpu") from error
    return wanted


def device_of_environment() -> str:
    """The device that GLAD_DEVICE names, `auto` without it. ValueError as in `choose_device`."""
    return choose_device(os.environ.get("GLAD_DEVICE", "auto"))
