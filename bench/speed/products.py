"""`glad bench products`: what one more product costs a worker: memory, loading, and taking turns.

The products are copies of one bundle that share its backbone, as products of the recipe `light` do. Everything else is
their own: one value of each file of weights is changed, so that no other is equal by its hash. They have no thresholds,
which would be those of other weights. Each number of products has a process of its own, and a worker's cache with the
service's default limits.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from safetensors.numpy import load_file, save_file

from bench.support.process_watch import anonymous_mib
from model_store.bundle import Bundle, BundleParts, open_bundle, write_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.inspection import inspect
from model_store.manifest import WEIGHTS_NAME
from model_store.store import Store
from service.host.memory import keep_freed_memory
from service.settings import Settings
from service.worker.bundle_cache import BundleCache, LoadedBundle
from service.worker.main import fastest
from training.data.image_files import read_pixels
from training.progress import Progress

SHARED = ("backbone",)
ROUNDS = 5


@dataclass(frozen=True)
class ProductsPlan:
    """What to measure."""

    counts: tuple[int, ...]
    device: str = "cpu"
    engine: str = "torch"
    """Copies have no exports: those are proven for one bundle."""


@dataclass(frozen=True)
class ProductsFigures:
    """So many products in one worker."""

    products: int
    memory_mib: float
    """Anonymous memory of the process, all of them loaded and used."""
    device_mib: float | None
    """torch's memory of a GPU; None on a CPU."""
    first_load_ms: float
    """Of the first product, with what every process imports and opens once."""
    load_ms: float
    """The median of the others: hash, read, build. They load beside serving."""
    loads: int
    """How many bundles were loaded in all. As many as there are products: none had to be loaded again."""
    same_ms: float
    """An image after one of the same product, median."""
    turns_ms: float
    """An image after one of another product, median."""


def measure_products(
    bundle: Path, images: Sequence[Path], plan: ProductsPlan, progress: Progress
) -> tuple[float, tuple[ProductsFigures, ...]]:
    """Return the MiB of the weights that each product has of its own, in float32, and the figures of each count.

    Raises:
        BundleError: if the bundle cannot be opened.
    """
    source = open_bundle(bundle)
    found = []
    with tempfile.TemporaryDirectory(prefix="glad-bench-") as scratch:
        store = Path(scratch) / "store"
        for number in range(max(plan.counts)):
            _copy_with_own_head(source, Path(scratch) / f"product-{number}", store, number)
            progress("products made", number + 1, max(plan.counts))
        context = multiprocessing.get_context("spawn")
        for count in plan.counts:
            with context.Pool(1) as pool:
                found.append(pool.apply(_measured, (store, count, list(images), plan, torch.get_num_threads())))
            progress("products", count, max(plan.counts))
    return _own_mib(source), tuple(found)


def own_share(figures: Sequence[ProductsFigures], own_mib: float) -> float:
    """Return the memory that the largest count takes beyond the smallest and the further products' own weights.

    As a share of the smallest count's memory.
    """
    few, many = figures[0], figures[-1]
    beyond = many.memory_mib - few.memory_mib - (many.products - few.products) * own_mib
    return beyond / few.memory_mib


def _measured(store: Path, count: int, images: Sequence[Path], plan: ProductsPlan, threads: int) -> ProductsFigures:
    keep_freed_memory()  # as a worker does
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    torch.set_num_threads(threads)
    limits = Settings.model_fields
    loads = 0
    load = fastest(EngineSpec.parse(plan.engine), 1)

    def counted(bundle: Bundle, device: str) -> Any:
        nonlocal loads
        loads += 1
        return load(bundle, device)

    capacity, small = limits["max_bundles"].default, limits["small_bundles_bytes"].default
    opened, cache = Store(store), BundleCache(Store(store), plan.device, capacity, counted, small_bytes=small)
    references = [opened.resolve(f"product-{number}", "1") for number in range(count)]
    pixels, took = [read_pixels(path) for path in images], list[float]()

    def one(number: int, image: int) -> float:
        reference = references[number]
        began = time.perf_counter()
        loaded = cache.get(reference.product, reference.version, reference.hash)
        _inspect(loaded, pixels[image % len(pixels)], plan.device)
        return 1e3 * (time.perf_counter() - began)

    for reference in references:
        began = time.perf_counter()
        cache.get(reference.product, reference.version, reference.hash)
        took.append(1e3 * (time.perf_counter() - began))
    for number in range(count):
        one(number, 0)
    turns = list(itertools.islice(itertools.cycle(range(count)), ROUNDS * count))
    taking_turns = [one(number, image) for image, number in enumerate(turns)]
    same = [one(0, image) for image in range(len(turns))]
    return ProductsFigures(
        products=count,
        memory_mib=anonymous_mib(os.getpid()),
        device_mib=torch.cuda.memory_allocated(plan.device) / 2**20 if plan.device.startswith("cuda") else None,
        first_load_ms=took[0],
        load_ms=statistics.median(took[1:] or took),
        loads=loads,
        same_ms=statistics.median(same),
        turns_ms=statistics.median(taking_turns),
    )


def _inspect(loaded: LoadedBundle, pixels: Any, device: str) -> None:
    inspect([pixels], loaded.models, loaded.settings, device=device)


def _copy_with_own_head(source: Bundle, folder: Path, store: Path, number: int) -> None:
    """Write the bundle to the store as another product, every file of weights but the shared ones changed."""
    sources = dict(source.sources())
    for name, component in source.manifest.components.items():
        if name in SHARED:
            continue
        own = folder / name
        own.mkdir(parents=True)
        for file in sorted(source.component(name).iterdir()):
            if file.name == WEIGHTS_NAME[component.kind]:
                save_file(_changed(load_file(file), number), own / file.name, metadata={"format": "pt"})
            else:
                (own / file.name).write_bytes(file.read_bytes())
        sources[name] = type(sources[name])(own, component.kind, component.dtype, component.licence)
    manifest = source.manifest
    parts = {field.name: getattr(manifest, field.name) for field in fields(BundleParts)}
    product = f"product-{number}"
    changes = {"product": product, "version": "1", "calibration": None, "gate": None}
    write_bundle(store / product / "1", BundleParts(**{**parts, **changes}), sources)


def _changed(tensors: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the tensors with one float of the largest one moved a little, another way for each number."""
    changed = {name: np.array(values) for name, values in tensors.items()}
    floats = [name for name in changed if changed[name].dtype.kind == "f"]
    largest = max(floats, key=lambda name: changed[name].size)
    changed[largest].flat[0] += (number + 1) / 64
    return changed


def _own_mib(source: Bundle) -> float:
    """Return the size in float32 of a product's own weights."""
    numbers = 0
    for name, component in source.manifest.components.items():
        if name not in SHARED:
            tensors = load_file(source.component(name) / WEIGHTS_NAME[component.kind])
            numbers += sum(int(values.size) for values in tensors.values())
    return 4 * numbers / 2**20


def figures_json(own_mib: float, found: Sequence[ProductsFigures]) -> dict[str, Any]:
    """Return everything as JSON takes it."""
    return {
        "own_weights_mib": own_mib,
        "beyond_own_share": own_share(found, own_mib),
        "products": [asdict(one) for one in found],
    }
