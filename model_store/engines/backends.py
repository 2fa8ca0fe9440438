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
from model_store.engines.engine_spec import Engine
from model_store.engines.export_manifest import EngineUnusable, ExportShapes, OpenExport, Part, Precision
from model_store.engines.onnx import Provider, RuntimeOptions, load_onnx
from model_store.engines.tensorrt import Place, check_built_for, load_tensorrt, tensorrt_place


@dataclass(frozen=True)
class Runner:
    """One way to run a bundle's models on a device."""

    engine: Engine
    provider: Provider | None = None
    """Of ONNX Runtime."""
    precision: Precision = "float32"

    def __str__(self) -> str:
        """As it is told in logs, metrics and proofs: onnx-cpu-float32."""
        return "-".join(filter(None, (self.engine, self.provider, self.precision)))

    @property
    def asked(self) -> Engine:
        """By which name it is asked for: ONNX Runtime's TensorRT provider is `tensorrt` too."""
        return "tensorrt" if self.provider == "tensorrt" else self.engine


ORDER: Mapping[str, tuple[Runner, ...]] = {
    "cuda": (
        Runner("tensorrt", precision="float16"),
        Runner("tensorrt", precision="bfloat16"),
        Runner("tensorrt"),
        Runner("onnx", "tensorrt", "float16"),
        Runner("onnx", "tensorrt"),
        Runner("onnx", "cuda", "float16"),
        Runner("onnx", "cuda"),
        Runner("torch"),
    ),
    "cpu": (Runner("onnx", "cpu", "int8"), Runner("onnx", "cpu"), Runner("torch")),
}
"""What `auto` tries first, per kind of device: each is used only where its own parity was shown."""

FindGpu = Callable[[str], Place]
"""Where TensorRT's engines run; EngineUnusable if nowhere."""


def open_files(
    runner: Runner,
    files: Mapping[Part, Path],
    shapes: ExportShapes,
    device: str,
    condition: Condition | None = None,
    *,
    find_gpu: FindGpu = tensorrt_place,
) -> Models:
    """The models of exported files, run as `runner` says. EngineUnusable if that cannot be done here."""
    if runner.engine == "tensorrt":
        return load_tensorrt(files, shapes, find_gpu(device), condition)
    provider = runner.provider or "cpu"
    return load_onnx(files, shapes, RuntimeOptions(device, provider, cuda_graphs=provider == "cuda"), condition)


def refuse_unproven(export: OpenExport, runner: Runner, device: str, find_gpu: FindGpu = tensorrt_place) -> None:
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
