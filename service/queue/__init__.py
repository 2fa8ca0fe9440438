"""The one queue: Redis Streams, own leases, fenced completion. All keys are in `keys.py`, all scripts in `scripts/`."""
