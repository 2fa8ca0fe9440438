"""A worker without a bundle leaves its images to others: none that was accepted fails because one worker lacks it."""

from __future__ import annotations

import signal
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.contract import Result, State
from service.queue import keys
from service.queue.claims import UNSERVED_PATIENCE_MS
from tests.service.worker.conftest import png
from tests.service.worker.test_drain import says
from tests.support.nursery import Worker
from tests.support.processes import eventually, free_port
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.worker_fleet import WorkerFleet

pytestmark = pytest.mark.timeout(600)  # real processes: slow where other work shares the machine

POOL = keys.PoolKeys("default")
HASTY = {"GLAD_LANES": "1", "GLAD_DECODE_BUFFER": "0"}
"""It takes one image after the other, so that another worker has its turn."""


@pytest.fixture
def plant(fleet: WorkerFleet, tmp_path: Path) -> WorkerFleet:
    """A plant whose store may be changed."""
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store)
    return fleet


def store_that_is(what: str, folder: Path) -> Path:
    """A store without the plant's bundle: an empty one, one of another time, a broken one, or none at all."""
    store = folder / f"{what}-store"
    if what == "empty":
        store.mkdir()
    elif what == "stale":
        make_tiny_bundle(store, seed=7)  # the same version, other weights
    elif what == "broken":
        weights = next(make_tiny_bundle(store).rglob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    return store


def unready(fleet: WorkerFleet, store: Path, **env: str) -> tuple[Worker, int]:
    """A worker on this store, and its port, once it has tried to use the plant's bundle and is not ready."""
    port = free_port()
    worker = fleet.worker(odd=False, **{"GLAD_STORE": str(store), "GLAD_WORKER_PORT": str(port), **env})
    eventually(lambda: says(port, "ready") == 503 and "not usable" in worker.log.read_text())
    return worker, port


def age_first_claims(fleet: WorkerFleet, ids: Iterable[str]) -> None:
    """As if each image that was ever claimed was first claimed an hour ago."""
    for name in ids:
        if fleet.client.hexists(keys.inspection(name), "started_ms"):
            fleet.client.hincrby(keys.inspection(name), "started_ms", -3_600_000)


def age_unserved(fleet: WorkerFleet) -> None:
    """As if no worker had had the bundle for as long as a job waits for one."""
    eventually(lambda: bool(fleet.client.keys(f"{POOL.unserved_prefix}*")))
    for key in fleet.client.keys(f"{POOL.unserved_prefix}*"):
        fleet.client.decrby(key, UNSERVED_PATIENCE_MS)


def owners(fleet: WorkerFleet, results: Sequence[Result]) -> set[Any]:
    """The workers that held these last."""
    return {fleet.client.hget(keys.inspection(result.id), "owner") for result in results}


def metrics(port: int) -> list[str]:
    """The lines of a worker's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode()).splitlines()


@pytest.mark.parametrize("what", ["empty", "stale", "broken", "absent"])
def test_beside_a_healthy_worker_no_image_fails_for_one_that_lacks_the_bundle(
    plant: WorkerFleet, tmp_path: Path, what: str
) -> None:
    ids = plant.accept([png(seed) for seed in range(24)])
    idle, port = unready(plant, store_that_is(what, tmp_path), GLAD_LANES="8")
    attempts = {result.id: result.attempts for result in plant.results(ids)}
    age_first_claims(plant, ids)
    plant.worker(odd=False, **HASTY)
    results = plant.ended(ids)
    assert {result.state for result in results} == {State.DONE}
    assert len(owners(plant, results)) == 1
    assert [result.attempts for result in results] == [attempts[name] + 1 for name in ids], "it claimed none any more"
    assert (idle.running, says(port, "live"), says(port, "ready")) == (True, 200, 503)


@pytest.mark.parametrize("what", ["empty", "stale", "absent"])
def test_a_picture_is_drawn_by_the_worker_that_has_the_bundle(plant: WorkerFleet, tmp_path: Path, what: str) -> None:
    patient = {"GLAD_LEASE_MS": "60000"}  # a stopped process counts as alive
    has = plant.worker(odd=False, **patient)
    limits = {"review": 100.0, "fail": 100.0, "pixel": 1.0}
    ids = plant.accept([png(seed) for seed in range(3)], thresholds=limits, pictures="on_demand")
    plant.ended(ids)
    has.signal(signal.SIGSTOP)
    lacking = plant.worker(odd=False, GLAD_STORE=str(store_that_is(what, tmp_path)), **patient)
    eventually(lambda: plant.client.zcard(POOL.workers) == 2)
    assert [plant.request_picture(name) for name in ids] == [None] * 3
    eventually(lambda: "not usable" in lacking.log.read_text())
    has.signal(signal.SIGCONT)
    eventually(lambda: len(list(plant.folder.glob("artifacts/*/*/reconstruction.png"))) == 3)
    assert "picture not drawn" not in lacking.log.read_text()
    assert (has.running, lacking.running) == (True, True)


def test_a_worker_that_lacks_one_bundle_inspects_the_images_of_another(plant: WorkerFleet, tmp_path: Path) -> None:
    make_tiny_bundle(plant.store, product="other", seed=1)
    lacking = tmp_path / "one-product"
    make_tiny_bundle(lacking, product="other", seed=1)
    left = plant.accept([png(seed) for seed in range(10)])
    worker = plant.worker(GLAD_STORE=str(lacking))
    eventually(lambda: worker.log.exists() and "not usable" in worker.log.read_text())
    done = plant.ended(plant.accept([png(seed) for seed in range(4)], product="other"))
    assert {result.state for result in done} == {State.DONE}
    assert {result.state for result in plant.results(left)} == {State.QUEUED}
    plant.worker()
    assert {result.state for result in plant.ended(left)} == {State.DONE}


def test_images_of_a_bundle_that_no_worker_has_fail_after_a_minute_and_not_before(
    plant: WorkerFleet, tmp_path: Path
) -> None:
    ids = plant.accept([png(seed) for seed in range(9)])
    unready(plant, store_that_is("empty", tmp_path))
    unready(plant, store_that_is("stale", tmp_path))
    age_first_claims(plant, ids)
    eventually(lambda: bool(plant.client.keys(f"{POOL.unserved_prefix}*")))
    assert {result.state for result in plant.results(ids)} == {State.QUEUED}
    age_unserved(plant)
    results = plant.ended(ids)
    assert {(result.state, result.error and result.error.code) for result in results} == {
        (State.FAILED, "bundle_unavailable")
    }


def test_a_worker_that_restarts_counts_again_when_it_is_back(plant: WorkerFleet, tmp_path: Path) -> None:
    """The minute begins anew: a healthy worker came, and went before it had done all."""
    ids = plant.accept([png(seed) for seed in range(30)])
    unready(plant, store_that_is("empty", tmp_path))
    eventually(lambda: bool(plant.client.keys(f"{POOL.unserved_prefix}*")))
    healthy = plant.worker(odd=False, **HASTY)
    eventually(lambda: plant.count_ended(ids) >= 1)
    eventually(lambda: not plant.client.keys(f"{POOL.unserved_prefix}*"))
    healthy.kill()
    plant.worker()
    assert {result.state for result in plant.ended(ids)} == {State.DONE}


@pytest.mark.parametrize("lent", ["absent", "unreadable"])
def test_a_store_that_is_away_while_the_only_worker_restarts_is_waited_for(
    plant: WorkerFleet, tmp_path: Path, lent: str
) -> None:
    first = plant.worker()
    plant.ended(plant.accept([png(1)]))
    first.kill()
    ids = plant.accept([png(seed) for seed in range(20)])
    away = plant.store.rename(tmp_path / "away")
    if lent == "unreadable":
        plant.store.write_text("a file where the store's folder was: it cannot be listed")
    worker, port = unready(plant, plant.store)
    age_first_claims(plant, ids)
    time.sleep(5)  # what must not happen would have happened by now
    expired = plant.ended(plant.accept([png(21)], store=away, deadline_ms=1))
    assert [result.state for result in expired] == [State.EXPIRED]
    assert {result.state for result in plant.results(ids)} == {State.QUEUED}
    assert not plant.client.keys(f"{POOL.unserved_prefix}*"), "nobody knows that it is gone"
    plant.store.unlink(missing_ok=True)
    away.rename(plant.store)
    assert {result.state for result in plant.ended(ids)} == {State.DONE}
    eventually(lambda: says(port, "ready") == 200)
    assert worker.running


def test_a_worker_whose_store_comes_back_is_ready_before_any_image_comes(plant: WorkerFleet, tmp_path: Path) -> None:
    first = plant.worker()
    plant.ended(plant.accept([png(1)]))
    first.kill()
    away, port = plant.store.rename(tmp_path / "away"), free_port()
    worker = plant.worker(GLAD_WORKER_PORT=str(port))
    eventually(lambda: says(port, "ready") == 503 and "waits for a bundle" in worker.log.read_text())
    away.rename(plant.store)
    eventually(lambda: says(port, "ready") == 200)


def test_a_suspect_is_left_to_a_worker_that_has_its_bundle(plant: WorkerFleet, tmp_path: Path) -> None:
    (suspect,) = plant.accept([png(1)])
    idle, _ = unready(plant, store_that_is("empty", tmp_path))
    eventually(lambda: plant.results([suspect])[0].state is State.QUEUED)
    before = plant.results([suspect])[0].attempts
    plant.client.zadd(POOL.suspects, {suspect: 1})
    plant.client.zrem(POOL.returned(plant.results([suspect])[0].priority), suspect)
    plant.worker()
    (result,) = plant.ended([suspect])
    assert (result.state, result.attempts, idle.running) == (State.DONE, before + 1, True)


def test_a_stale_store_does_not_make_a_worker_ready_though_it_has_the_product(
    plant: WorkerFleet, tmp_path: Path
) -> None:
    first = plant.worker()
    plant.ended(plant.accept([png(1)]))
    first.kill()
    plant.accept([png(2)])
    _, port = unready(plant, store_that_is("stale", tmp_path))
    assert says(port, "live") == 200


def test_what_a_worker_lacks_is_told_in_its_metrics(plant: WorkerFleet, tmp_path: Path) -> None:
    plant.accept([png(1)])
    _, port = unready(plant, store_that_is("stale", tmp_path))
    shown = metrics(port)
    assert 'glad_bundle_unusable{product="toy",reason="missing",version="1"} 1.0' in shown
    assert "glad_worker_ready 0.0" in shown
