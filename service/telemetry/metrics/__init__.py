"""The metrics of each process, under the names that dashboards and alerts rely on: docs/telemetry.md lists them.

Every process shows its own counters on its own port and shares none with other processes: Prometheus adds them up. What
all processes share (queue, Redis, disk, products) is shown by every API process alike: take the maximum.
"""
