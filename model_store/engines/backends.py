"""The ways to run a bundle's models, and how the files of an export become models by each of them.

A way is proven as a whole: the same file under another provider runs other kernels, so a proof names engine, provider
and precision, and serves no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from glad.protocols import Condition, Models
from model_store.engines.engine_spec import EngineName
from model_store.engines.export_manifest import EngineUnusable, ExportShapes, OpenExport, Part, Precision
from model_store.engines.onnx import Provider, RuntimeOptions, load_onnx
from model_store.engines.tensorrt import GpuIdentity, check_built_for, gpu_identity, load_tensorrt


@dataclass(frozen=True)
class Backend:
    """One way to run a bundle's models on a device."""

    engine: EngineName
    provider: Provider | None = None
    """Of ONNX Runtime."""
    precision: Precision = "float32"

    def __str__(self) -> str:
        """As it is told in logs, metrics and proofs: onnx-cpu-float32."""
        return "-".join(filter(None, (self.engine, self.provider, self.precision)))

    @property
    def requested_as(self) -> EngineName:
        """By which name it is asked for: ONNX Runtime's TensorRT provider is `tensorrt` too."""
        return "tensorrt" if self.provider == "tensorrt" else self.engine


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
    "cpu": (Backend("onnx", "cpu", "int8"), Backend("onnx", "cpu"), Backend("torch")),
}
"""What `auto` tries first, per kind of device: each is used only where its own parity was shown."""

FindGpu = Callable[[str], GpuIdentity]
"""Where TensorRT's engines run; EngineUnusable if nowhere."""


def open_files(
    runner: Backend,
    files: Mapping[Part, Path],
    shapes: ExportShapes,
    device: str,
    condition: Condition | None = None,
    *,
    find_gpu: FindGpu = gpu_identity,
) -> Models:
    """The models of exported files, run as `runner` says. EngineUnusable if that cannot be done here."""
    if runner.engine == "tensorrt":
        return load_tensorrt(files, shapes, find_gpu(device), condition)
    provider = runner.provider or "cpu"
    return load_onnx(files, shapes, RuntimeOptions(device, provider, cuda_graphs=provider == "cuda"), condition)


def refuse_unproven(export: OpenExport, runner: Backend, device: str, find_gpu: FindGpu = gpu_identity) -> None:
    """EngineUnusable unless this very way was shown equal, and its files run on this device."""
    manifest = export.manifest
    if not any(proof.runner == str(runner) and proof.passed for proof in manifest.proofs):
        shown = ", ".join(proof.runner for proof in manifest.proofs if proof.passed) or "nothing"
        raise EngineUnusable(
            f"no parity of {runner} was shown (shown: {shown}): run `glad export BUNDLE --to {manifest.engine} "
            f"{f'--provider {runner.provider} ' if runner.provider else ''}--precision {runner.precision} --data DIR` "
            f"with GLAD_DEVICE={torch.device(device).type}"
        )
    if runner.engine == "tensorrt":
        check_built_for(manifest, find_gpu(device))
