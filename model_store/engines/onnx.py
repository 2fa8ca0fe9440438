"""The models on ONNX Runtime: sessions over exported files, bound to torch's memory, on CPU, CUDA or TensorRT.

Input and output tensors of a call are torch's own, so that nothing is copied: ONNX Runtime reads from and writes to the
addresses that it is given. The files take and give float32, whatever they compute in.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from model_store.engines.export_manifest import EngineFailed, EngineUnusable, Part

Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]
"""What runs ONNX files: three of ONNX Runtime, and OpenVINO (`model_store.engines.openvino`)."""
PROVIDERS: Mapping[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_NUMPY = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
_TORCH = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64}


@dataclass(frozen=True)
class RuntimeOptions:
    """The options with which ONNX Runtime runs a file."""

    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    provider: Provider = "cpu"
    cuda_graphs: bool = False
    """Record each batch size's call once and replay it."""

    @property
    def device_index(self) -> int:
        """Return the index of the GPU."""
        return torch.device(self.device).index or 0


class Session:
    """One exported file, ready to be called."""

    def __init__(self, file: Path, options: RuntimeOptions) -> None:
        """Load a file.

        Raises:
            EngineUnusable: if onnxruntime is not installed, lacks the provider, or cannot load the file.
        """
        runtime = onnx_runtime()
        provider = PROVIDERS[options.provider]
        if provider not in runtime.get_available_providers():
            raise EngineUnusable(
                f"onnxruntime {runtime.__version__} has no {provider} (it has "
                f"{', '.join(runtime.get_available_providers())}): pip install 'glad-inspect[gpu]'"
            )
        self._runtime, self._options, self.file = runtime, options, file
        try:
            self._session = _open_session(runtime, file, options)
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise EngineUnusable(f"{file} does not load in ONNX Runtime ({str(error).splitlines()[0]})") from error
        if self._session.get_providers()[0] != provider:  # it falls back to the CPU silently
            raise EngineUnusable(f"{file} runs on {self._session.get_providers()[0]}, not on {provider}: see its log")
        self._outputs = {output.name: output for output in self._session.get_outputs()}
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self._recorded: dict[int, dict[str, Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the outputs of these names, (B, …), new tensors each time; inputs: name -> (B, …).

        Raises:
            EngineFailed: if ONNX Runtime fails.
            torch.OutOfMemoryError: if the device's memory is too small for this batch.
        """
        device = torch.device(self._options.device)
        given = {
            name: tensor.to(device=device, dtype=_TORCH[self._inputs[name].type]).contiguous()
            for name, tensor in inputs.items()
        }
        batch = len(next(iter(given.values())))
        if self._options.cuda_graphs:
            return self._replay(given, batch, outputs, device)
        made = {name: self._empty(name, batch, device) for name in outputs}
        self._run(self._bound(given, made, device), None)
        return [made[name] for name in outputs]

    def _replay(
        self, given: Mapping[str, Tensor], batch: int, outputs: Sequence[str], device: torch.device
    ) -> list[Tensor]:
        """Replay a recorded call. It uses the same addresses each time, so inputs and outputs are copied."""
        kept = self._recorded.setdefault(batch, {})
        for name, tensor in given.items():
            kept.setdefault(name, torch.empty_like(tensor)).copy_(tensor)
        made = {name: kept.setdefault(name, self._empty(name, batch, device)) for name in self._outputs}
        options = self._runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(batch))
        self._run(self._bound({name: kept[name] for name in given}, made, device), options)
        return [made[name].clone() for name in outputs]

    def _run(self, bound: Any, options: Any) -> None:
        try:
            self._session.run_with_iobinding(bound, options)
        except Exception as error:  # onnxruntime's errors share no base but Exception
            message = f"{self.file.name} failed in ONNX Runtime ({str(error).splitlines()[0]})"
            # Its arena says "Failed to allocate memory for requested buffer", CUDA itself "out of memory".
            if "allocate memory" in str(error) or "out of memory" in str(error):
                raise torch.OutOfMemoryError(message) from error
            raise EngineFailed(message) from error

    def _empty(self, name: str, batch: int, device: torch.device) -> Tensor:
        output = self._outputs[name]
        return torch.empty((batch, *output.shape[1:]), dtype=_TORCH[output.type], device=device)

    def _bound(self, given: Mapping[str, Tensor], made: Mapping[str, Tensor], device: torch.device) -> Any:
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # ONNX Runtime works on a stream of its own
        binding, index = self._session.io_binding(), self._options.device_index
        for name, tensor in given.items():
            kind = _NUMPY[self._inputs[name].type]
            binding.bind_input(name, device.type, index, kind, tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in made.items():
            kind = _NUMPY[self._outputs[name].type]
            binding.bind_output(name, device.type, index, kind, tuple(tensor.shape), tensor.data_ptr())
        return binding


def load_onnx_parts(files: Mapping[Part, Path], options: RuntimeOptions) -> dict[Part, Session]:
    """Return exported parts, each ready to be called.

    Raises:
        EngineUnusable: if one does not load: see `Session`.
    """
    return {part: Session(file, options) for part, file in files.items()}


def onnx_runtime() -> Any:
    """Return the module `onnxruntime`.

    Raises:
        EngineUnusable: if it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnusable(
            f"onnxruntime is not installed ({error}): pip install 'glad-inspect[cpu]', or 'glad-inspect[gpu]' for a GPU"
        ) from error
    return onnxruntime


def reads_external_memory() -> bool:
    """Return whether the installed onnxruntime takes external data from memory: 1.23 and later do."""
    try:
        return hasattr(onnx_runtime().SessionOptions, "add_external_initializers_from_files_in_memory")
    except EngineUnusable:
        return False


def _open_session(runtime: Any, file: Path, options: RuntimeOptions) -> Any:
    """Return a session over a file, and over its external data, if there is any.

    ONNX Runtime refuses external data behind a link, which a private copy is (`model_store.private_copy`): it is given
    the memory.
    """
    made = _session_options(runtime)
    with ExitStack() as maps:
        external = {path.name: maps.enter_context(_mapped(path)) for path in _external(file) if path.is_symlink()}
        if external:
            contents = list(external.values())
            made.add_external_initializers_from_files_in_memory(list(external), contents, list(map(len, contents)))
        return runtime.InferenceSession(str(file), made, providers=_providers(options))


def _external(file: Path) -> list[Path]:
    return [path for path in sorted(file.parent.iterdir()) if path.name.startswith(f"{file.name}.")]


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as found:
        yield found


def _session_options(runtime: Any) -> Any:
    made = runtime.SessionOptions()
    made.intra_op_num_threads = torch.get_num_threads()
    made.inter_op_num_threads = 1
    made.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads would take the cores from the codec threads, Redis and the API between two calls.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.log_severity_level = 3
    return made


def _providers(options: RuntimeOptions) -> list[Any]:
    gpu = {"device_id": options.device_index}
    # TF32 keeps 10 bits of a float32's 23: the parity of a float32 file would be measured under another arithmetic.
    cuda = (PROVIDERS["cuda"], {**gpu, "use_tf32": "0", "enable_cuda_graph": "1" if options.cuda_graphs else "0"})
    chosen: dict[Provider, list[Any]] = {
        "cpu": [PROVIDERS["cpu"]],
        "cuda": [cuda],
        # No cache of engines: its key leaves out the weights (ONNX Runtime, issue 6455), so that two products of one
        # architecture would get one product's engine.
        "tensorrt": [(PROVIDERS["tensorrt"], {**gpu, "trt_engine_cache_enable": "0"}), cuda],
    }
    return chosen[options.provider]
