"""What each process counts, under the names that dashboards and alerts rely on: docs/telemetry.md lists them.

Every process shows its own counters on its own port, so that nothing is shared between processes: Prometheus adds them
up. What is one for all (queue, Redis, disk, products) is shown by every API process alike: take its maximum.
"""
