"""The files beside those of an export: the report of its parity, its pages, and the manifest that makes it one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from model_store.bundle import Bundle
from model_store.engines.backends import FindGpu
from model_store.engines.export_manifest import (
    EXPORT_NAME,
    PARITY_NAME,
    Export,
    ExportedPart,
    ExportEngine,
    ExportShapes,
    exported_components,
)
from model_store.engines.onnx import Provider, onnx_runtime
from model_store.engines.openvino import openvino_version
from model_store.files import hash_file, hidden_sibling, sync_folder, write_file
from training.export.parity import Parity
from training.export.parity_page import ComparedEngines, verdict, write_page

LIBRARIES = ("glad-inspect", "torch", "onnx")


@dataclass(frozen=True)
class ExportOrigin:
    """The engine and the software that make and run an export."""

    engine: ExportEngine
    software: Mapping[str, str]
    """Name -> version."""
    device: str | None = None
    """TensorRT: the only device that the engines run on."""

    @classmethod
    def detect(cls, engine: ExportEngine, device: str, find_gpu: FindGpu, providers: Collection[Provider] = ()) -> Self:
        """Return the engine and the software of this installation.

        Raises:
            EngineUnusable: if the engine cannot run here.
        """
        software = {name: version(name) for name in LIBRARIES}
        if engine == "onnx":
            openvino = {"openvino": openvino_version()} if "openvino" in providers else {}
            return cls(engine, {**software, "onnxruntime": onnx_runtime().__version__, **openvino})
        place = find_gpu(device)
        return cls(engine, {**software, "tensorrt": place.library.__version__}, place.device.name)


def write_parity(parities: Sequence[Parity], folder: Path, origin: ExportOrigin) -> None:
    """Write parity.json over all ways to run the export, and a page of each; what lay there before is replaced."""
    entries = [{**parity.as_json(), "software": dict(origin.software)} for parity in parities]
    (folder / PARITY_NAME).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    for parity in parities:
        write_page(parity, compared(parity, origin.software), folder / page_name(parity))


def compared(parity: Parity, software: Mapping[str, str]) -> ComparedEngines:
    """Return the names of the two engines, for readers."""
    runner = parity.runner
    engine = {"tensorrt": "TensorRT", "openvino": "OpenVINO"}.get(
        runner.requested_as, f"ONNX Runtime, {runner.provider}"
    )
    return ComparedEngines("PyTorch", engine, software)


def parity_sentence(parity: Parity) -> str:
    """Return the outcome in a sentence."""
    return verdict(parity, compared(parity, {}))


def page_name(parity: Parity) -> str:
    """Return the name of the page of one comparison."""
    return f"parity.{parity.runner}.html"


def write_export(
    folder: Path,
    bundle: Bundle,
    parts: tuple[ExportedPart, ...],
    shapes: ExportShapes,
    parities: Sequence[Parity],
    *,
    report: Path,
    command: str,
    origin: ExportOrigin,
) -> None:
    """Write the proof and the manifest beside the files, which makes them an export."""
    for name in (PARITY_NAME, *(page_name(parity) for parity in parities)):
        write_file(folder / name, (report / name).read_bytes())
    components = exported_components([part.part for part in parts], shapes)
    manifest = Export(
        engine=origin.engine,
        bundle=bundle.hash,
        product=bundle.manifest.product,
        version=bundle.manifest.version,
        command=command,
        shapes=shapes,
        components=components if len(components) < len(shapes.component_parts) else (),
        parts=parts,
        proofs=tuple(parity.proof for parity in parities),
        parity=hash_file(folder / PARITY_NAME),
        software=dict(origin.software),
        device=origin.device,
    )
    write_file(folder / EXPORT_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
    sync_folder(folder)


def replace_export(made: Path, target: Path) -> None:
    """Put the new export in the older one's place.

    Readers of the older one keep its open files until they close them.
    """
    old = hidden_sibling(target)
    if target.exists():
        os.rename(target, old)
    os.rename(made, target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)
