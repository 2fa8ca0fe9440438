"""A float32 ONNX file in float16, bfloat16 or int8.

In the two halves, operators that sum over thousands of values and the file's inputs and outputs stay float32. In int8,
weights have a range per channel and activations the ranges that real inputs show (static quantisation).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper, version_converter
from torch import Tensor

BFLOAT16_OPSET = 22
"""The first in which a convolution takes bfloat16."""
KEPT_FLOAT32 = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "ReduceMean", "Softmax")
"""Operators that stay float32: they sum over thousands of values, where 11 or 8 bits lose digits."""
INT8_OPERATORS = ["Conv", "MatMul", "Gemm"]
"""Operators that are computed in int8: they take most of the time. All others stay float32."""


def in_float16(exact: Path) -> Any:
    """Return the float32 file as a float16 model."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    # By its path: what is in memory cannot pass 2 GB, since its types are inferred on its serialised form.
    model = convert_float_to_float16(
        str(exact), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_FLOAT32]
    )
    OnnxModel(model).topological_sort()  # the casts were appended behind the nodes that read them
    del model.graph.value_info[:]  # types of before: the checker infers them anew
    return model


def in_bfloat16(exact: Path) -> Any:
    """Return the float32 file as a bfloat16 model.

    It is the float16 model with every float16 type replaced, and its weights rounded anew from the float32 ones.
    ONNX Runtime has no kernels for it on a CPU; it is made for TensorRT.
    """
    model = in_float16(exact)
    weights = {tensor.name: tensor for tensor in onnx.load(exact).graph.initializer}
    for tensor in _halves(model):
        _as_bfloat16(tensor, weights)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    return version_converter.convert_version(model, BFLOAT16_OPSET)


def _halves(model: Any) -> Iterator[Any]:
    constants = (
        attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.type == AttributeProto.TENSOR
    )
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT16:
            yield tensor


def _as_bfloat16(tensor: Any, weights: Mapping[str, Any]) -> None:
    values = numpy_helper.to_array(weights.get(tensor.name, tensor)).astype(ml_dtypes.bfloat16)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


class _SampleReader:
    """A `CalibrationDataReader` of ONNX Runtime over the given samples, by its one method."""

    def __init__(self, samples: Sequence[Mapping[str, Tensor]]) -> None:
        self._left = iter(samples)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next sample's inputs by name, or None at the end."""
        sample = next(self._left, None)
        return None if sample is None else {name: tensor.numpy() for name, tensor in sample.items()}


def write_quantised(exact: Path, file: Path, samples: Sequence[Mapping[str, Tensor]]) -> None:
    """Write `exact` in int8 to `file`.

    Args:
        samples: inputs as inference gives them, by which the activations' ranges are found.

    Raises:
        ValueError: if there are no samples.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not samples:
        raise ValueError(f"0 samples for {exact.name}: int8 finds its ranges on good images, give at least one")
    shown = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends what has just been done
    try:
        with tempfile.TemporaryDirectory() as scratch:
            prepared = Path(scratch) / exact.name
            quant_pre_process(str(exact), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(file),
                _SampleReader(samples),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=INT8_OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.disable(shown)
