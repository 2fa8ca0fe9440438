"""Real worker processes on a real Redis: what is accepted ends, once, and with the same result whatever happens."""

from __future__ import annotations

import io
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.contract import ArtifactName, Result, State, Verdict
from service.queue import keys, schema
from service.storage.artifacts import ArtifactStore
from tests.service.worker.conftest import RedisServer, png
from tests.support.nursery import Worker
from tests.support.odd_models import ALLERGIC
from tests.support.plant import Plant
from tests.support.processes import eventually
from tests.support.tiny_bundle import make_tiny_bundle

PICTURES: tuple[ArtifactName, ...] = ("heatmap.png", "overlay.png", "reconstruction.png", "mask.png")


def flat(colour: tuple[int, int, int]) -> bytes:
    """An image of one colour."""
    target = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(target, "PNG")
    return target.getvalue()


WHITE, BLACK, RED = flat((255, 255, 255)), flat((0, 0, 0)), flat((255, 0, 0))


def assert_same(result: Result, expected: Result) -> None:
    """The same finding: bit-equal where call shapes were, else within 1e-4; the same verdict and way."""
    assert result.verdict == expected.verdict
    assert result.score == pytest.approx(expected.score, rel=1e-4)
    assert result.denoising_step == expected.denoising_step
    assert result.unet_evaluations == expected.unet_evaluations
    assert len(result.regions) == len(expected.regions)


def test_200_inspections_survive_three_kills_none_lost_none_twice(plant: Plant, tmp_path: Path) -> None:
    plant.store = tmp_path / "store"
    make_tiny_bundle(plant.store, resolution=32, steps=2, t_min=100, trigger={"delta": 0.05})
    images = [png(seed, width=32, height=32) for seed in range(20)]
    undisturbed = plant.worker()
    expected = plant.ended(plant.accept(images))
    undisturbed.signal(signal.SIGTERM)
    assert undisturbed.wait() == 0
    before = len(plant.events())

    ids = plant.accept(images * 10)
    for kills in range(3):
        worker = plant.worker()
        eventually(lambda goal=40 * (kills + 1): plant.count_ended(ids) >= goal)  # type: ignore[misc]
        worker.kill()
    assert plant.count_ended(ids) < 200
    plant.worker()
    results = plant.ended(ids)

    assert [result.state for result in results] == [State.DONE] * 200
    for number, result in enumerate(results):
        assert_same(result, expected[number % 20])
    events = plant.events()[before:]
    assert sorted(event.inspection_id for event in events) == sorted(ids)
    assert max(result.attempts for result in results) > 1
    assert plant.client.xlen(keys.PoolKeys("default").dead) == 0


def test_a_score_is_bit_equal_on_a_second_worker(plant: Plant) -> None:
    """Alone in one process, alone in another."""
    scores = []
    for _ in range(2):
        worker = plant.worker()
        scores.append(plant.ended(plant.accept([png(1)]))[0].score)
        worker.kill()
    assert scores[0] is not None
    assert scores[0] == scores[1]


def test_a_result_is_the_same_alone_or_among_eight(plant: Plant) -> None:
    plant.worker(GLAD_LANES="8")
    (alone,) = plant.ended(plant.accept([png(1)]))
    among = plant.ended(plant.accept([png(seed) for seed in range(8)]))[1]
    assert_same(among, alone)


def test_an_image_that_kills_its_worker_is_given_up_and_its_neighbours_are_not(plant: Plant) -> None:
    images = [png(seed) for seed in range(6)]
    images.insert(3, WHITE)
    ids = plant.accept(images)
    worker = plant.worker(odd=True, GLAD_MAX_DEATHS="2")
    for _ in range(20):
        eventually(lambda: not worker.running or plant.count_ended(ids) == len(ids))  # noqa: B023
        if plant.count_ended(ids) == len(ids):
            break
        worker = plant.worker(odd=True, GLAD_MAX_DEATHS="2")
    results = plant.ended(ids)
    poison = results.pop(3)
    assert (poison.state, poison.verdict) == (State.FAILED, None)
    assert poison.error is not None
    assert poison.error.code == "worker_died"
    assert {result.state for result in results} == {State.DONE}
    assert plant.client.xlen(keys.PoolKeys("default").dead) == 1
    assert len(plant.events()) == 7


def test_nan_from_a_model_fails_the_image_and_never_passes_it(plant: Plant) -> None:
    plant.worker(odd=True)
    first, sick, after = plant.ended(plant.accept([png(1), BLACK, png(1)]))
    assert (sick.state, sick.verdict, sick.score) == (State.FAILED, None, None)
    assert sick.error is not None
    assert sick.error.code == "model_not_finite"
    assert "NaN or infinity" in sick.error.detail
    assert first.state is after.state is State.DONE
    assert_same(after, first)


def test_a_model_that_raises_fails_the_image_and_not_the_worker(plant: Plant) -> None:
    worker = plant.worker(odd=True)
    red, after = plant.ended(plant.accept([RED, png(1)]))
    assert red.error is not None
    assert (red.error.code, red.error.detail) == ("model_error", "allergic to red")
    assert after.state is State.DONE
    assert worker.running


def test_a_bundle_whose_models_raise_fails_its_own_images_and_does_not_keep_the_worker_from_starting(
    plant: Plant, tmp_path: Path
) -> None:
    plant.store = tmp_path / "store"
    make_tiny_bundle(plant.store, product=ALLERGIC, seed=1)  # other weights: equal ones are held once
    make_tiny_bundle(plant.store)
    worker = plant.worker(odd=True)
    (sick,) = plant.ended(plant.accept([png(1)], product=ALLERGIC))
    (well,) = plant.ended(plant.accept([png(1)]))
    assert (sick.state, sick.verdict, well.state) == (State.FAILED, None, State.DONE)
    assert sick.error is not None
    assert sick.error.code == "model_error"
    assert worker.running


def test_a_worker_warms_what_its_pool_served_last_and_then_the_stores_first(plant: Plant, tmp_path: Path) -> None:
    plant.store = tmp_path / "store"
    for product in ("a", "b", "c"):
        make_tiny_bundle(plant.store, product=product)

    def warmed(worker: Worker) -> list[str]:
        eventually(lambda: worker.log.exists() and "worker ready" in worker.log.read_text())
        lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
        worker.kill()
        return [line["product"] for line in lines if line["event"] == "bundle warmed"]

    first = plant.worker(GLAD_MAX_BUNDLES="2")
    plant.ended(plant.accept([png(1)], product="c"))
    assert warmed(first) == ["a", "b"]  # nothing was served yet
    assert warmed(plant.worker(GLAD_MAX_BUNDLES="2")) == ["c", "a"]
    assert warmed(plant.worker(GLAD_MAX_BUNDLES="2", GLAD_POOL="other")) == ["a", "b"]
    assert warmed(plant.worker(GLAD_MAX_BUNDLES="2", GLAD_POOLS="slow=b")) == ["c", "a"]
    assert warmed(plant.worker(GLAD_MAX_BUNDLES="2", GLAD_POOLS="slow=b", GLAD_POOL="slow")) == ["b"]


def test_workers_take_what_comes_to_their_pool_and_leave_the_rest(plant: Plant, tmp_path: Path) -> None:
    plant.store = tmp_path / "store"
    for product in ("a", "b"):
        make_tiny_bundle(plant.store, product=product)
    plant.worker(GLAD_POOL="slow")
    others = plant.accept([png(seed) for seed in range(2)], product="a")
    slow = plant.accept([png(seed) for seed in range(3)], product="b", pool="slow")
    assert {result.state for result in plant.ended(slow)} == {State.DONE}
    assert {result.state for result in plant.results(others)} == {State.QUEUED}
    plant.worker()
    assert {result.state for result in plant.ended(others)} == {State.DONE}


def test_an_image_that_does_not_decode_fails_with_the_reason(plant: Plant) -> None:
    plant.worker()
    broken, after = plant.ended(plant.accept([png(1)[:200], png(1)]))
    assert broken.error is not None
    assert broken.error.code == "image_undecodable"
    assert after.state is State.DONE


def test_a_worker_without_the_bundle_hands_back_and_another_takes_the_job(plant: Plant, tmp_path: Path) -> None:
    plant.worker(GLAD_STORE=str(tmp_path / "empty"))
    (waiting,) = plant.accept([png(1)])
    eventually(lambda: plant.results([waiting])[0].attempts >= 1)
    plant.worker()
    (result,) = plant.ended([waiting])
    assert result.state is State.DONE
    assert result.attempts > 1


def test_a_job_that_nobody_can_read_does_not_stop_the_worker(plant: Plant) -> None:
    first, unreadable, last = plant.accept([png(1)] * 3)
    plant.client.hset(keys.inspection(unreadable), "job", '{"id": "of a newer version"}')
    worker = plant.worker()
    results = plant.ended([first, unreadable, last])
    assert [result.state for result in results] == [State.DONE, State.FAILED, State.DONE]
    assert results[1].error is not None
    assert results[1].error.code == "job_unreadable"
    assert worker.running


def test_an_image_whose_deadline_has_passed_expires(plant: Plant) -> None:
    ids = plant.accept([png(1)], deadline_ms=1)
    plant.worker()
    (result,) = plant.ended(ids)
    assert (result.state, result.verdict) == (State.EXPIRED, None)
    assert result.error is not None
    assert result.error.code == "deadline_passed"


def test_an_image_whose_deadline_passes_while_it_waits_for_a_lane_takes_none(plant: Plant, tmp_path: Path) -> None:
    plant.store = tmp_path / "store"
    make_tiny_bundle(plant.store, start=900, steps=90, t_min=10, trigger={"delta": 1000.0})
    (slow,) = plant.accept([png(1)])
    plant.worker(GLAD_LANES="1", GLAD_DECODE_BUFFER="2")
    eventually(lambda: plant.results([slow])[0].state is State.RUNNING)
    (late,) = plant.accept([png(2)], deadline_ms=50)
    expired, done = plant.ended([late, slow])
    assert (expired.state, expired.unet_evaluations) == (State.EXPIRED, None)
    assert expired.error is not None
    assert expired.error.code == "deadline_passed"
    assert done.state is State.DONE


def test_a_suspect_whose_deadline_has_passed_expires_and_is_not_tried_again(plant: Plant) -> None:
    (suspect,) = plant.accept([png(1)], deadline_ms=1)
    plant.client.zadd(keys.PoolKeys("default").suspects, {suspect: 1})
    plant.worker()
    (result,) = plant.ended([suspect])
    assert (result.state, result.unet_evaluations) == (State.EXPIRED, None)


def test_a_worker_that_slept_past_its_lease_does_not_complete_twice(plant: Plant) -> None:
    ids = plant.accept([png(seed) for seed in range(16)])
    sleeper = plant.worker()
    eventually(lambda: plant.count_ended(ids) >= 2)
    sleeper.signal(signal.SIGSTOP)
    plant.worker()
    results = plant.ended(ids)
    sleeper.signal(signal.SIGCONT)
    sleeper.signal(signal.SIGTERM)
    assert sleeper.wait() == 0
    assert {result.state for result in results} == {State.DONE}
    assert sorted(event.inspection_id for event in plant.events()) == sorted(ids)
    assert plant.results(ids) == results


def test_everything_accepted_ends_though_redis_was_killed(plant: Plant, redis_server: RedisServer) -> None:
    ids = plant.accept([png(seed) for seed in range(12)])
    worker = plant.worker()
    eventually(lambda: plant.count_ended(ids) >= 2)
    redis_server.child.kill()
    eventually(lambda: "error" in worker.log.read_text())
    redis_server.start()
    assert {result.state for result in plant.ended(ids)} == {State.DONE}
    assert sorted(event.inspection_id for event in plant.events()) == sorted(ids)
    assert worker.running


def test_a_result_waits_for_a_disk_that_does_not_take_it(plant: Plant) -> None:
    (waiting,) = plant.accept([png(1)])
    obstacle = plant.folder / "artifacts" / ArtifactStore.ref(waiting, "map.npy")
    obstacle.mkdir()
    worker = plant.worker()
    eventually(lambda: worker.log.is_file() and "not stored yet" in worker.log.read_text())
    assert plant.results([waiting])[0].state is State.RUNNING
    obstacle.rmdir()
    (result,) = plant.ended([waiting])
    assert result.state is State.DONE
    assert result.attempts == 1


def test_products_with_one_model_share_it_and_others_do_not_disturb(plant: Plant, tmp_path: Path) -> None:
    for product, seed, fail in (("one", 0, 0.5), ("two", 0, 10.0), ("three", 1, 0.5)):
        make_tiny_bundle(tmp_path / "store", product=product, seed=seed, thresholds=(0.4, fail, 1.0))
    plant.store = tmp_path / "store"
    image = png(1)
    ids = [name for product in ("one", "two", "three") for name in plant.accept([image] * 3, product)]
    plant.worker(GLAD_LANES="4")
    results = plant.ended(ids)
    one, two, three = results[0], results[3], results[6]
    assert one.score == pytest.approx(two.score, rel=1e-4)
    assert (one.verdict, two.verdict) == (Verdict.FAIL, Verdict.REVIEW)
    assert three.score != pytest.approx(one.score, rel=1e-4)


def test_the_verdict_follows_the_pinned_thresholds(plant: Plant) -> None:
    plant.worker()
    (plain,) = plant.ended(plant.accept([png(1)]))
    assert plain.score is not None
    limits = {"pass": (2.0, 3.0), "review": (0.5, 3.0), "fail": (0.5, 1.0)}
    for verdict, (review, fail) in limits.items():
        thresholds = {"review": plain.score * review, "fail": plain.score * fail, "pixel": 1.0}
        (result,) = plant.ended(plant.accept([png(1)], thresholds=thresholds))
        assert result.verdict == verdict
        assert result.calibrated_score == pytest.approx(1 / (1 + fail))
        assert result.score == plain.score


def test_pictures_and_map_are_stored_in_the_aspect_of_the_original(plant: Plant) -> None:
    plant.worker()
    (result,) = plant.ended(plant.accept([png(1, width=96, height=48)]))
    assert set(result.artifacts) == {*PICTURES, "map.npy", "image"}
    found = np.load(io.BytesIO(plant.artifact(result.id, "map.npy")))
    assert (found.dtype, found.shape) == (np.float32, (32, 64))
    sizes = {name: Image.open(io.BytesIO(plant.artifact(result.id, name))).size for name in PICTURES}
    assert sizes == {
        "heatmap.png": (64, 32), "overlay.png": (96, 48), "reconstruction.png": (64, 32), "mask.png": (64, 32),
    }  # fmt: skip


def test_timings_cover_the_way(plant: Plant) -> None:
    plant.worker()
    (result,) = plant.ended(plant.accept([png(1)]))
    timings = result.timings_ms
    assert timings is not None
    parts = timings.queue + timings.decode + timings.encode + timings.denoise + timings.score
    assert 0 < parts <= timings.total


def test_the_port_tells_readiness_life_and_metrics(plant: Plant) -> None:
    worker = plant.worker(GLAD_LOG_LEVEL="info")
    plant.ended(plant.accept([png(1)]))
    ready = next(line for line in worker.log.read_text().splitlines() if "worker ready" in line)
    port = json.loads(ready)["port"]
    assert get(port, "/health/live") == (200, True)
    assert get(port, "/health/ready") == (200, True)
    assert get(port, "/metrics") == (200, True)
    assert get(port, "/other")[0] == 404


def test_wrong_settings_end_the_worker_with_what_to_do(plant: Plant) -> None:
    worker = plant.worker(GLAD_DEVICE="cuda:77")
    assert worker.wait() == 78
    assert "GLAD_DEVICE is 'cuda:77', which cannot be used" in worker.log.read_text()


def test_a_worker_does_not_touch_what_a_newer_version_has_written(plant: Plant) -> None:
    plant.client.set(schema.KEY, "2")
    worker = plant.worker()
    assert worker.wait() == 78
    assert "this Redis holds data of schema 2; this version of the service knows schema 1" in worker.log.read_text()
    assert plant.client.keys("*") == [schema.KEY]


def get(port: int, path: str) -> tuple[int, bool]:
    """Status, and whether there was a body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, bool(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, bool(error.read())
