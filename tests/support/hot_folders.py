"""What tests of hot folders share: files of a camera, and what the service was given."""

from __future__ import annotations

import os
from pathlib import Path

import redis

from glad_client.camera.destination import Destination
from glad_client.camera.hot_folder import HotFolder
from glad_client.client import Client
from tests.support.line import picture


def put(folder: Path, name: str, content: bytes | None = None, at: int = 1_700_000_000) -> Path:
    """Writes a file, with that time."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture() if content is None else content)
    os.utime(path, (at, at))
    return path


def accepted(client: redis.Redis) -> int:
    """How many inspections there are."""
    return sum(1 for _ in client.scan_iter("glad:v1:inspection:*"))


def settled_at_once(service: Client, folder: Path, move_to: Path | None = None, refused_s: float = 0) -> HotFolder:
    """A hot folder that posts whatever it sees, and moves refused files at once."""
    return HotFolder(service, Destination("toy"), folder, move_to=move_to, settle_s=0, refused_s=refused_s)
