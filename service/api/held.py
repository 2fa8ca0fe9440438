"""How many bytes of bodies this process holds now, of all clients together: they cannot fill its memory."""

from __future__ import annotations


class Held:
    """The bytes of all bodies that are coming, or whose requests are being answered. For one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0

    def take(self, count: int) -> bool:
        """So many bytes more are held; False: there is no room for them, and they are not counted."""
        if self.bytes + count > self.most:
            return False
        self.bytes += count
        return True

    def give_back(self, count: int) -> None:
        """So many bytes are held no longer."""
        self.bytes -= count
