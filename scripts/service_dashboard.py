"""The dashboard of the service's machinery: requests, refusals, Redis, and what the outbox delivers."""

from __future__ import annotations

from scripts.grafana import PRODUCT, Dashboard, Panel, Query, quantile, rate

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
