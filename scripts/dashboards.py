"""Writes the Grafana dashboards: `make dashboards`. Four files, for Compose and for Kubernetes.

The panels of the line, the workers and the models stand here, those of the service in service_dashboard.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.grafana import PRODUCT, Dashboard, Panel, Query, heatmap, mean, quantile, rate, share, text_of
from scripts.service_dashboard import SERVICE

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docker" / "grafana" / "dashboards"
CLUSTER_TARGET = ROOT / "k8s" / "components" / "monitoring" / "dashboards"
"""The same files again: kustomize reads none outside of its own folder."""
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
