"""The engine that GLAD_ENGINE names. No torch: the API reads the same settings as the worker."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

from model_store.manifest import FORM_COMPONENTS, ComponentName

EngineName = Literal["torch", "onnx", "openvino", "tensorrt"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
AUTO = "auto"
NAMED_COMPONENTS: tuple[ComponentName, ...] = tuple(dict.fromkeys(chain(*FORM_COMPONENTS.values())))
"""The components that an engine can be named for: those of every form."""


@dataclass(frozen=True)
class EngineSpec:
    """The engine for all components, and others for single ones, as GLAD_ENGINE names them."""

    engine: str = AUTO
    components: tuple[tuple[ComponentName, EngineName], ...] = ()

    @classmethod
    def parse(cls, text: str) -> EngineSpec:
        """Return the engines of a text: `auto`, `torch`, `onnx`, or with exceptions, such as `torch,unet=onnx`.

        Raises:
            ValueError: if it names no engine or component that there is.
        """
        first, *others = (part.strip() for part in text.split(","))
        if first not in {AUTO, *ENGINES}:
            raise ValueError(f"GLAD_ENGINE is {text!r}; it begins with one of auto, {', '.join(ENGINES)}")
        pairs = [tuple(part.partition("=")[::2]) for part in others]
        for name, engine in pairs:
            if name not in NAMED_COMPONENTS or engine not in ENGINES:
                raise ValueError(
                    f"GLAD_ENGINE is {text!r}: {name}={engine} is not understood; write a component "
                    f"({', '.join(NAMED_COMPONENTS)}) and an engine ({', '.join(ENGINES)}), such as unet=onnx"
                )
        return cls(first, tuple(pairs))  # type: ignore[arg-type]


def offline_engine_spec() -> EngineSpec:
    """Return the engine of the commands that run models without a server: GLAD_ENGINE's, `torch` without it.

    Thresholds, figures and parity are measured on the bundle's own weights, unless another engine is asked for.

    Raises:
        ValueError: as `EngineSpec.parse`.
    """
    return EngineSpec.parse(os.environ.get("GLAD_ENGINE") or "torch")
