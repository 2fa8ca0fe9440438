"""A bundle of the feature form, trained on tiny images with the real backbone, in the hands of the worker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from glad.feature_form import FeatureEncoder, FeatureScorer
from glad.image_codec import MAX_PIXELS
from model_store.engines.engine_spec import EngineSpec
from model_store.inspection import inspect
from model_store.store import Store
from service.worker.bundle_cache import BundleCache, LoadedBundle
from service.worker.main import fastest
from service.worker.picture_codec import prepare_inspection
from service.worker.runner import Runner
from tests.service.worker.test_tiles import served
from tests.support.bundles import new_version
from tests.support.feature_bundle import train_tiny_feature_bundle
from tests.support.processes import eventually
from tests.support.tiny_recipe import draw_parts
from tests.support.worker_fleet import WorkerFleet
from training.data.image_files import read_pixels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1; 2 has other settings; 3 cuts images into tiles."""
    folder = tmp_path_factory.mktemp("features")
    bundle = train_tiny_feature_bundle(folder, data)
    settings = bundle.manifest.settings
    tiles = {"kind": "tiles", "side": 16, "overlap": 4}
    new_version(bundle.path, folder / "part" / "2", settings=settings.changed(noise_seed=7))
    new_version(bundle.path, folder / "part" / "3", settings=settings.changed(framing=tiles))
    return folder


def loaded(cache: BundleCache, store: Path, version: str) -> LoadedBundle:
    return cache.get("part", version, Store(store).resolve("part", version).hash)


@pytest.mark.parametrize(("version", "tiles"), [("1", 1), ("3", 6)])
@pytest.mark.parametrize("lanes", [1, 4])
def test_the_worker_finds_what_inspect_finds(version: str, tiles: int, lanes: int, store: Path, data: Path) -> None:
    bundle = loaded(BundleCache(Store(store), "cpu", capacity=2), store, version)
    files = sorted((data / "test").rglob("*.png"))
    jobs = {str(file): prepare_inspection(file.read_bytes(), bundle, MAX_PIXELS) for file in files}
    assert {len(job.framed.tiles) for job in jobs.values()} == {tiles}
    found = served(Runner("cpu", lanes), jobs, lanes)
    expected = inspect([read_pixels(file) for file in files], bundle.models, bundle.settings)
    for file, one in zip(files, expected, strict=True):
        assert found[str(file)].score == pytest.approx(one.score, rel=1e-4)
        np.testing.assert_allclose(found[str(file)].map, one.map, rtol=1e-3, atol=1e-4)
        rebuilt = found[str(file)].reconstruction
        assert rebuilt is not None
        np.testing.assert_allclose(rebuilt.astype(int), one.reconstruction.astype(int), atol=1)


def test_versions_share_the_networks_that_are_equal(store: Path) -> None:
    cache = BundleCache(Store(store), "cpu", capacity=2)
    first, second = (loaded(cache, store, version) for version in ("1", "2"))
    encoders = [bundle.models.encoder for bundle in (first, second)]
    scorers = [bundle.models.scorer for bundle in (first, second)]
    assert all(isinstance(encoder, FeatureEncoder) for encoder in encoders)
    assert all(isinstance(scorer, FeatureScorer) for scorer in scorers)
    assert encoders[0] == encoders[1]  # the same backbone and latent space, not equal copies: modules have no equality
    assert scorers[0] == scorers[1]
    assert first.group == second.group


def test_the_warm_up_and_the_choice_of_an_engine_know_the_form(store: Path) -> None:
    cache = BundleCache(Store(store), "cpu", 1, fastest(EngineSpec(), lanes=2))
    bundle = loaded(cache, store, "1")
    assert bundle.engine == "torch-float32"  # nothing was exported
    assert list(Runner("cpu", lanes=2).warm(bundle)) == ["images x 1", "denoiser x 1"]


def first_version(store: Path, folder: Path) -> Path:
    """A store with that version alone, which cuts nothing into tiles."""
    shutil.copytree(store / "part" / "1", folder / "store" / "part" / "1")
    return folder / "store"


def files_of(fleet: WorkerFleet, inspection_id: str) -> set[str]:
    return {path.name for path in (fleet.folder / "artifacts").glob(f"*/{inspection_id}/*")}


def test_of_a_part_that_passes_the_reconstruction_is_drawn_when_somebody_asks(
    fleet: WorkerFleet, store: Path, data: Path, tmp_path: Path
) -> None:
    fleet.store = first_version(store, tmp_path)
    image = next((data / "test" / "good").iterdir()).read_bytes()
    passes, fails = ({"review": limit, "fail": limit, "pixel": 1.0} for limit in (100.0, 1e-9))
    on_demand: dict[str, Any] = {"pictures": "on_demand", "gate": False}
    worker = fleet.worker(GLAD_LOG_LEVEL="info")
    (passed,) = fleet.accept([image], "part", thresholds=passes, **on_demand)
    (failed,) = fleet.accept([image], "part", thresholds=fails, **on_demand)
    (always,) = fleet.accept([image], "part", thresholds=passes, pictures="always", gate=False)
    results = fleet.ended([passed, failed, always])
    assert [result.verdict for result in results] == ["pass", "fail", "pass"]
    everything = {"heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image"}
    assert all(set(result.artifacts) == everything for result in results)
    assert files_of(fleet, passed) == {"image", "drawing.npz"}
    assert files_of(fleet, failed) == files_of(fleet, always) == everything

    events = len(fleet.events())
    assert fleet.request_picture(passed) is None
    eventually(lambda: "reconstruction.png" in files_of(fleet, passed))
    assert fleet.artifact(passed, "reconstruction.png") == fleet.artifact(always, "reconstruction.png")
    eventually(lambda: "picture drawn" in worker.log.read_text())
    assert (len(fleet.events()), fleet.results([passed])) == (events, results[:1])
    port = json.loads(next(line for line in worker.log.read_text().splitlines() if "worker ready" in line))["port"]
    counted = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    inspected = [line for line in counted.splitlines() if line.startswith("glad_inspections_completed_total{")]
    assert sum(float(line.split()[-1]) for line in inspected) == 3


def test_a_picture_that_cannot_be_drawn_says_why(fleet: WorkerFleet, store: Path, data: Path, tmp_path: Path) -> None:
    fleet.store = first_version(store, tmp_path)
    image = next((data / "test" / "good").iterdir()).read_bytes()
    passes = {"review": 100.0, "fail": 100.0, "pixel": 1.0}
    (passed,) = fleet.accept([image], "part", thresholds=passes, pictures="on_demand", gate=False)
    first = fleet.worker()
    fleet.ended([passed])
    first.kill()
    shutil.rmtree(fleet.store / "part")
    fleet.worker()
    assert fleet.request_picture(passed) is None
    eventually(lambda: fleet.request_picture(passed) is not None)
    assert "part" in (fleet.request_picture(passed) or "")
    assert files_of(fleet, passed) == {"image", "drawing.npz"}
