"""The Lua scripts: each is one atomic step of the queue. `common.lua` stands before every one of them."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def load(*names: str) -> str:
    """The texts of `{name}.lua` in this order, with the common functions before them."""
    folder = resources.files(__name__)
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", *names))
