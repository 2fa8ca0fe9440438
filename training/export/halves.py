"""A float32 ONNX file in float16 or bfloat16: what sums over thousands of values, and what goes in and out, stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper, version_converter

BFLOAT16_OPSET = 22
"""The first in which a convolution takes bfloat16."""
KEPT_FLOAT32 = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "ReduceMean", "Softmax")
"""Operators that stay float32: they sum over thousands of values, where 11 or 8 bits lose digits."""


def in_float16(exact: Path) -> Any:
    """The file as a float16 model."""
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
    """The file as a bfloat16 model: float16's, with each half in the other's place and weights from the float32 ones.

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
