"""The runner on real, tiny models: the same as the offline loop, whoever the neighbours are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glad.batching import BatchSizes
from glad.image_codec import MAX_PIXELS
from glad.models import Models, PixelModels
from glad.protocols import Condition, Denoiser
from glad.reconstruct import reconstruct
from glad.scoring import anomaly_map, image_scores
from model_store.engines.loading import load
from model_store.store import Store
from service.worker.bundle_cache import BundleCache, BundleUnavailable, LoadedBundle, _group
from service.worker.picture_codec import PreparedInspection, prepare_inspection, render_pictures
from service.worker.runner import DeviceResult, NotFinite, Runner
from tests.glad.toys import PixelFeatures, PlainAutoencoder, ToyDenoiser, drifting
from tests.service.worker.conftest import png
from tests.support.tiny_bundle import make_tiny_bundle, pixel_models


def walk(runner: Runner, group: str, jobs: Sequence[str]) -> dict[str, DeviceResult]:
    """Steps the jobs to their ends, releasing each as the engine does."""
    found, walking = {}, list(jobs)
    while walking:
        stepped = runner.step(group, walking)
        assert not stepped.failed
        for job in stepped.finished:
            found[job] = runner.finish(job)
            runner.release(job)
            walking.remove(job)
    return found


def alone(prepared: PreparedInspection, lanes: int = 8) -> DeviceResult:
    """What a fresh runner finds in one image."""
    runner = Runner("cpu", lanes)
    runner.start_tile("only", prepared)
    return walk(runner, prepared.bundle.group, ["only"])["only"]


def test_an_image_gets_what_the_offline_loop_gives(toy: LoadedBundle, store_folder: Path) -> None:
    prepared = prepare_inspection(png(1), toy, MAX_PIXELS)
    found = alone(prepared)

    square = prepared.framed.model_input(prepared.framed.tiles[0])
    image = torch.from_numpy(square.image)[None]
    valid = torch.from_numpy(prepared.framed.layout.placement.valid_pixels())[None]
    offline = reconstruct(
        image,
        torch.from_numpy(square.noise)[None],
        toy.models,
        toy.settings,
        valid=torch.from_numpy(square.inspected_patches)[None],
    )
    features = pixel_models(load(Store(store_folder).resolve("toy").open()).parts).features
    expected = anomaly_map(image, offline.images, features, toy.settings.score, valid)
    assert np.array_equal(found.map, expected[0].numpy())
    assert found.score == float(image_scores(expected, toy.settings.score, valid)[0])
    assert found.lane == offline.lanes[0]


def test_the_score_is_bit_equal_on_a_second_worker(toy: LoadedBundle) -> None:
    one, other = (alone(prepare_inspection(png(2), toy, MAX_PIXELS)) for _ in range(2))
    assert one.score == other.score
    assert np.array_equal(one.map, other.map)
    assert one.reconstruction is not None
    assert other.reconstruction is not None
    assert np.array_equal(one.reconstruction, other.reconstruction)


def test_the_score_is_bit_equal_alone_or_among_eight(toy: LoadedBundle) -> None:
    prepared = {f"image-{seed}": prepare_inspection(png(seed), toy, MAX_PIXELS) for seed in range(8)}
    runner = Runner("cpu", lanes=8)
    for job, one in prepared.items():
        runner.start_tile(job, one)
    together = walk(runner, toy.group, list(prepared))
    for job, one in prepared.items():
        by_itself = alone(one)
        assert together[job].score == by_itself.score
        assert together[job].lane == by_itself.lane


def test_the_score_is_bit_equal_where_the_call_shape_is_the_same(toy: LoadedBundle) -> None:
    """Eight lanes with other neighbours, in another slot, started at another time."""
    subject = prepare_inspection(png(50), toy, MAX_PIXELS)
    scores = []
    for place, first_neighbour in ((0, 100), (5, 200)):
        runner = Runner("cpu", lanes=8)
        jobs = [f"neighbour-{number}" for number in range(7)]
        jobs.insert(place, "subject")
        for number, job in enumerate(jobs):
            runner.start_tile(
                job, subject if job == "subject" else prepare_inspection(png(first_neighbour + number), toy, MAX_PIXELS)
            )
        scores.append(walk(runner, toy.group, jobs)["subject"].score)
    assert scores[0] == scores[1]


def test_an_image_that_enters_late_gets_the_same_score(toy: LoadedBundle) -> None:
    early, late = prepare_inspection(png(3), toy, MAX_PIXELS), prepare_inspection(png(4), toy, MAX_PIXELS)
    runner = Runner("cpu", lanes=2)
    runner.start_tile("early", early)
    runner.step(toy.group, ["early"])
    runner.step(toy.group, ["early"])
    runner.start_tile("late", late)
    found = walk(runner, toy.group, ["early", "late"])
    assert found["early"].score == alone(early).score
    assert found["late"].score == alone(late).score


@dataclass(frozen=True)
class Sick:
    """A denoiser that goes astray, in its own way, on the latents that it is told."""

    healthy: Denoiser
    lanes: Tensor
    """(h, w) of the first channel of the latents' noise: which lane is sick is seen by its content."""
    raises: bool

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        sick = (latents[:, 0] - self.lanes).abs().amax((1, 2)) < 1e-6
        if self.raises and bool(sick.any()):
            raise RuntimeError("kernel failed")
        return torch.where(sick[:, None, None, None], torch.nan, self.healthy(latents, timesteps))


def with_a_sick_lane(runner: Runner, toy: LoadedBundle, prepared: PreparedInspection, *, raises: bool) -> LoadedBundle:
    """The toy bundle with a denoiser that fails at the first step of this image."""
    probe = Runner("cpu", 1)
    probe.start_tile("probe", prepared)
    start = probe._blocks[toy.group].generated[0, 0].clone()
    models = replace(toy.models, denoiser=Sick(toy.models.denoiser, start, raises))
    return replace_models(toy, models)


def replace_models(bundle: LoadedBundle, models: Models) -> LoadedBundle:
    return replace(bundle, models=models)


@pytest.fixture
def runner() -> Runner:
    return Runner("cpu", lanes=4)


def test_an_image_whose_model_raises_fails_alone(runner: Runner, toy: LoadedBundle) -> None:
    healthy = [prepare_inspection(png(seed), toy, MAX_PIXELS) for seed in (5, 6)]
    poisoned = prepare_inspection(png(7), toy, MAX_PIXELS)
    bundle = with_a_sick_lane(runner, toy, poisoned, raises=True)
    for job, one in (("a", healthy[0]), ("poison", poisoned), ("b", healthy[1])):
        runner.start_tile(job, replace(one, bundle=bundle))
    stepped = runner.step(toy.group, ["a", "poison", "b"])
    assert {job: str(error) for job, error in stepped.failed.items()} == {"poison": "kernel failed"}
    runner.release("poison")
    found = walk(runner, toy.group, ["a", "b"])
    for job, one in zip("ab", healthy, strict=True):
        assert found[job].score == pytest.approx(alone(one).score, rel=1e-4)


def test_an_image_whose_model_gives_nan_fails_and_its_neighbour_does_not(runner: Runner, toy: LoadedBundle) -> None:
    healthy, sick = prepare_inspection(png(8), toy, MAX_PIXELS), prepare_inspection(png(9), toy, MAX_PIXELS)
    bundle = with_a_sick_lane(runner, toy, sick, raises=False)
    runner.start_tile("healthy", replace(healthy, bundle=bundle))
    runner.start_tile("sick", replace(sick, bundle=bundle))
    finished: list[str] = []
    while len(finished) < 2:
        finished += runner.step(toy.group, [job for job in ("healthy", "sick") if job not in finished]).finished
    with pytest.raises(NotFinite, match="NaN or infinity in latent"):
        runner.finish("sick")
    assert runner.finish("healthy").score == pytest.approx(alone(healthy).score, rel=1e-4)


@dataclass(frozen=True)
class Cramped:
    """A denoiser on a device where only so many lanes fit."""

    inner: Denoiser
    fits: int

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        if len(latents) > self.fits:
            raise torch.OutOfMemoryError("no memory for so many lanes")
        return self.inner(latents, timesteps, conditions)


def test_a_full_device_gets_smaller_calls_and_every_image_its_score(runner: Runner, toy: LoadedBundle) -> None:
    models = replace(toy.models, denoiser=Cramped(toy.models.denoiser, fits=2))
    prepared = {f"{seed}": prepare_inspection(png(seed), toy, MAX_PIXELS) for seed in range(4)}
    for job, one in prepared.items():
        runner.start_tile(job, replace(one, bundle=replace_models(toy, models)))
    found = walk(runner, toy.group, list(prepared))
    for job, one in prepared.items():
        assert found[job].score == pytest.approx(alone(one).score, rel=1e-4)


def test_an_image_that_never_fits_the_device_fails_with_that_reason(runner: Runner, toy: LoadedBundle) -> None:
    models = replace(toy.models, denoiser=Cramped(toy.models.denoiser, fits=0))
    runner.start_tile("a", replace(prepare_inspection(png(1), toy, MAX_PIXELS), bundle=replace_models(toy, models)))
    assert isinstance(runner.step(toy.group, ["a"]).failed["a"], torch.OutOfMemoryError)


def test_lanes_are_free_again_after_release(runner: Runner, toy: LoadedBundle) -> None:
    for _ in range(3):
        for job in "abcd":
            runner.start_tile(job, prepare_inspection(png(1), toy, MAX_PIXELS))
        for job in "abcd":
            runner.release(job)
    assert runner._blocks == {}


def test_the_warm_up_makes_the_calls_of_an_inspection_in_every_size(toy: LoadedBundle) -> None:
    features, runner = PixelFeatures(patch=8), Runner("cpu", lanes=4)
    models = PixelModels(PlainAutoencoder(), ToyDenoiser(drifting), features).assemble()
    runner._batch_sizes = BatchSizes(denoiser=(4,), comparator=(1, 2, 4))  # as on a GPU
    assert list(runner.warm(replace_models(toy, models))) == ["images x 1", "images x 2", "images x 4", "denoiser x 4"]
    # Two versions are compared, then an image and its reconstruction: at size 1 in two calls each, at 2 and 4 in one.
    assert features.batches == [1, 1, 1, 1, 2, 2, 4, 4]
    of_trigger, of_score = (toy.settings.trigger_layer,), tuple(toy.settings.score.layers)
    assert features.asked == [of_trigger, of_trigger, of_score, of_score, of_trigger, of_score, of_trigger, of_score]


def test_pictures_keep_the_aspect_of_the_original_and_leave_out_the_padding(toy: LoadedBundle) -> None:
    prepared = prepare_inspection(png(1, width=96, height=48), toy, MAX_PIXELS)
    found = alone(prepared)
    rendered = render_pictures(prepared, found.map, found.reconstruction, pixel_threshold=1e-9, at_once=True)
    assert set(rendered.files) == {"heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy"}
    assert prepared.framed.layout.placement.restore(found.map).shape == (32, 64)
    assert rendered.regions[0].box[2] <= 96
    assert rendered.regions[0].box[3] <= 48


class TestBundleCache:
    def test_products_with_equal_weights_share_them_and_their_group(self, tmp_path: Path) -> None:
        for product in ("one", "two"):
            make_tiny_bundle(tmp_path, product=product)
        one, two = self.loaded(tmp_path, "one", "two")
        assert one.models == two.models
        assert one.models.denoiser is two.models.denoiser
        assert one.group == two.group

    def test_products_of_one_multi_class_model_share_calls_each_told_of_itself(self, tmp_path: Path) -> None:
        for prompt, product in enumerate(("one", "two")):
            make_tiny_bundle(tmp_path, product=product, prompt=prompt, guidance=3.0)
        one, two = self.loaded(tmp_path, "one", "two")
        assert one.group == two.group
        assert one.models.denoiser is two.models.denoiser

        prepared = {bundle.manifest.product: prepare_inspection(png(1), bundle, MAX_PIXELS) for bundle in (one, two)}
        runner = Runner("cpu", lanes=2)
        for job, own in prepared.items():
            runner.start_tile(job, own)
        together = walk(runner, one.group, list(prepared))
        # The same picture and noise: only what the UNet is told differs, and each lane is told its own.
        assert together["one"].score != pytest.approx(together["two"].score, rel=1e-3)
        for job, own in prepared.items():
            assert together[job].score == pytest.approx(alone(own).score, rel=1e-4)

    def test_a_guided_image_fits_where_only_calls_of_one_do(self, tmp_path: Path) -> None:
        make_tiny_bundle(tmp_path, product="one", prompt=1, guidance=3.0)
        (one,) = self.loaded(tmp_path, "one")
        prepared = prepare_inspection(png(1), one, MAX_PIXELS)
        cramped = replace(one.models, denoiser=Cramped(one.models.denoiser, fits=1))
        runner = Runner("cpu", lanes=4)
        runner.start_tile("a", replace(prepared, bundle=replace_models(one, cramped)))
        assert walk(runner, one.group, ["a"])["a"].score == pytest.approx(alone(prepared).score, rel=1e-4)

    def test_conditions_of_other_shapes_are_other_groups(self, tmp_path: Path) -> None:
        make_tiny_bundle(tmp_path, product="one", prompt=1)
        (one,) = self.loaded(tmp_path, "one")
        longer = torch.zeros(7, 8)
        bundle = Store(tmp_path).resolve("one").open()
        loaded = load(bundle)
        told = replace(loaded, parts=replace(pixel_models(loaded.parts), condition=Condition(longer, longer)))
        assert _group(bundle, told) != _group(bundle, loaded) == one.group

    def test_what_another_engine_runs_is_another_group(self, tmp_path: Path) -> None:
        make_tiny_bundle(tmp_path, product="one")
        bundle = Store(tmp_path).resolve("one").open()
        loaded = load(bundle)
        other = replace(loaded, identities={**loaded.identities, "unet": "onnx-cpu-float32 0123"})
        assert _group(bundle, other) != _group(bundle, loaded)

    def test_other_weights_sides_and_schedules_are_other_groups(self, tmp_path: Path) -> None:
        make_tiny_bundle(tmp_path, product="one")
        make_tiny_bundle(tmp_path, product="weights", seed=1)
        make_tiny_bundle(tmp_path, product="schedule", schedule={"beta_end": 0.013})
        assert len({bundle.group for bundle in self.loaded(tmp_path, "one", "weights", "schedule")}) == 3

    def test_more_bundles_stay_as_long_as_they_are_small_together(self, tmp_path: Path) -> None:
        products = ("one", "two", "three")
        for product in products:
            make_tiny_bundle(tmp_path, product=product, seed=len(product))
        store = Store(tmp_path)
        hashes = [store.resolve(product).hash for product in products]
        of_one = BundleCache(store, "cpu", 1).get("one", "1", hashes[0]).file_bytes
        assert of_one > 1000

        def kept(small_bytes: int) -> list[bool]:
            cache = BundleCache(store, "cpu", capacity=1, small_bytes=small_bytes)
            for product, digest in zip(products, hashes, strict=True):
                cache.get(product, "1", digest)
            return [cache.is_loaded(digest) for digest in hashes]

        assert kept(0) == [False, False, True]
        assert kept(5 * of_one // 2) == [False, True, True]
        assert kept(4 * of_one) == [True, True, True]

    def test_the_least_used_bundle_leaves_first(self, tmp_path: Path) -> None:
        for product in ("one", "two", "three"):
            make_tiny_bundle(tmp_path, product=product, seed=len(product))
        store = Store(tmp_path)
        hashes = {product: store.resolve(product).hash for product in store.products()}
        cache = BundleCache(store, "cpu", capacity=2)
        first = cache.get("one", "1", hashes["one"])
        cache.get("two", "1", hashes["two"])
        assert cache.get("one", "1", hashes["one"]) is first
        cache.get("three", "1", hashes["three"])
        assert cache.get("one", "1", hashes["one"]) is first

    def test_a_bundle_that_was_changed_on_disk_is_not_used(self, tmp_path: Path) -> None:
        weights = make_tiny_bundle(tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        store = Store(tmp_path)
        with pytest.raises(BundleUnavailable, match=r"bundle toy/1 .*expected SHA-256"):
            BundleCache(store, "cpu", 1).get("toy", "1", store.resolve("toy").hash)

    def test_a_bundle_other_than_the_pinned_one_is_not_used(self, tmp_path: Path) -> None:
        make_tiny_bundle(tmp_path)
        with pytest.raises(BundleUnavailable, match="the store has another bundle of that version"):
            BundleCache(Store(tmp_path), "cpu", 1).get("toy", "1", "0" * 64)

    def test_a_missing_bundle_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(BundleUnavailable, match="no product 'toy'"):
            BundleCache(Store(tmp_path), "cpu", 1).get("toy", "1", "0" * 64)

    @staticmethod
    def loaded(folder: Path, *products: str) -> list[LoadedBundle]:
        store = Store(folder)
        cache = BundleCache(store, "cpu", capacity=8)
        return [cache.get(product, "1", store.resolve(product).hash) for product in products]
