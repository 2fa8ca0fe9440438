"""Writes the Grafana dashboards: `make dashboards`. One list of panels, four files, for Compose and for Kubernetes."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.grafana import Dashboard, Panel, Query, heatmap, mean, quantile, rate, share, text_of

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docker" / "grafana" / "dashboards"
CLUSTER_TARGET = ROOT / "k8s" / "components" / "monitoring" / "dashboards"
"""The same files again: kustomize reads none outside of its own folder."""
PRODUCT = 'product=~"$product"'
VERDICT_COLOURS = {"pass": "green", "review": "yellow", "fail": "red"}

LINE = Dashboard(
    "line",
    "GLAD Line",
    "What the line sees: how many parts, which verdicts, how soon.",
    (
        Panel(
            "Throughput",
            "reqps",
            (Query(f"sum by (product) ({rate('glad_inspections_completed_total', PRODUCT)})", "{{product}}"),),
            "Verdicts given a second.",
            inspections="state=done&product=${__field.labels.product}",
        ),
        Panel(
            "Verdicts",
            "reqps",
            (Query(f"sum by (verdict) ({rate('glad_verdicts_total', PRODUCT)})", "{{verdict}}"),),
            "A point leads to the latest inspections of this verdict.",
            stacked=True,
            colours=VERDICT_COLOURS,
            inspections="verdict=${__field.labels.verdict}",
        ),
        Panel(
            "Reject rate",
            "percentunit",
            (Query(share("glad_verdicts_total", 'verdict="fail"', "product", PRODUCT), "{{product}}"),),
            "Failed parts of all with a verdict. A point leads to the latest of them.",
            inspections="verdict=fail&product=${__field.labels.product}",
        ),
        Panel(
            "Reject rate by station",
            "percentunit",
            (Query(share("glad_verdicts_total", 'verdict="fail"', "station", PRODUCT), "{{station}}"),),
            "One station alone: its camera or its light.",
            inspections="verdict=fail&station=${__field.labels.station}",
        ),
        Panel(
            "Unfit images",
            "reqps",
            (
                Query(
                    f"sum by (product, reason) ({rate('glad_quality_gated_total', PRODUCT)})", "{{product}} {{reason}}"
                ),
            ),
            "Stopped by the quality gate, by the first reason: a lamp, a lens, or no part. A point leads to the latest "
            "reviews.",
            stacked=True,
            inspections="verdict=review&product=${__field.labels.product}",
        ),
        Panel(
            "Latency against takt",
            "s",
            (
                Query(quantile(0.5, "glad_inspection_duration_seconds", "product", PRODUCT), "{{product}} half"),
                Query(quantile(0.95, "glad_inspection_duration_seconds", "product", PRODUCT), "{{product}} 95 %"),
                Query("max(glad_takt_seconds)", "takt"),
            ),
            "From acceptance to the result; takt is GLAD_TAKT_S.",
        ),
        Panel(
            "Oldest image",
            "s",
            (
                Query("max by (pool) (glad_queue_oldest_age_seconds)", "{{pool}}"),
                Query("max(glad_takt_seconds)", "takt"),
            ),
            "The image of each pool that has waited longest for its result.",
        ),
        Panel(
            "Scores over time",
            "none",
            (Query(heatmap("glad_anomaly_score", PRODUCT), "{{le}}"),),
            "How many scores lie where.",
            kind="heatmap",
            width=24,
        ),
    ),
)

ENGINE = Dashboard(
    "engine",
    "GLAD Engine",
    "What the workers do: lanes, steps, stages, memory.",
    (
        Panel(
            "Lanes in use",
            "percentunit",
            (Query("glad_lane_used / glad_lane_total", "{{instance}}"),),
            "All in use and a queue: more workers are needed.",
        ),
        Panel("Batch size", "none", (Query(mean("glad_batch_size", "instance"), "{{instance}}"),), "Lanes of a step."),
        Panel(
            "Steps per image",
            "none",
            (Query(mean("glad_unet_evaluations", "product", PRODUCT), "{{product}}"),),
            "UNet evaluations; an image of many tiles takes as many times more.",
        ),
        Panel(
            "Trigger step",
            "none",
            (Query(mean("glad_denoising_step", "product", PRODUCT), "{{product}}"),),
            "Mean step at which the trigger fired: the later in the walk, the lower. Empty while no image walks.",
        ),
        Panel(
            "Step duration",
            "s",
            (
                Query(quantile(0.5, "glad_step_duration_seconds", "instance"), "{{instance}} half"),
                Query(quantile(0.99, "glad_step_duration_seconds", "instance"), "{{instance}} 99 %"),
            ),
        ),
        Panel(
            "Time per stage",
            "s",
            (Query(mean("glad_stage_duration_seconds", "stage"), "{{stage}}"),),
            "Mean of each stage of an inspection, and of its acceptance.",
        ),
        Panel(
            "Device memory",
            "bytes",
            (
                Query("glad_device_memory_used_bytes", "{{instance}} {{device}} used"),
                Query("glad_device_memory_size_bytes", "{{instance}} {{device}} size"),
            ),
            "Of a GPU; where the device is a CPU, the process's own.",
        ),
        Panel(
            "Queue",
            "none",
            (
                Query("max by (pool) (glad_queue_depth)", "{{pool}} queued or running"),
                Query("max by (pool) (glad_queue_inflight)", "{{pool}} running"),
                Query("max by (pool) (glad_queue_suspects)", "{{pool}} suspects"),
                Query("max(glad_queue_limit)", "limit"),
            ),
            "Of each pool; beyond the limit its images are refused.",
        ),
        Panel(
            "Queue age",
            "s",
            (
                Query("max by (pool) (glad_queue_oldest_age_seconds)", "{{pool}} oldest"),
                Query(quantile(0.95, "glad_queue_wait_seconds", "priority"), "wait, {{priority}}, 95 %"),
            ),
        ),
        Panel(
            "Workers",
            "none",
            (Query("max by (pool) (glad_workers_seen)", "{{pool}} seen"), Query("sum(glad_worker_ready)", "ready")),
        ),
        Panel(
            "Silence",
            "s",
            (Query("glad_worker_silence_seconds", "{{instance}}"),),
            "Since the last completed step or, idle, the last answered claim.",
            width=24,
        ),
    ),
)

SERVICE = Dashboard(
    "service",
    "GLAD Service",
    "Requests, refusals, failures, Redis, and what the outbox delivers.",
    (
        Panel(
            "Requests",
            "reqps",
            (Query(f"sum by (method, route) ({rate('glad_http_requests_total')})", "{{method}} {{route}}"),),
        ),
        Panel(
            "Answers by status",
            "reqps",
            (Query(f"sum by (status) ({rate('glad_http_requests_total')})", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Time to answer",
            "s",
            (Query(quantile(0.95, "glad_http_request_duration_seconds", "route"), "{{route}} 95 %"),),
            "To the first byte; `Prefer: wait` waits for the result.",
        ),
        Panel(
            "Images without a verdict",
            "percentunit",
            (Query("glad:error_ratio:rate5m", "5 min"), Query("glad:error_ratio:rate1h", "1 h")),
            "Of those sent: refused for want of room or by a fault, or ended without one. Objective: 0.1 %.",
            most=0.001,
        ),
        Panel(
            "Refused submissions",
            "reqps",
            (Query(f"sum by (reason) ({rate('glad_inspections_rejected_total')})", "{{reason}}"),),
            "Empty until one is refused.",
        ),
        Panel(
            "Failed inspections",
            "reqps",
            (Query(f"sum by (code) ({rate('glad_inspections_failed_total', PRODUCT)})", "{{code}}"),),
            "Empty until one fails. A point leads to the latest of them.",
            inspections="state=failed",
        ),
        Panel(
            "Redeliveries and dead letters",
            "reqps",
            (
                Query(f"sum({rate('glad_inspections_redelivered_total')})", "redelivered"),
                Query(f"sum({rate('glad_inspections_dead_lettered_total')})", "dead-lettered"),
            ),
        ),
        Panel(
            "Redis memory",
            "bytes",
            (
                Query("max(glad_redis_memory_used_bytes)", "used"),
                Query("max(glad_redis_memory_limit_bytes)", "limit"),
            ),
        ),
        Panel(
            "Streams",
            "none",
            (Query("max by (stream) (glad_redis_stream_length)", "{{stream}}"),),
            "Jobs queued and running, events kept, dead letters of inspections and of the outbox.",
        ),
        Panel(
            "Redis",
            "none",
            (
                Query("max(glad_redis_up)", "answers"),
                Query("max(glad_redis_append_ok)", "writes"),
                Query("min(glad_redis_append_only)", "has an append-only file"),
                Query("max(glad_redis_evicts)", "drops keys when full"),
                Query("max(glad_redis_failover_loses)", "a failover loses images"),
                Query("max(glad_redis_clients)", "connections"),
            ),
        ),
        Panel(
            "Results that went before their time",
            "reqps",
            (Query(f"max by (reason) ({rate('glad_results_forgotten_total')})", "{{reason}}"),),
            "`number`: beyond GLAD_MAX_RESULTS; `memory`: beyond 70 % of Redis's maxmemory. No waiting image goes.",
        ),
        Panel(
            "Decoders replaced",
            "reqps",
            (Query(f"sum by (job, reason) ({rate('glad_decoders_ended_total')})", "{{job}} {{reason}}"),),
            "An image took too much time or memory, or crashed it; empty until one does. "
            "`killed`: the machine is short of memory.",
        ),
        Panel(
            "Readers of the events",
            "none",
            (Query("sum by (instance) (glad_event_streams)", "{{instance}}"),),
            "At GLAD_MAX_EVENT_STREAMS of one process further readers are answered 429.",
        ),
        Panel(
            "Clocks",
            "s",
            (Query("max by (instance) (glad_clock_offset_seconds)", "{{instance}}"),),
            "How far each API's clock is ahead of Redis's; more than a second is an alert.",
        ),
        Panel(
            "Age of the last backup",
            "s",
            (Query("time() - max(glad_backup_last_success_timestamp_seconds)", "age"),),
            "Empty where none was made.",
        ),
        Panel(
            "Bundles that a worker cannot use",
            "none",
            (Query("sum by (product, version, reason) (glad_bundle_unusable)", "{{product}} {{version}} {{reason}}"),),
            "`missing`: not in the worker's store; `away`: its store cannot be read. It leaves such images to others.",
        ),
        Panel(
            "Artifacts disk",
            "bytes",
            (
                Query("min(glad_artifacts_disk_free_bytes)", "free"),
                Query("min(glad_artifacts_disk_size_bytes)", "size"),
            ),
            "Empty where artifacts are in an object store.",
        ),
        Panel(
            "Deliveries",
            "reqps",
            (
                Query(f"sum by (sink) ({rate('glad_outbox_delivered_total')})", "{{sink}}"),
                Query(f"sum by (sink) ({rate('glad_outbox_failed_total')})", "{{sink}} failed"),
            ),
            "Events that the outbox took to webhooks, broker and archive, and attempts that failed.",
        ),
        Panel(
            "Events under way",
            "none",
            (Query("sum by (sink) (glad_outbox_pending)", "{{sink}}"),),
            "Taken by the outbox and not delivered yet: those that failed wait for their next attempt.",
        ),
        Panel(
            "Delivery lag",
            "s",
            (Query("max by (sink) (glad_outbox_lag_seconds)", "{{sink}}"),),
            "Age of the oldest event that is not delivered; the archive gathers for GLAD_ARCHIVE_EVERY_S.",
        ),
        Panel(
            "Events kept",
            "none",
            (
                Query('max(glad_redis_stream_length{stream="events"})', "kept"),
                Query("max(glad_events_limit)", "limit"),
            ),
            "Above half the limit a reader lags; at the limit it loses the oldest.",
        ),
        Panel(
            "Deliveries given up, events lost",
            "none",
            (
                Query('max(glad_redis_stream_length{stream="outbox_dead"})', "dead letters"),
                Query(f"sum by (sink) ({rate('glad_outbox_lost_total')})", "{{sink}} lost a second"),
            ),
        ),
        Panel("Versions", "none", (Query("count by (job, version) (glad_build_info)", "{{job}} {{version}}"),)),
    ),
)

BAND_COLOURS = {
    "below_p10": "blue",
    "p10_to_p50": "green",
    "p50_to_p90": "semi-dark-green",
    "p90_to_max": "yellow",
    "above_max": "red",
}
MODELS = Dashboard(
    "models",
    "GLAD Models",
    "Which versions inspect, how long they load, and whether scores still lie where calibration found them.",
    (
        Panel(
            "Active versions",
            "none",
            (Query(f"max by (product, version) (glad_bundle_active{{{PRODUCT}}})", "{{product}} {{version}}"),),
            "What inspects the next image of each product.",
        ),
        Panel(
            "Loaded bundles",
            "none",
            (Query("sum by (product, version, engine) (glad_engine_info)", "{{product}} {{version}} {{engine}}"),),
            "By how many workers, and what runs their models.",
        ),
        Panel(
            "Load time",
            "s",
            (Query(mean("glad_bundle_load_seconds", "product, version", PRODUCT), "{{product}} {{version}}"),),
            "Empty until a bundle is loaded within the time shown.",
        ),
        Panel(
            "Switch time",
            "s",
            (Query(mean("glad_bundle_switch_seconds", "product, version", PRODUCT), "{{product}} {{version}}"),),
            "From the claim of an image whose bundle was not loaded to its first step. Empty until that happens.",
        ),
        Panel(
            "Thresholds",
            "none",
            (
                Query(
                    f"max by (product, version, threshold) (glad_threshold{{{PRODUCT}}})",
                    "{{product}} {{version}} {{threshold}}",
                ),
            ),
        ),
        Panel(
            "Scores against calibration",
            "none",
            (
                Query(quantile(0.5, "glad_anomaly_score", "product", PRODUCT), "{{product}} half"),
                Query(quantile(0.9, "glad_anomaly_score", "product", PRODUCT), "{{product}} 90 %"),
                Query(
                    f'max by (product, quantile) (glad_calibration_score{{{PRODUCT},quantile=~"0.5|0.9|1"}})',
                    "{{product}} calibrated {{quantile}}",
                ),
            ),
            "Quantiles of a histogram are as fine as its buckets; the bands below are exact.",
        ),
        Panel(
            "Share of scores in each band of the calibration",
            "percentunit",
            (
                Query(
                    f"sum by (band) ({rate('glad_score_band_total', PRODUCT)})"
                    f" / ignoring (band) group_left sum({rate('glad_score_band_total', PRODUCT)})",
                    "{{band}}",
                ),
            ),
            "Of good parts 10 % lie below p10, 40 % up to p50, 40 % up to p90, 10 % up to the highest, none above.",
            width=24,
            stacked=True,
            colours=BAND_COLOURS,
        ),
    ),
)

DASHBOARDS = (LINE, ENGINE, SERVICE, MODELS)


def main() -> int:
    """Writes the files anew."""
    for folder in (TARGET, CLUSTER_TARGET):
        folder.mkdir(parents=True, exist_ok=True)
        for dashboard in DASHBOARDS:
            (folder / f"{dashboard.name}.json").write_text(text_of(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
