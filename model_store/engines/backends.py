"""The backends: every way to run a bundle's models, and how the files of an export become networks by each of them.

A backend is proven as a whole: the same file under another provider runs other kernels, so a proof names engine,
provider and precision, and counts for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from model_store.engines.engine_spec import AUTO, EngineName
from model_store.engines.export_manifest import (
    EngineUnusable,
    ExportShapes,
    OpenExport,
    Part,
    Precision,
    needed_parts,
)
from model_store.engines.exported_models import exported_networks
from model_store.engines.onnx import Provider, RuntimeOptions, load_onnx_parts, reads_external_memory
from model_store.engines.openvino import load_openvino_parts
from model_store.engines.tensorrt import GpuIdentity, check_built_for, gpu_identity, load_tensorrt_parts


@dataclass(frozen=True)
class Backend:
    """One way to run a bundle's models on a device: engine, provider and precision."""

    engine: Literal["torch", "onnx", "tensorrt"]
    """Whose files it runs: OpenVINO runs ONNX files."""
    provider: Provider | None = None
    """Of ONNX files."""
    precision: Precision = "float32"

    def __str__(self) -> str:
        """Return its name in logs, metrics and proofs, such as onnx-cpu-float32."""
        return "-".join(filter(None, (self.engine, self.provider, self.precision)))

    @property
    def requested_as(self) -> EngineName:
        """Return the engine that GLAD_ENGINE names for it: TensorRT's and OpenVINO's providers are called by theirs."""
        return self.provider if self.provider in {"tensorrt", "openvino"} else self.engine

    def serves(self, requested: str) -> bool:
        """Return whether it may run the models where GLAD_ENGINE says `requested`.

        `auto` means neither TensorRT's own engines, which have not run on hardware yet, nor OpenVINO, beside which a
        training of torch's has crashed: they must be named.
        """
        if requested == AUTO:
            return self.engine != "tensorrt" and self.provider != "openvino"
        return self.requested_as == requested


BACKEND_ORDER: Mapping[str, tuple[Backend, ...]] = {
    "cuda": (
        Backend("tensorrt", precision="float16"),
        Backend("tensorrt", precision="bfloat16"),
        Backend("tensorrt"),
        Backend("onnx", "tensorrt", "float16"),
        Backend("onnx", "tensorrt"),
        Backend("onnx", "cuda", "float16"),
        Backend("onnx", "cuda"),
        Backend("torch"),
    ),
    "cpu": (
        Backend("onnx", "openvino", "int8"),
        Backend("onnx", "cpu", "int8"),
        Backend("onnx", "openvino"),
        Backend("onnx", "cpu"),
        Backend("torch"),
    ),
}
"""In which order backends are tried, per kind of device, of those that serve the request: see `Backend.serves`. Each is
used only where its own parity was shown."""

FindGpu = Callable[[str], GpuIdentity]
"""Returns where TensorRT's engines run on a device; raises EngineUnusable if nowhere."""


def open_files(
    backend: Backend,
    files: Mapping[Part, Path],
    shapes: ExportShapes,
    device: str,
    *,
    find_gpu: FindGpu = gpu_identity,
) -> dict[str, Any]:
    """Return the networks of exported files, run by `backend`, by the component that each stands for.

    Raises:
        EngineUnusable: if a file of a component is missing or does not load, or the backend cannot run here.
    """
    needed = {part: files[part] for part in needed_parts(shapes) if part in files}
    if backend.engine == "tensorrt":
        return exported_networks(load_tensorrt_parts(needed, find_gpu(device)), shapes)
    provider = backend.provider or "cpu"
    if provider == "openvino":
        return exported_networks(load_openvino_parts(needed), shapes)
    options = RuntimeOptions(device, provider, cuda_graphs=provider == "cuda")
    return exported_networks(load_onnx_parts(needed, options), shapes)


def reads_copies(backend: Backend) -> bool:
    """Return whether it reads the external data of a file from memory; otherwise from real files beside that alone."""
    return backend.provider != "openvino" and (backend.engine != "onnx" or reads_external_memory())


def check_proven(export: OpenExport, backend: Backend, device: str, find_gpu: FindGpu = gpu_identity) -> None:
    """Check that this very backend was shown equal, and that its files were built for this device.

    Raises:
        EngineUnusable: if it was not, or if they were built for another one.
    """
    manifest = export.manifest
    if not any(proof.runner == str(backend) and proof.passed for proof in manifest.proofs):
        shown = ", ".join(proof.runner for proof in manifest.proofs if proof.passed) or "nothing"
        raise EngineUnusable(
            f"no parity of {backend} was shown (shown: {shown}): run `glad export BUNDLE --to {manifest.engine} "
            f"{f'--provider {backend.provider} ' if backend.provider else ''}--precision {backend.precision} --data "
            f"DIR` with GLAD_DEVICE={torch.device(device).type}"
        )
    if backend.engine == "tensorrt":
        check_built_for(manifest, find_gpu(device))
