"""Reading PromQL, as far as tests need it."""

from __future__ import annotations

import re

_BRACES = re.compile(r"\{[^{}]*\}")
_GROUPING = re.compile(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^()]*\)")


def names_in(expression: str) -> set[str]:
    """The names of the series that it asks for: ours, and Prometheus's own `up`."""
    bare = _GROUPING.sub(" ", _BRACES.sub(" ", expression))
    return set(re.findall(r"\bglad[:_][a-zA-Z0-9:_]+|\bup\b", bare))
