"""The models on TensorRT: serialized engines, called on torch's memory and on torch's current stream.

An engine holds one optimisation profile per bucket (batch size), with min = opt = max: the kernels of a profile were
timed for exactly that shape. An engine runs only on the device and the version of TensorRT that built it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from glad.batching import in_buckets
from model_store.engines.export_manifest import EngineFailed, EngineUnusable, Export, Part, remake
from model_store.engines.tensorrt_protocols import Context, CudaEngine, TensorRt, installed_tensorrt, shape_of

_REBUILD = "build it here with `glad export BUNDLE --to tensorrt --data DIR`"


class GpuDevice(Protocol):
    """The device that an engine runs on; a Protocol, so that tests run engines without a GPU."""

    @property
    def torch_device(self) -> torch.device:
        """Return the device of the tensors."""
        ...

    @property
    def name(self) -> str:
        """Return the name that an export records as its device."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """Make the device the current one, on which TensorRT works, while the context lasts."""
        ...

    def stream(self) -> int:
        """Return the handle of torch's current stream."""
        ...


@dataclass(frozen=True)
class CudaDevice:
    """A GPU, as torch sees it."""

    torch_device: torch.device

    @property
    def name(self) -> str:
        """Return model and compute capability, such as `NVIDIA H100 PCIe (9.0)`."""
        major, minor = torch.cuda.get_device_capability(self.torch_device)
        return f"{torch.cuda.get_device_name(self.torch_device)} ({major}.{minor})"

    def active(self) -> AbstractContextManager[object]:
        """Make this GPU the current one, while the context lasts."""
        return torch.cuda.device(self.torch_device)

    def stream(self) -> int:
        """Return the handle of torch's current stream on this GPU."""
        return int(torch.cuda.current_stream(self.torch_device).cuda_stream)


@dataclass(frozen=True)
class GpuIdentity:
    """The GPU that engines run on, and the TensorRT that is installed: an engine fits only the pair that built it."""

    device: GpuDevice
    library: TensorRt


def cuda_device(device: str) -> CudaDevice:
    """Return the GPU of a device, cuda or cuda:N.

    Raises:
        EngineUnusable: for any other device, or where torch sees no GPU.
    """
    named = torch.device(device)
    if named.type != "cuda" or not torch.cuda.is_available():
        raise EngineUnusable(
            f"TensorRT runs on a GPU of NVIDIA; the device is {device!r} and torch sees {torch.cuda.device_count()} "
            "of them: set GLAD_DEVICE to cuda, or GLAD_ENGINE to onnx or torch"
        )
    return CudaDevice(named)


def device_name(device: str) -> str:
    """Return the name that an export records as its device.

    Raises:
        EngineUnusable: if it is no GPU.
    """
    return cuda_device(device).name


def gpu_identity(device: str) -> GpuIdentity:
    """Return a GPU of this machine with its TensorRT.

    Raises:
        EngineUnusable: if the device is no GPU, or TensorRT is not installed.
    """
    return GpuIdentity(cuda_device(device), installed_tensorrt())


def check_built_for(manifest: Export, gpu: GpuIdentity) -> None:
    """Check that an export was built for this device and by this version of TensorRT.

    Raises:
        EngineUnusable: if it was built for another device, or by another version.
    """
    version = manifest.software.get("tensorrt", "an unknown version")
    if manifest.device != gpu.device.name:
        raise EngineUnusable(
            f"the engines were built for {manifest.device or 'an unknown device'}, this device is {gpu.device.name}: "
            f"{remake(manifest)}"
        )
    if version != gpu.library.__version__:
        raise EngineUnusable(
            f"the engines were built by TensorRT {version}, installed is {gpu.library.__version__}: "
            f"{remake(manifest)}, or install tensorrt=={version}"
        )


class TensorRtEngine:
    """An engine file, ready to be called: from one thread, and on one stream at a time."""

    def __init__(self, file: Path, gpu: GpuIdentity) -> None:
        """Load a file.

        Raises:
            EngineUnusable: if it cannot be read, does not deserialize, or is not one that an export makes.
        """
        self.file, self._gpu = file, gpu
        with gpu.device.active():
            self._runtime = gpu.library.Runtime(gpu.library.Logger())
            self._engine = self._deserialized()
            self._context = self._new_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = {name for name in names if self._engine.get_tensor_mode(name) == gpu.library.TensorIOMode.INPUT}
        self._types = {name: self._torch_type(name) for name in names}
        self._outputs = tuple(name for name in names if name not in inputs)
        self._profiles = _profiles(self._engine, min(inputs))

    @property
    def buckets(self) -> tuple[int, ...]:
        """Return the batch sizes that the engine was built for, ascending."""
        return tuple(sorted(self._profiles))

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the outputs of these names, (B, …), new tensors each time; inputs: name -> (B, …).

        A batch between two buckets is padded, one beyond the largest is split.

        Raises:
            ValueError: if the batch is empty, or of a shape that the engine was not built for.
            EngineFailed: if TensorRT fails.
        """
        names = tuple(inputs)
        if not all(len(tensor) for tensor in inputs.values()):
            raise ValueError(f"the batch is empty ({ {name: tuple(inputs[name].shape) for name in names} })")
        given = [
            inputs[name].to(device=self._gpu.device.torch_device, dtype=self._types[name]).contiguous()
            for name in names
        ]

        def run(*rows: Tensor) -> tuple[Tensor, ...]:
            made = self._run(dict(zip(names, rows, strict=True)))
            return tuple(made[name] for name in outputs)

        with self._gpu.device.active():
            return list(in_buckets(run, given, self.buckets))

    def _run(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        stream = self._gpu.device.stream()
        self._choose_profile(len(next(iter(given.values()))), stream)
        for name, tensor in given.items():
            self._bind_input(name, tensor)
        made = {name: self._bound_output(name) for name in self._outputs}  # TensorRT needs room for each of them
        if not self._context.execute_async_v3(stream):
            raise EngineFailed(f"TensorRT did not run {self.file}: its log says why")
        return made

    def _choose_profile(self, batch: int, stream: int) -> None:
        profile = self._profiles[batch]
        if self._context.active_optimization_profile == profile:
            return
        # The stream of the call itself: its work waits for the switch without a synchronisation.
        if not self._context.set_optimization_profile_async(profile, stream):
            raise EngineFailed(f"TensorRT did not take profile {profile} of {self.file}: its log says why")

    def _bind_input(self, name: str, tensor: Tensor) -> None:
        if not self._context.set_input_shape(name, tuple(tensor.shape)):
            built = shape_of(self._engine.get_tensor_profile_shape(name, self._profiles[len(tensor)])[0])
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; {self.file.name} was built for {built}")
        self._address(name, tensor)

    def _bound_output(self, name: str) -> Tensor:
        shape = shape_of(self._context.get_tensor_shape(name))
        made = torch.empty(shape, dtype=self._types[name], device=self._gpu.device.torch_device)
        self._address(name, made)
        return made

    def _address(self, name: str, tensor: Tensor) -> None:
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise EngineFailed(f"TensorRT did not take the address of {name} of {self.file}: its log says why")

    def _deserialized(self) -> CudaEngine:
        try:
            engine = self._runtime.deserialize_cuda_engine(self.file.read_bytes())
        except OSError as error:
            raise EngineUnusable(f"{self.file} cannot be read ({error.strerror}): {_REBUILD}") from error
        if engine is None:
            version = self._gpu.library.__version__
            raise EngineUnusable(f"{self.file} is not an engine that TensorRT {version} can load: {_REBUILD}")
        return engine

    def _new_context(self) -> Context:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineUnusable(
                f"{self.file} loads but cannot run, most often because GPU memory is short: free some, or build "
                "with fewer lanes"
            )
        return context

    def _torch_type(self, name: str) -> torch.dtype:
        kinds = self._gpu.library.DataType
        types = {kinds.FLOAT: torch.float32, kinds.INT64: torch.int64}
        kind = self._engine.get_tensor_dtype(name)
        if kind not in types:
            raise EngineUnusable(f"{name} of {self.file} is {kind}; exports have FLOAT and INT64: {_REBUILD}")
        return types[kind]


def load_tensorrt_parts(files: Mapping[Part, Path], gpu: GpuIdentity) -> dict[Part, TensorRtEngine]:
    """Return exported parts, each ready to be called.

    Raises:
        EngineUnusable: if one does not load.
    """
    return {part: TensorRtEngine(file, gpu) for part, file in files.items()}


def _profiles(engine: CudaEngine, input_name: str) -> dict[int, int]:
    """Return batch size -> profile, by the largest batch that each profile takes."""
    return {
        engine.get_tensor_profile_shape(input_name, profile)[2][0]: profile
        for profile in range(engine.num_optimization_profiles)
    }
