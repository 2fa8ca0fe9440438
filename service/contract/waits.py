"""How long a request may wait for its result."""

from __future__ import annotations

LONGEST_WAIT_S = 30
"""Of `Prefer: wait=N`."""
LONGEST_INFER_WAIT_S = 60
"""Of an inference request under /v2: as long as its usual clients wait for an answer."""
