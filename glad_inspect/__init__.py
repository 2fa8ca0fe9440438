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

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glad_inspect.annotations import CocoExport, label_studio_task
    from glad_inspect.inspector import Inspector
    from glad_inspect.measured import EvaluatedBundle, TrainedBundle
    from glad_inspect.offline import TrainingUnavailable
    from glad_inspect.result import ImageQuality, InspectionResult

_OURS = Path(__file__).resolve().parent.parent
__all__ = [
    "CocoExport",
    "EvaluatedBundle",
    "ImageQuality",
    "InspectionResult",
    "Inspector",
    "TrainedBundle",
    "TrainingUnavailable",
    "evaluate",
    "label_studio_task",
    "load",
    "train",
]


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
        ImportError: if a file of yours is in the way of our package `glad` or `model_store`: it names the file.
    """
    _find_our_own()
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


def train(
    recipe: str | Path,
    data: str | Path,
    *,
    product: str | None = None,
    version: str | None = None,
    title: str = "",
    out: str | Path = "bundles",
    run: str | Path | None = None,
    confidence: float | None = None,
    changes: Mapping[str, Any] | None = None,
    smallest_defect: int | None = None,
    export: bool | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> TrainedBundle:
    """Train a product's models on good images alone, find its thresholds, and write a bundle, as `glad train` does.

        trained = glad.train("light", "my-product/", version="1")
        print(trained.folder, trained.thresholds.fail, trained.promise)

    Other processes help; a program that calls this from its main module does so under `if __name__ == "__main__":`.

    Args:
        recipe: light, nano, a .toml file, or my-product: light, with what the images propose, in RUN/recipe.toml.
        data: the folder of good images: DIR/train/good, or DIR itself; or a class of a published data set.
        product: its name; None: the data folder's.
        version: the bundle's; None: the time, such as 20261123-2359.
        title: what people call the product.
        out: the bundle becomes OUT/PRODUCT/VERSION.
        run: folder of checkpoints; the same folder resumes. None: runs/PRODUCT.
        confidence: that no more good parts are rejected than promised; None: the recipe's.
        changes: of single values of the recipe, such as {"unet.steps": 900}.
        smallest_defect: that is to be found, in pixels of the images: my-product cuts tiles if it must.
        export: also for ONNX Runtime; None: for recipes such as light.
        workers: processes; None: one per core; 1: this one alone.
        progress: print what is being done; False: nothing.

    Raises:
        TrainingUnavailable: if the extra `train` is not installed, or another package is called `training` here.
        ValueError: if recipe, data or names cannot be used: see its text.
        BundleError, OSError: if the bundle cannot be written.
    """
    from glad_inspect import offline

    return offline.train(
        recipe,
        data,
        product=product,
        version=version,
        title=title,
        out=out,
        run=run,
        confidence=confidence,
        changes=changes or {},
        smallest_defect=smallest_defect,
        export=export,
        workers=workers,
        progress=progress,
    )


def evaluate(
    bundle: str | Path,
    data: str | Path,
    *,
    version: str | None = None,
    store: str | Path | None = None,
    yardstick: bool = True,
    report: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> EvaluatedBundle:
    """Measure a bundle by its own thresholds on labelled images, as `glad evaluate` does; figures have intervals.

        measured = glad.evaluate("bracket", "my-product/")
        print(measured.metrics.image_auroc, measured.metrics.false_rejects)

    Other processes help; a program that calls this from its main module does so under `if __name__ == "__main__":`.

    Args:
        bundle: as for `load`.
        data: DIR/test/good, DIR/test/<defect>; masks in DIR/ground_truth; or a class of a published data set.
        version: as for `load`.
        store: as for `load`.
        yardstick: learn from DIR's good images what a pretrained network gives without training, to compare with.
        report: a JSON file to write; .csv, .md and .html lie beside it.
        workers: processes; None: one per core; 1: this one alone.
        progress: print what is being done; False: nothing.

    Raises:
        TrainingUnavailable: if the extra `train` is not installed, or another package is called `training` here.
        StoreError, BundleError: as for `load`.
        ValueError: if the data cannot be used: see its text.
    """
    from glad_inspect import offline

    return offline.evaluate(
        bundle,
        data,
        version=version,
        store=store,
        yardstick=yardstick,
        report=report,
        workers=workers,
        progress=progress,
    )


_CLASSES = {
    "CocoExport": "glad_inspect.annotations",
    "label_studio_task": "glad_inspect.annotations",
    "EvaluatedBundle": "glad_inspect.measured",
    "ImageQuality": "glad_inspect.result",
    "InspectionResult": "glad_inspect.result",
    "Inspector": "glad_inspect.inspector",
    "TrainedBundle": "glad_inspect.measured",
    "TrainingUnavailable": "glad_inspect.offline",
}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for: an inspector needs torch, a result NumPy and Pillow."""
    if name in _CLASSES:
        _find_our_own()
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it has {', '.join(__all__)}")


def _find_our_own() -> None:
    """Make sure that our packages `glad` and `model_store` are the ones that Python finds.

    A program's own folder comes first on Python's path, so a `glad.py` in it stands for our package of that name.

    Raises:
        ImportError: if another file is found; the message names it.
    """
    for name in ("glad", "model_store"):
        found = file_in_the_way(name)
        if found is not None:
            raise ImportError(
                f"{found} is in the way: Python finds it before the package {name} of glad-inspect, which lies in "
                f"{_OURS}. Rename it, or start your program from another folder",
                name=name,
                path=found,
            )


def file_in_the_way(name: str) -> str | None:
    """Return the file that Python finds in place of our package of this name; None if it finds ours, or none."""
    spec = None if name in sys.modules else find_spec(name)
    found: str | None = getattr(sys.modules.get(name, spec), "__file__" if name in sys.modules else "origin", None)
    return None if found is None or Path(found).resolve() == _OURS / name / "__init__.py" else found
