"""Where histograms are cut. Changing a bucket changes what a dashboard can tell of the past."""

from __future__ import annotations

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From a decoded thumbnail to a queue that stands."""
LOADING = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
"""Seconds from a file of a few MB in memory to a full-size model over a network."""
SCORES = tuple(round(10 ** (step / 8), 4) for step in range(-16, 9))
"""0.01 to 10, eight to a decade: raw scores of different products differ by an order of magnitude."""
LANES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STEPS = tuple(range(0, 1001, 100))
EVALUATIONS = (1, 2, 5, 10, 15, 20, 25, 30, 50, 100, 200, 500)
"""An untiled image takes as many as it has steps; one of many tiles, times its tiles."""
