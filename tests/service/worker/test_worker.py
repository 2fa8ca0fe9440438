"""Real worker processes on a real Redis: what is accepted ends, once, and with the same result whatever happens."""

from __future__ import annotations

import io
import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.contract import ArtifactName, Result, State, Verdict
from service.queue import keys
from service.storage.artifacts import ArtifactStore
from tests.service.worker.conftest import RedisServer, png
from tests.support.nursery import Worker
from tests.support.odd_models import ALLERGIC, SLUGGISH
from tests.support.processes import eventually
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.worker_fleet import WorkerFleet

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

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
    assert result.hottest is not None


def test_200_inspections_survive_three_kills_none_lost_none_twice(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, resolution=32, steps=2, t_min=100, trigger={"delta": 0.05})
    images = [png(seed, width=32, height=32) for seed in range(20)]
    undisturbed = fleet.worker()
    expected = fleet.ended(fleet.accept(images))
    undisturbed.signal(signal.SIGTERM)
    assert undisturbed.wait() == 0
    before = len(fleet.events())

    ids = fleet.accept(images * 10)
    for kills in range(3):
        worker = fleet.worker()
        eventually(lambda goal=40 * (kills + 1): fleet.count_ended(ids) >= goal)  # type: ignore[misc]
        worker.kill()
    assert fleet.count_ended(ids) < 200
    fleet.worker()
    results = fleet.ended(ids)

    assert [result.state for result in results] == [State.DONE] * 200
    for number, result in enumerate(results):
        assert_same(result, expected[number % 20])
    events = fleet.events()[before:]
    assert sorted(str(event.inspection_id) for event in events) == sorted(ids)
    assert max(result.attempts for result in results) > 1
    assert fleet.client.xlen(keys.PoolKeys("default").dead) == 0


def test_a_score_is_bit_equal_on_a_second_worker(fleet: WorkerFleet) -> None:
    """Alone in one process, alone in another."""
    scores = []
    for _ in range(2):
        worker = fleet.worker()
        scores.append(fleet.ended(fleet.accept([png(1)]))[0].score)
        worker.kill()
    assert scores[0] is not None
    assert scores[0] == scores[1]


def test_a_result_is_the_same_alone_or_among_eight(fleet: WorkerFleet) -> None:
    fleet.worker(GLAD_LANES="8")
    (alone,) = fleet.ended(fleet.accept([png(1)]))
    among = fleet.ended(fleet.accept([png(seed) for seed in range(8)]))[1]
    assert_same(among, alone)


def test_an_image_that_kills_its_worker_is_given_up_and_its_neighbours_are_not(fleet: WorkerFleet) -> None:
    images = [png(seed) for seed in range(6)]
    images.insert(3, WHITE)
    ids = fleet.accept(images)
    worker = fleet.worker(odd=True, GLAD_MAX_DEATHS="2")
    for _ in range(20):
        eventually(lambda: not worker.running or fleet.count_ended(ids) == len(ids))  # noqa: B023
        if fleet.count_ended(ids) == len(ids):
            break
        worker = fleet.worker(odd=True, GLAD_MAX_DEATHS="2")
    results = fleet.ended(ids)
    poison = results.pop(3)
    assert (poison.state, poison.verdict) == (State.FAILED, None)
    assert poison.error is not None
    assert poison.error.code == "worker_died"
    assert {result.state for result in results} == {State.DONE}
    assert fleet.client.xlen(keys.PoolKeys("default").dead) == 1
    assert len(fleet.events()) == 7


def test_nan_from_a_model_fails_the_image_and_never_passes_it(fleet: WorkerFleet) -> None:
    fleet.worker(odd=True)
    first, sick, after = fleet.ended(fleet.accept([png(1), BLACK, png(1)]))
    assert (sick.state, sick.verdict, sick.score) == (State.FAILED, None, None)
    assert sick.error is not None
    assert sick.error.code == "model_not_finite"
    assert "NaN or infinity" in sick.error.detail
    assert first.state is after.state is State.DONE
    assert_same(after, first)


def test_a_model_that_raises_fails_the_image_and_not_the_worker(fleet: WorkerFleet) -> None:
    worker = fleet.worker(odd=True)
    red, after = fleet.ended(fleet.accept([RED, png(1)]))
    assert red.error is not None
    assert (red.error.code, red.error.detail) == ("model_error", "allergic to red")
    assert after.state is State.DONE
    assert worker.running


def test_other_products_are_served_while_a_bundle_loads(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store)
    make_tiny_bundle(fleet.store, product=SLUGGISH, seed=1)
    worker = fleet.worker(odd=True, GLAD_MAX_BUNDLES="2")
    fleet.ended(fleet.accept([png(0)]))  # this bundle is loaded; one comes after the other
    waiting = fleet.accept([png(1), png(2)], product=SLUGGISH)
    eventually(lambda: fleet.client.zcard(keys.PoolKeys("default").leases) == 2)
    served = fleet.ended(fleet.accept([png(seed) for seed in range(3)]))
    assert fleet.count_ended(waiting) == 0
    (tmp_path / "may-load").touch()
    assert {result.state for result in (*served, *fleet.ended(waiting))} == {State.DONE}
    assert worker.running


def test_a_bundle_that_loads_for_longer_than_a_step_may_take_kills_no_worker(
    fleet: WorkerFleet, tmp_path: Path
) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, product=SLUGGISH, seed=1)
    worker = fleet.worker(odd=True, GLAD_MAX_BUNDLES="1", GLAD_STUCK_AFTER_S="1", GLAD_LOG_LEVEL="info")
    eventually(lambda: worker.log.exists() and ready_port(worker) is not None)
    port = ready_port(worker)
    assert port is not None
    ids = fleet.accept([png(seed) for seed in range(8)], product=SLUGGISH)  # more than it claims at a time
    eventually(lambda: fleet.client.zcard(keys.PoolKeys("default").leases) >= 6)
    time.sleep(3)  # what lasts too long is the silence itself
    assert get(port, "/health/live") == (200, True)
    (tmp_path / "may-load").touch()
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}
    assert worker.running


def test_a_load_that_hangs_ends_its_worker_and_loses_nothing(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, product=SLUGGISH, seed=1)
    hangs = fleet.worker(odd=True, GLAD_MAX_BUNDLES="1", GLAD_LOAD_LIMIT_S="1")
    ids = fleet.accept([png(1), png(2)], product=SLUGGISH)
    eventually(lambda: not hangs.running)
    assert "bundle very-sluggish/1 has been loading for" in hangs.log.read_text()
    (tmp_path / "may-load").touch()
    fleet.worker(odd=True, GLAD_MAX_BUNDLES="1")
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}


def test_a_bundle_whose_models_raise_fails_its_own_images_and_does_not_keep_the_worker_from_starting(
    fleet: WorkerFleet, tmp_path: Path
) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, product=ALLERGIC, seed=1)  # other weights: equal ones are held once
    make_tiny_bundle(fleet.store)
    worker = fleet.worker(odd=True)
    (sick,) = fleet.ended(fleet.accept([png(1)], product=ALLERGIC))
    (well,) = fleet.ended(fleet.accept([png(1)]))
    assert (sick.state, sick.verdict, well.state) == (State.FAILED, None, State.DONE)
    assert sick.error is not None
    assert sick.error.code == "model_error"
    assert worker.running


def test_a_worker_warms_what_its_pool_served_last_and_then_the_stores_first(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    for product in ("a", "b", "c"):
        make_tiny_bundle(fleet.store, product=product)

    def warmed(worker: Worker) -> list[str]:
        eventually(lambda: worker.log.exists() and "worker ready" in worker.log.read_text())
        lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
        worker.kill()
        return [line["product"] for line in lines if line["event"] == "bundle warmed"]

    first = fleet.worker(GLAD_MAX_BUNDLES="2")
    fleet.ended(fleet.accept([png(1)], product="c"))
    assert warmed(first) == ["a", "b"]  # nothing was served yet
    assert warmed(fleet.worker(GLAD_MAX_BUNDLES="2")) == ["c", "a"]
    assert warmed(fleet.worker(GLAD_MAX_BUNDLES="2", GLAD_POOL="other")) == ["a", "b"]
    assert warmed(fleet.worker(GLAD_MAX_BUNDLES="2", GLAD_POOLS="slow=b")) == ["c", "a"]
    assert warmed(fleet.worker(GLAD_MAX_BUNDLES="2", GLAD_POOLS="slow=b", GLAD_POOL="slow")) == ["b"]


def test_workers_take_what_comes_to_their_pool_and_leave_the_rest(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.store = tmp_path / "store"
    for product in ("a", "b"):
        make_tiny_bundle(fleet.store, product=product)
    fleet.worker(GLAD_POOL="slow")
    others = fleet.accept([png(seed) for seed in range(2)], product="a")
    slow = fleet.accept([png(seed) for seed in range(3)], product="b", pool="slow")
    assert {result.state for result in fleet.ended(slow)} == {State.DONE}
    assert {result.state for result in fleet.results(others)} == {State.QUEUED}
    fleet.worker()
    assert {result.state for result in fleet.ended(others)} == {State.DONE}


def test_an_image_that_does_not_decode_fails_with_the_reason(fleet: WorkerFleet) -> None:
    fleet.worker()
    broken, after = fleet.ended(fleet.accept([png(1)[:200], png(1)]))
    assert broken.error is not None
    assert broken.error.code == "image_undecodable"
    assert after.state is State.DONE


def test_a_worker_without_the_bundle_hands_back_and_another_takes_the_job(fleet: WorkerFleet, tmp_path: Path) -> None:
    fleet.worker(GLAD_STORE=str(tmp_path / "empty"))
    (waiting,) = fleet.accept([png(1)])
    eventually(lambda: fleet.results([waiting])[0].attempts >= 1)
    fleet.worker()
    (result,) = fleet.ended([waiting])
    assert result.state is State.DONE
    assert result.attempts > 1


def test_a_job_that_nobody_can_read_does_not_stop_the_worker(fleet: WorkerFleet) -> None:
    first, unreadable, last = fleet.accept([png(1)] * 3)
    fleet.client.hset(keys.inspection(unreadable), "job", '{"id": "of a newer version"}')
    worker = fleet.worker()
    results = fleet.ended([first, unreadable, last])
    assert [result.state for result in results] == [State.DONE, State.FAILED, State.DONE]
    assert results[1].error is not None
    assert results[1].error.code == "job_unreadable"
    assert worker.running


def test_an_image_whose_deadline_has_passed_expires(fleet: WorkerFleet) -> None:
    ids = fleet.accept([png(1)], deadline_ms=1)
    fleet.worker()
    (result,) = fleet.ended(ids)
    assert (result.state, result.verdict) == (State.EXPIRED, None)
    assert result.error is not None
    assert result.error.code == "deadline_passed"


def test_an_image_whose_deadline_passes_while_it_waits_for_a_lane_takes_none(
    fleet: WorkerFleet, tmp_path: Path
) -> None:
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, start=900, steps=90, t_min=10, trigger={"delta": 1000.0})
    (slow,) = fleet.accept([png(1)])
    fleet.worker(GLAD_LANES="1", GLAD_DECODE_BUFFER="2")
    eventually(lambda: fleet.results([slow])[0].state is State.RUNNING)
    (late,) = fleet.accept([png(2)], deadline_ms=50)
    expired, done = fleet.ended([late, slow])
    assert (expired.state, expired.unet_evaluations) == (State.EXPIRED, None)
    assert expired.error is not None
    assert expired.error.code == "deadline_passed"
    assert done.state is State.DONE


def test_a_suspect_whose_deadline_has_passed_expires_and_is_not_tried_again(fleet: WorkerFleet) -> None:
    (suspect,) = fleet.accept([png(1)], deadline_ms=1)
    fleet.client.zadd(keys.PoolKeys("default").suspects, {suspect: 1})
    fleet.worker()
    (result,) = fleet.ended([suspect])
    assert (result.state, result.unet_evaluations) == (State.EXPIRED, None)


def test_a_worker_that_slept_past_its_lease_does_not_complete_twice(fleet: WorkerFleet) -> None:
    ids = fleet.accept([png(seed) for seed in range(16)])
    sleeper = fleet.worker()
    eventually(lambda: fleet.count_ended(ids) >= 2)
    sleeper.signal(signal.SIGSTOP)
    fleet.worker()
    results = fleet.ended(ids)
    sleeper.signal(signal.SIGCONT)
    sleeper.signal(signal.SIGTERM)
    assert sleeper.wait() == 0
    assert {result.state for result in results} == {State.DONE}
    assert sorted(str(event.inspection_id) for event in fleet.events()) == sorted(ids)
    assert fleet.results(ids) == results


def test_everything_accepted_ends_though_redis_was_killed(fleet: WorkerFleet, redis_server: RedisServer) -> None:
    ids = fleet.accept([png(seed) for seed in range(12)])
    worker = fleet.worker()
    eventually(lambda: fleet.count_ended(ids) >= 2)
    redis_server.child.kill()
    eventually(lambda: "error" in worker.log.read_text())
    redis_server.start()
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}
    assert sorted(str(event.inspection_id) for event in fleet.events()) == sorted(ids)
    assert worker.running


def test_a_result_waits_for_a_disk_that_does_not_take_it(fleet: WorkerFleet) -> None:
    (waiting,) = fleet.accept([png(1)])
    obstacle = fleet.folder / "artifacts" / ArtifactStore.ref(waiting, "map.npy")
    obstacle.mkdir()
    worker = fleet.worker()
    eventually(lambda: worker.log.is_file() and "not stored yet" in worker.log.read_text())
    assert fleet.results([waiting])[0].state is State.RUNNING
    obstacle.rmdir()
    (result,) = fleet.ended([waiting])
    assert result.state is State.DONE
    assert result.attempts == 1


def test_products_with_one_model_share_it_and_others_do_not_disturb(fleet: WorkerFleet, tmp_path: Path) -> None:
    for product, seed, fail in (("one", 0, 0.5), ("two", 0, 10.0), ("three", 1, 0.5)):
        make_tiny_bundle(tmp_path / "store", product=product, seed=seed, thresholds=(0.4, fail, 1.0))
    fleet.store = tmp_path / "store"
    image = png(1)
    ids = [name for product in ("one", "two", "three") for name in fleet.accept([image] * 3, product)]
    fleet.worker(GLAD_LANES="4")
    results = fleet.ended(ids)
    one, two, three = results[0], results[3], results[6]
    assert one.score == pytest.approx(two.score, rel=1e-4)
    assert (one.verdict, two.verdict) == (Verdict.FAIL, Verdict.REVIEW)
    assert three.score != pytest.approx(one.score, rel=1e-4)


def test_the_verdict_follows_the_pinned_thresholds(fleet: WorkerFleet) -> None:
    fleet.worker()
    (plain,) = fleet.ended(fleet.accept([png(1)]))
    assert plain.score is not None
    limits = {"pass": (2.0, 3.0), "review": (0.5, 3.0), "fail": (0.5, 1.0)}
    for verdict, (review, fail) in limits.items():
        thresholds = {"review": plain.score * review, "fail": plain.score * fail, "pixel": 1.0}
        (result,) = fleet.ended(fleet.accept([png(1)], thresholds=thresholds))
        assert result.verdict == verdict
        assert result.calibrated_score == pytest.approx(1 / (1 + fail))
        assert result.score == plain.score


def test_pictures_and_map_are_stored_in_the_aspect_of_the_original(fleet: WorkerFleet) -> None:
    fleet.worker()
    (result,) = fleet.ended(fleet.accept([png(1, width=96, height=48)]))
    assert set(result.artifacts) == {*PICTURES, "map.npy", "image"}
    found = np.load(io.BytesIO(fleet.artifact(result.id, "map.npy")))
    assert (found.dtype, found.shape) == (np.float32, (32, 64))
    sizes = {name: Image.open(io.BytesIO(fleet.artifact(result.id, name))).size for name in PICTURES}
    assert sizes == {
        "heatmap.png": (64, 32), "overlay.png": (96, 48), "reconstruction.png": (64, 32), "mask.png": (64, 32),
    }  # fmt: skip


def test_of_a_part_that_passes_what_the_models_drew_anyway_is_stored_and_the_rest_is_not(fleet: WorkerFleet) -> None:
    fleet.worker()
    limits = {"review": 1e9, "fail": 1e9, "pixel": 1.0}
    (result,) = fleet.ended(fleet.accept([png(1)], thresholds=limits, pictures="on_demand"))
    stored = {path.name for path in (fleet.folder / "artifacts").glob(f"*/{result.id}/*")}
    assert (result.verdict, stored) == (Verdict.PASS, {"image", "drawing.npz", "reconstruction.png"})
    assert set(result.artifacts) == {*PICTURES, "map.npy", "image"}


def test_timings_cover_the_way(fleet: WorkerFleet) -> None:
    fleet.worker()
    (result,) = fleet.ended(fleet.accept([png(1)]))
    timings = result.timings_ms
    assert timings is not None
    parts = timings.queue + timings.decode + timings.encode + timings.denoise + timings.score
    assert 0 < parts <= timings.total


def ready_port(worker: Worker) -> int | None:
    """The port of a worker's probes; None: it is not ready yet."""
    ready = (line for line in worker.log.read_text().splitlines() if "worker ready" in line)
    return next((int(json.loads(line)["port"]) for line in ready), None)


def test_the_port_tells_readiness_life_and_metrics(fleet: WorkerFleet) -> None:
    worker = fleet.worker(GLAD_LOG_LEVEL="info")
    fleet.ended(fleet.accept([png(1)]))
    port = ready_port(worker)
    assert port is not None
    assert get(port, "/health/live") == (200, True)
    assert get(port, "/health/ready") == (200, True)
    assert get(port, "/metrics") == (200, True)
    assert get(port, "/other")[0] == 404


def test_wrong_settings_end_the_worker_with_what_to_do(fleet: WorkerFleet) -> None:
    worker = fleet.worker(GLAD_DEVICE="cuda:77")
    assert worker.wait() == 78
    assert "GLAD_DEVICE is 'cuda:77', which cannot be used" in worker.log.read_text()


def test_a_worker_does_not_touch_what_a_newer_version_has_written(fleet: WorkerFleet) -> None:
    fleet.client.set(keys.SCHEMA, "2")
    worker = fleet.worker()
    assert worker.wait() == 78
    assert "this Redis holds data of schema 2; this version of the service knows schema 1" in worker.log.read_text()
    assert fleet.client.keys("*") == [keys.SCHEMA]


def get(port: int, path: str) -> tuple[int, bool]:
    """Status, and whether there was a body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, bool(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, bool(error.read())
