"""Metrics count what happens, under names and labels that dashboards rely on, and bounded ones."""

from __future__ import annotations

import redis
from prometheus_client import CollectorRegistry, generate_latest

from model_store.manifest import Calibration
from service.contract import Failure, State, done_result, ended_result
from service.queue.jobs import JobQueue
from service.queue.takeover import Reclaimed
from service.telemetry.metrics.common import BoundedLabel, ScoreBands, good_score_quantiles
from service.telemetry.metrics.worker import WorkerMetrics
from tests.service.conftest import Running, StartApp
from tests.support.line import AT, findings, make_job, picture, result_of
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"


def test_worker_metrics_follow_the_results() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for score in (0.25, 1.25):
        metrics.count_result(done_result(make_job(station="line-3"), findings(score), started_at=AT, attempts=1))
    error = Failure(code="worker_died", detail="x")
    metrics.count_result(ended_result(make_job(), State.FAILED, error, started_at=None, attempts=3))
    metrics.count_reclaimed(Reclaimed(suspects=("a", "b"), dead=("c",)))
    metrics.observe_step(3, 0.02)
    metrics.set_lanes(3, 4)
    metrics.bundle_switched("toy", "1", 0.4)
    assert {
        'glad_inspections_completed_total{product="toy",station="line-3",version="1"} 2.0',
        'glad_inspections_failed_total{code="worker_died",product="toy",version="1"} 1.0',
        "glad_inspections_redelivered_total 2.0",
        "glad_inspections_dead_lettered_total 1.0",
        'glad_verdicts_total{product="toy",station="line-3",verdict="pass",version="1"} 1.0',
        'glad_verdicts_total{product="toy",station="line-3",verdict="fail",version="1"} 1.0',
        'glad_anomaly_score_count{product="toy",version="1"} 2.0',
        "glad_batch_size_sum 3.0",
        "glad_step_duration_seconds_count 1.0",
        "glad_lane_used 3.0",
        "glad_lane_total 4.0",
        'glad_denoising_step_count{product="toy"} 2.0',
        'glad_walks_total{product="toy",walked="true"} 2.0',
        'glad_walks_total{product="toy",walked="false"} 0.0',
        'glad_unet_evaluations_count{product="toy"} 2.0',
        'glad_queue_wait_seconds_count{priority="normal"} 2.0',
        'glad_inspection_duration_seconds_count{product="toy"} 2.0',
        'glad_stage_duration_seconds_count{stage="denoise"} 2.0',
        'glad_bundle_switch_seconds_bucket{le="0.5",product="toy",version="1"} 1.0',
    } <= lines_of(registry)


def test_an_image_that_did_not_walk_is_counted_and_has_no_denoising_step() -> None:
    registry = CollectorRegistry()
    clear = findings(0.25).model_copy(update={"denoising_step": 0, "unet_evaluations": 0})
    metrics = WorkerMetrics(registry)
    metrics.count_result(done_result(make_job(), clear, started_at=AT, attempts=1))
    metrics.count_result(done_result(make_job(), findings(0.5), started_at=AT, attempts=1))
    assert {
        'glad_walks_total{product="toy",walked="true"} 1.0',
        'glad_walks_total{product="toy",walked="false"} 1.0',
        'glad_denoising_step_count{product="toy"} 1.0',
        'glad_unet_evaluations_count{product="toy"} 2.0',
    } <= lines_of(registry)


def test_a_loaded_bundle_tells_its_engine_its_load_time_and_where_its_scores_lie() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    metrics.bundle_loaded("toy", "1", "torch-cpu", seconds=0.7, calibration=calibration(0.1, 0.2, 0.3, 0.4, 0.5))
    for score in (0.11, 0.2, 0.45, 0.5, 0.9):
        metrics.count_result(done_result(make_job(), findings(score), started_at=AT, attempts=1))
    shown = lines_of(registry)
    # Of 0.1 ... 0.5, numpy's p10 is 0.14, p50 0.3, p90 0.46: the scores lie in the bands one, two, three, four, above.
    assert {
        'glad_engine_info{engine="torch-cpu",product="toy",version="1"} 1.0',
        'glad_bundle_load_seconds_bucket{le="1.0",product="toy",version="1"} 1.0',
        'glad_bundle_load_seconds_bucket{le="0.5",product="toy",version="1"} 0.0',
        *(
            f'glad_score_band_total{{band="{band}",product="toy",version="1"}} 1.0'
            for band in ("below_p10", "p10_to_p50", "p50_to_p90", "p90_to_max", "above_max")
        ),
    } <= shown
    metrics.bundle_unloaded("toy", "1", "torch-cpu")
    assert not any(line.startswith("glad_engine_info{") for line in lines_of(registry))


def test_good_parts_fall_into_the_bands_as_calibration_says() -> None:
    scores = tuple(number / 1000 for number in range(1, 1001))
    bands = ScoreBands.from_calibration(calibration(*scores))
    assert bands is not None
    shares = {band: sum(bands.band_of(score) == band for score in scores) for band in map(bands.band_of, scores)}
    assert shares == {"below_p10": 100, "p10_to_p50": 400, "p50_to_p90": 400, "p90_to_max": 100}
    assert bands.band_of(1.0001) == "above_max"


def test_a_calibration_without_scores_has_no_bands() -> None:
    assert ScoreBands.from_calibration(calibration()) is None
    assert good_score_quantiles(calibration()) == {}


def test_clients_cannot_make_labels_without_end() -> None:
    stations = BoundedLabel(limit=2)
    assert [stations.label_for(name) for name in ("a", "b", "c", "a", None, "d")] == [
        "a",
        "b",
        "other",
        "a",
        "none",
        "other",
    ]


def test_the_first_failed_part_is_seen_to_come() -> None:
    """A rate needs a growth: a counter that is born with 1 shows none."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    metrics.bundle_loaded("toy", "1", "torch-cpu", seconds=0.7, calibration=calibration(0.1, 0.2, 0.3))
    metrics.count_result(done_result(make_job(station="line-3"), findings(0.25), started_at=AT, attempts=1))
    assert {
        'glad_verdicts_total{product="toy",station="line-3",verdict="pass",version="1"} 1.0',
        'glad_verdicts_total{product="toy",station="line-3",verdict="review",version="1"} 0.0',
        'glad_verdicts_total{product="toy",station="line-3",verdict="fail",version="1"} 0.0',
        'glad_score_band_total{band="above_max",product="toy",version="1"} 0.0',
    } <= lines_of(registry)


async def test_the_api_shows_queue_redis_disk_and_products(api: Running, client: redis.Redis) -> None:
    for _ in range(2):
        await api.http.post(f"{URL}?station=line-3", content=picture())
    queue = JobQueue(client)
    (claimed,) = queue.claim(1)
    shown = await scraped(api)
    assert {
        'glad_inspections_submitted_total{priority="normal",product="toy",station="line-3"} 2.0',
        'glad_queue_depth{pool="default"} 2.0',
        'glad_queue_inflight{pool="default"} 1.0',
        'glad_workers_seen{pool="default"} 1.0',
        "glad_redis_up 1.0",
        "glad_redis_append_ok 1.0",
        'glad_redis_stream_length{stream="jobs_normal"} 2.0',
        'glad_redis_stream_length{stream="dead"} 0.0',
        "glad_takt_seconds 10.0",
        "glad_queue_limit 1000.0",
        "glad_artifacts_disk_least_free_bytes 5.36870912e+08",
        'glad_bundle_active{product="toy",version="1"} 1.0',
        'glad_threshold{product="toy",threshold="fail",version="1"} 1.0',
        'glad_calibration_score{product="toy",quantile="1",version="1"} 0.2',
        'glad_http_requests_total{method="POST",route="/v1/products/{product}/inspections",status="202"} 2.0',
    } <= shown
    for name in ("redis_memory_used", "redis_memory_limit", "artifacts_disk_free", "artifacts_disk_size"):
        assert value_of(f"glad_{name}_bytes", shown) > 0
    queue.complete(claimed, result_of(claimed))
    assert 'glad_redis_stream_length{stream="events"} 1.0' in await scraped(api)


async def test_without_redis_metrics_say_so_and_show_no_old_queue(own_redis: RedisServer, start_app: StartApp) -> None:
    running: Running = await start_app(own_redis.url)
    assert {"glad_redis_up 1.0", 'glad_queue_depth{pool="default"} 0.0'} <= await scraped(running)
    own_redis.kill()
    shown = await scraped(running)
    assert "glad_redis_up 0.0" in shown
    assert not any(line.startswith("glad_queue_depth{") for line in shown)
    assert 'glad_bundle_active{product="toy",version="1"} 1.0' in shown


async def test_an_object_store_has_no_disk_to_watch(shared_redis: RedisServer, start_app: StartApp) -> None:
    running: Running = await start_app(shared_redis.url, artifacts_url="memory://metrics")
    assert not any(line.startswith("glad_artifacts_disk_free_bytes ") for line in await scraped(running))


async def test_requests_are_counted_by_route_and_never_by_path(api: Running) -> None:
    for number in range(3):
        await api.http.get(f"/nowhere/{number}")
        await api.http.get(f"/v1/inspections/{number}")
    await api.http.request("BREW", "/v1/products")
    requests = {line for line in await scraped(api) if line.startswith("glad_http_requests_total{")}
    assert requests == {
        'glad_http_requests_total{method="GET",route="none",status="404"} 3.0',
        'glad_http_requests_total{method="GET",route="/v1/inspections/{id}",status="404"} 3.0',
        'glad_http_requests_total{method="other",route="/v1/products",status="405"} 1.0',
    }


async def test_an_image_that_redis_could_not_take_is_a_refused_submission_and_a_poll_is_none(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url)
    assert (await running.http.post(URL, content=picture())).status_code == 202
    own_redis.kill()
    assert (await running.http.post(URL, content=picture())).status_code == 503
    assert (await running.http.post("/v1/stations/line-3/inspections", content=picture())).status_code == 503
    assert (await running.http.get("/v1/inspections/x")).status_code in {404, 503}
    assert (await running.http.get("/v1/inspections")).status_code == 503
    refused = {line for line in await scraped(running) if line.startswith("glad_inspections_rejected_total{")}
    assert refused == {'glad_inspections_rejected_total{reason="queue-unavailable"} 2.0'}


async def test_at_the_door_only_images_count_as_refused_submissions(
    shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, auth="keys")
    paths = (URL, f"{URL}:batch", "/v1/stations/line-3/inspections", "/v2/models/toy/infer")
    for path in (*paths, "/v2/models/toy/versions/1/infer", "/v1/inspections/x/review"):
        assert (await running.http.post(path, content=picture())).status_code == 401
    assert (await running.http.get("/v1/inspections")).status_code == 401
    assert 'glad_inspections_rejected_total{reason="unauthorized"} 5.0' in await scraped(running)


async def test_what_the_door_refuses_is_counted_too(shared_redis: RedisServer, start_app: StartApp) -> None:
    running: Running = await start_app(shared_redis.url, auth="keys")
    await running.http.post(URL, content=picture())
    assert 'glad_http_requests_total{method="POST",route="none",status="401"} 1.0' in await scraped(running)


async def scraped(running: Running) -> set[str]:
    answer = await running.http.get("/metrics")
    assert answer.status_code == 200
    return set(answer.text.splitlines())


def lines_of(registry: CollectorRegistry) -> set[str]:
    return set(generate_latest(registry).decode().splitlines())


def value_of(name: str, lines: set[str]) -> float:
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def calibration(*scores: float) -> Calibration:
    return Calibration(
        review=0.5, fail=1.0, pixel=1.0, pixel_quantile=0.99, good_images=max(1, len(scores)), good_scores=scores
    )


async def test_what_fastapi_itself_refuses_is_counted_once(api: Running) -> None:
    long_key = await api.http.post(URL, content=picture(), headers={"Idempotency-Key": "k" * 1000})
    assert (long_key.status_code, long_key.json()["type"]) == (422, "urn:glad:problem:invalid-fields")
    unknown_field = await api.http.post(f"{URL}?seriel=1", content=picture())
    assert unknown_field.status_code == 422
    await api.http.get("/v1/inspections?limit=many")
    assert 'glad_inspections_rejected_total{reason="invalid-fields"} 2.0' in await scraped(api)
