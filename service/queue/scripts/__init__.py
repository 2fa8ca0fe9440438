"""The Lua scripts: each is one atomic step of the queue. `common.lua` is put before each of them, and before some also
another file of shared functions."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def load(*names: str) -> str:
    """Return the text of these files, the script itself last, with the common functions before them."""
    folder = resources.files(__name__)
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", *names))
