"""A float32 ONNX file in int8: weights per channel, activations by the ranges that real inputs show (static)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

OPERATORS = ["Conv", "MatMul", "Gemm"]
"""What is computed in int8: where the time goes. All else stays float32."""


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """One sample's inputs after the other, as the library asks for them."""

    def __init__(self, samples: Sequence[Mapping[str, Tensor]]) -> None:
        self._left = iter(samples)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """The next inputs; None at the end."""
        sample = next(self._left, None)
        return None if sample is None else {name: tensor.numpy() for name, tensor in sample.items()}


def write_quantised(exact: Path, file: Path, samples: Sequence[Mapping[str, Tensor]]) -> None:
    """Writes `exact` in int8 to `file`. samples: inputs as inference gives them; ValueError for none."""
    if not samples:
        raise ValueError(f"no inputs to find the ranges of {exact.name} by: give good images")
    shown = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends what has just been done
    try:
        with tempfile.TemporaryDirectory() as scratch:
            prepared = Path(scratch) / exact.name
            quant_pre_process(str(exact), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(file),
                _Samples(samples),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.disable(shown)
