"""Images of many tiles in the worker: the same scores as without a server, beside others, whatever happens."""

from __future__ import annotations

import io
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glad.image_codec import MAX_PIXELS, decode_image
from glad.models import Models
from model_store.inspection import inspect
from model_store.store import Store
from service.contract import State
from service.queue import keys
from service.worker.bundle_cache import BundleCache, LoadedBundle
from service.worker.picture_codec import PreparedInspection, prepare_inspection, render_pictures
from service.worker.runner import DeviceResult, NotFinite, Runner
from service.worker.scheduler import Scheduler
from tests.service.worker.conftest import png
from tests.support.processes import eventually
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.worker_fleet import WorkerFleet

TILES = {"kind": "tiles", "side": 64, "overlap": 16}
LARGE = png(1, width=150, height=110)  # (150 - 16) / 48 = 2.8 by (110 - 16) / 48 = 1.96: 3 by 2 tiles


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    store = tmp_path_factory.mktemp("tiled")
    make_tiny_bundle(store, framing=TILES)
    return BundleCache(Store(store), "cpu", capacity=1).get("toy", "1", Store(store).resolve("toy").hash)


def served(runner: Runner, jobs: dict[str, PreparedInspection], lanes: int) -> dict[str, DeviceResult]:
    """Admits, steps and finishes as the engine does, until all are done."""
    scheduler = Scheduler(lanes, buffer=8, storing=99)
    found: dict[str, DeviceResult] = {}
    for job, prepared in jobs.items():
        scheduler.add(job)
        scheduler.mark_ready(job, prepared.bundle.group, len(prepared.framed.tiles))
    while len(found) < len(jobs):
        while (admitted := scheduler.assign_lane()) is not None:
            runner.start_tile(admitted, jobs[admitted])
        turn = scheduler.next_turn()
        assert turn is not None
        stepped = runner.step(turn.group, turn.jobs)
        assert not stepped.failed
        assert stepped.lanes <= lanes
        for freed in stepped.freed:
            scheduler.free_lane(freed)
        for finished in stepped.finished:
            found[finished] = runner.finish(finished)
            runner.release(finished)
            scheduler.mark_storing(finished)
    return found


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_a_tiled_image_gets_what_inspect_gives_alone_and_beside_others(tiled: LoadedBundle, lanes: int) -> None:
    files = {"large": LARGE, "small": png(2, 64, 64), "other": png(3, width=100, height=64)}
    runner = Runner("cpu", lanes)
    found = served(runner, {job: prepare_inspection(file, tiled, MAX_PIXELS) for job, file in files.items()}, lanes)
    for job, file in files.items():
        (expected,) = inspect([decode_image(file).pixels], tiled.models, tiled.settings)
        assert found[job].score == pytest.approx(expected.score, rel=1e-5)
        assert found[job].lane.denoising_step == expected.lane.denoising_step
        assert found[job].lane.comparisons == expected.lane.comparisons
        np.testing.assert_allclose(found[job].map, expected.map, atol=1e-4)
        assert found[job].lane.unet_evaluations == len(prepare_inspection(file, tiled, MAX_PIXELS).framed.tiles) * 5
    assert runner._blocks == {}


def test_pictures_and_regions_of_a_tiled_image_are_in_the_originals_place(tiled: LoadedBundle) -> None:
    prepared = prepare_inspection(LARGE, tiled, MAX_PIXELS)
    found = served(Runner("cpu", 4), {"large": prepared}, 4)["large"]
    rendered = render_pictures(prepared, found.map, found.reconstruction, pixel_threshold=1e-9, at_once=True)
    assert np.load(io.BytesIO(rendered.files["map.npy"])).shape == (110, 150)
    for name in ("heatmap.png", "overlay.png", "reconstruction.png", "mask.png"):
        assert decode_image(rendered.files[name]).pixels.shape == (110, 150, 3)
    assert rendered.regions[0].box == (0, 0, 150, 110)
    shown = np.load(io.BytesIO(rendered.files["map.npy"]))  # of the original's size here: its pixels are the original's
    assert shown[rendered.hottest.y, rendered.hottest.x] == rendered.hottest.peak == shown.max()


class Unwell:
    """A denoiser that goes astray on the lane that is stepped as the n-th."""

    def __init__(self, healthy: Models, call: int, *, raises: bool) -> None:
        self._healthy, self._left, self._raises = healthy.denoiser, call, raises

    def __call__(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditions: torch.Tensor | None = None
    ) -> torch.Tensor:
        self._left -= 1
        if self._left < 0 and self._raises:
            raise RuntimeError("kernel failed")
        return self._healthy(latents, timesteps) * (float("nan") if self._left < 0 else 1.0)


@pytest.mark.parametrize(("raises", "told"), [(True, "kernel failed"), (False, "NaN or infinity in latent")])
def test_one_tiles_failure_is_the_jobs_and_frees_all_its_lanes(tiled: LoadedBundle, raises: bool, told: str) -> None:
    unwell = Unwell(tiled.models, 7, raises=raises)  # the first two tiles walk their five steps, the next ones do not
    bundle = replace(tiled, models=replace(tiled.models, denoiser=unwell))
    prepared = prepare_inspection(LARGE, bundle, MAX_PIXELS)
    runner = Runner("cpu", lanes=2)
    for _ in range(2):
        runner.start_tile("large", prepared)
    failed: dict[str, Exception] = {}
    while not failed:
        stepped = runner.step(bundle.group, ["large"])
        failed |= stepped.failed
        for _ in stepped.freed:
            runner.start_tile("large", prepared)
    assert told in str(failed["large"])
    assert raises or isinstance(failed["large"], NotFinite)
    runner.release("large")
    assert runner._blocks == {}


def test_an_image_of_which_zones_leave_nothing_fails_with_that_reason(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    everything = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    make_tiny_bundle(fleet.store, zones={"ignore": [{"points": everything}]})
    fleet.worker()
    (result,) = fleet.ended(fleet.accept([png(1)]))
    assert result.state is State.FAILED
    assert result.error is not None
    assert result.error.code == "image_not_inspectable"
    assert "zones leave nothing of an image of 96×64 pixels" in result.error.detail


def test_a_worker_serves_images_of_one_and_of_many_tiles_together(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, framing=TILES)
    small = [png(seed, 64, 64) for seed in range(5)]
    fleet.worker(GLAD_LANES="2")
    results = fleet.ended(fleet.accept([LARGE, *small, LARGE]))
    assert {result.state for result in results} == {State.DONE}
    assert results[0].unet_evaluations == 6 * 5
    assert {result.unet_evaluations for result in results[1:-1]} == {5}
    assert results[-1].score == pytest.approx(results[0].score, rel=1e-5)


def test_a_worker_that_is_told_to_stop_at_once_hands_back_its_half_done_tiles(
    fleet: WorkerFleet, tmp_path: Path
) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, framing=TILES, start=500, steps=250)
    ids = fleet.accept([LARGE])
    worker = fleet.worker(GLAD_LANES="2")
    eventually(lambda: fleet.client.zcard(keys.PoolKeys("default").leases) == 1)
    worker.signal(signal.SIGTERM)
    eventually(lambda: "draining" in worker.log.read_text())
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert fleet.results(ids)[0].state is State.QUEUED
    assert fleet.client.zcard(keys.PoolKeys("default").leases) == 0
