"""The models on OpenVINO: the ONNX files of an export, read and compiled as they are, on the CPU.

It is another way to run the same files as ONNX Runtime's, so it needs no export of its own, but a proof of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_store.engines.export_manifest import EngineFailed, EngineUnusable, Part

_TORCH = {"f32": torch.float32, "i64": torch.int64}


class CompiledFile:
    """One exported file, ready to be called."""

    def __init__(self, file: Path) -> None:
        """Read and compile a file, for as many threads as torch has.

        Raises:
            EngineUnusable: if openvino is not installed, or cannot read or compile the file.
        """
        library = _library()
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # By default it takes bfloat16 where the processor has it: the parity of a float32 file would be measured
            # under another arithmetic.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.file = file
        try:
            self._compiled = _core(library).compile_model(str(file), "CPU", settings)
            self._request = self._compiled.create_infer_request()
        except Exception as error:  # openvino's errors share no base but RuntimeError and Exception
            raise EngineUnusable(f"{file} does not load in OpenVINO ({str(error).splitlines()[0]})") from error
        self._types = {one.get_any_name(): one.get_element_type().get_type_name() for one in self._compiled.inputs}

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the outputs of these names, (B, …), new tensors each time; inputs: name -> (B, …).

        Raises:
            EngineFailed: if OpenVINO fails.
        """
        given = {
            name: tensor.cpu().to(_TORCH[self._types[name]]).contiguous().numpy() for name, tensor in inputs.items()
        }
        try:
            # Its results lie in the request's memory, which the next call overwrites: copied.
            found = self._request.infer(given, share_inputs=True, share_outputs=True)
            return [torch.from_numpy(np.array(found[name], dtype=np.float32)) for name in outputs]
        except Exception as error:  # as above
            raise EngineFailed(f"{self.file.name} failed in OpenVINO ({str(error).splitlines()[0]})") from error


def load_openvino_parts(files: Mapping[Part, Path]) -> dict[Part, CompiledFile]:
    """Return exported parts, each ready to be called.

    Raises:
        EngineUnusable: if one does not load: see `CompiledFile`.
    """
    return {part: CompiledFile(file) for part, file in files.items()}


def openvino_version() -> str:
    """Return the installed release.

    Raises:
        EngineUnusable: if there is none.
    """
    return str(_library().__version__)


def _library() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EngineUnusable(f"openvino is not installed ({error}): pip install 'glad-inspect[openvino]'") from error
    return openvino


def _core(library: Any) -> Any:
    core = library.Core()
    core.set_property({"ENABLE_MMAP": "NO"})  # a file may be replaced while it serves: see `replace_export`
    return core
