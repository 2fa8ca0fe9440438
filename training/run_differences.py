"""In what the recipe and the images of a run differ from those of another call, in lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

ListedImages: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]
"""Of "train" and of "calibration": the name and the SHA-256 of each image."""
MOST_SETTINGS, MOST_NAMES, LONGEST_VALUE = 12, 3, 60


def changed_settings(then: Any, now: Any) -> list[str]:
    """Return a line for each setting that differs, such as "unet.steps was 450 and is 900 now".

    Args:
        then: the recipe as JSON that the run was begun with.
        now: the one that is given.
    """
    lines = [f"{path} was {_value(old)} and is {_value(new)} now" for path, old, new in _differences(then, now)]
    left_out = len(lines) - MOST_SETTINGS
    return lines if left_out <= 0 else [*lines[:MOST_SETTINGS], f"… and {left_out} other settings"]


def changed_images(then: ListedImages | None, now: ListedImages) -> list[str]:
    """Return a line for each way in which the images differ, with their number and the first names.

    Args:
        then: the images that the run was begun with; None: not known.
        now: those that are given.
    """
    if then is None:
        return ["images differ in name, content or number; an earlier version began the run, and noted no more"]
    gone, came = (_placed(one) - _placed(other) for one, other in ((then, now), (now, then)))
    ways: dict[str, set[str]] = {}
    former = {name: (part, content) for part, name, content in gone}
    contents = {content: name for _, name, content in gone}
    renamed = set()
    for part, name, content in came:
        if name in former:
            before, content_then = former[name]
            way = "have another content" if content_then != content else f"moved from {before} to {part}"
        elif content in contents:
            way = "have another name"
            renamed.add(contents[content])
        else:
            way = "were added"
        ways.setdefault(way, set()).add(name)
    if removed := former.keys() - renamed - {name for _, name, _ in came}:
        ways["were removed"] = set(removed)
    return [_line(way, names) for way, names in sorted(ways.items())] or ["the same images come in another order"]


def _line(way: str, names: set[str]) -> str:
    first, left_out = sorted(names)[:MOST_NAMES], len(names) - MOST_NAMES
    more = f" and {left_out} more" if left_out > 0 else ""
    if len(names) == 1:
        way = way.replace("were ", "was ").replace("have ", "has ")
    return f"{len(names)} image{'' if len(names) == 1 else 's'} {way}: {', '.join(first)}{more}"


def _placed(images: ListedImages) -> set[tuple[str, str, str]]:
    return {(part, name, content) for part, listed in images.items() for name, content in listed}


def _differences(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of each value that differs, as in TOML, with both values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*then, *now)):
            yield from _differences(then.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif then != now:
        yield path or "the recipe", then, now


def _value(value: Any) -> str:
    """Return a value as in TOML, shortened."""
    if isinstance(value, Mapping):
        value = {key: one for key, one in value.items() if one is not None}
        shown = f"{{ {', '.join(f'{key} = {_value(one)}' for key, one in value.items())} }}"
    else:
        shown = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[:LONGEST_VALUE]}…"
