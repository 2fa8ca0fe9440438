"""GLAD Inspect: judge images of factory products in Python.

    import glad_inspect as glad

    inspector = glad.load("bracket")      # a product of the store, or a bundle's folder
    result = inspector("part.png")        # a path, bytes, a PIL image, or an array (H, W, 3) uint8
    print(result.verdict, result.score, result.regions, result.quality)
    result.overlay.save("overlay.png")

An image is judged as the service judges it: by the same quality gate, framing, zones and thresholds. Torch is imported
by `load`, not before. What stands in `__all__` is public and follows semantic versioning; all other packages of this
distribution are its inside.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glad_inspect.annotations import CocoExport, label_studio_task
    from glad_inspect.inspector import Inspector
    from glad_inspect.result import ImageQuality, InspectionResult

__all__ = ["CocoExport", "ImageQuality", "InspectionResult", "Inspector", "label_studio_task", "load"]


def load(
    bundle: str | Path,
    *,
    version: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    store: str | Path | None = None,
) -> Inspector:
    """Return an inspector of a product.

    Args:
        bundle: the name of a product of the store, `product/version`, or a bundle's folder. A product is judged by the
            thresholds and the quality gate that are in force in the store; a folder by its own.
        version: of the product; None: the active one. A folder has only its own.
        device: auto, cpu, cuda or cuda:N; auto: a GPU if there is one. None: GLAD_DEVICE, else auto.
        engine: torch, onnx, openvino, tensorrt, or auto: the first that the bundle has an export for. None:
            GLAD_ENGINE, else torch, on which thresholds are measured.
        store: the store's folder; None: GLAD_STORE, else `store` in GLAD_DATA_DIR or in the default data folder.
            The bundles that come with this distribution are in every store.

    Raises:
        StoreError: if the store has no such product or version, or it cannot be read.
        BundleError: if the bundle is damaged, or not signed where the store asks for that.
        EngineUnusable: if the engine cannot run this bundle here.
        ModelLoadError, ModelsDoNotFit: if its weights do not load.
        ValueError: for a device or an engine that there is not, or a bundle without thresholds.
    """
    from glad_inspect.inspector import load_inspector
    from model_store.cli.common import find_store
    from model_store.engines.engine_spec import EngineSpec, offline_engine_spec
    from model_store.engines.loading import choose_device, device_of_environment

    return load_inspector(
        bundle,
        version=version,
        device=device_of_environment() if device is None else choose_device(device),
        engine=offline_engine_spec() if engine is None else EngineSpec.parse(engine),
        store=find_store(store),
    )


_CLASSES = {
    "CocoExport": "glad_inspect.annotations",
    "label_studio_task": "glad_inspect.annotations",
    "ImageQuality": "glad_inspect.result",
    "InspectionResult": "glad_inspect.result",
    "Inspector": "glad_inspect.inspector",
}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for: an inspector needs torch, a result NumPy and Pillow."""
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it has {', '.join(__all__)}")
