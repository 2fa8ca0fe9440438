"""The toy models of the tests, for measurements of thousands of inspections. Only a checkout has them."""

from __future__ import annotations

from pathlib import Path

KEPT = 300
"""Results and events."""
SMALL = {
    "GLAD_DEVICE": "cpu",
    "GLAD_TORCH_THREADS": "1",
    "GLAD_MAX_RESULTS": str(KEPT),
    "GLAD_MAX_EVENTS": str(KEPT),
    "GLAD_ARTIFACTS_MAX_BYTES": str(64 << 20),
}
"""Settings of a service whose stores are full within minutes: trims and sweeps are at work, and nothing else grows."""


def toy_bundle(store: Path) -> Path:
    """A bundle of product "toy" in this store that takes a few milliseconds an image. RuntimeError outside a
    checkout."""
    try:
        from tests.support.tiny_bundle import QUICK, make_tiny_bundle
    except ModuleNotFoundError as error:
        raise RuntimeError("the toy models lie in tests/support: run this from a checkout of the project") from error
    return make_tiny_bundle(store, **QUICK)
