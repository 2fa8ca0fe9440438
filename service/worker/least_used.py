"""What is kept of things that are costly to make: the last used; the least used leave first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class LeastUsed(Generic[Thing]):
    """At most `capacity` things by name. Not for several threads."""

    def __init__(self, capacity: int, left: Callable[[Thing], None] | None = None) -> None:
        """`left`: told of each thing that had to leave."""
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be at least 1")
        self._capacity, self._left = capacity, left
        self._kept: OrderedDict[str, Thing] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def get(self, name: str, make: Callable[[], Thing]) -> Thing:
        """The thing of this name; made if it is not here. What `make` raises leaves everything as it was."""
        if name not in self._kept:
            self._kept[name] = make()
        self._kept.move_to_end(name)
        while len(self._kept) > self._capacity:
            _, gone = self._kept.popitem(last=False)
            if self._left is not None:
                self._left(gone)
        return self._kept[name]
