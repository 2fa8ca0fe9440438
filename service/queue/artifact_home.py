"""Whether the folder of artifacts is the one in which the images of this Redis lie.

The folder has a marker, and Redis remembers what it says. A first start finds neither, and makes both. Later the
marker is missing where the share is not mounted, or is another where the wrong one is: then the store is away, and
images wait.
Buckets have no marker: one that is gone says so.
"""

from __future__ import annotations

from typing import cast

import redis

from service.queue import keys
from service.storage.artifacts import ArtifactStore, ArtifactsUnavailable
from service.storage.local import describe_wrong_marker


class ArtifactHome:
    """Checks the folder once, and has the store check it at every write from then on. Blocks; safe with threads."""

    def __init__(self, client: redis.Redis, artifacts: ArtifactStore) -> None:
        """Check nothing yet.

        Args:
            client: of the Redis that has the jobs.
            artifacts: the store that this process uses.
        """
        self._redis, self._artifacts = client, artifacts
        self._checked = not artifacts.marked

    def check(self, *, make: bool = False) -> None:
        """Make sure that the store is the one that holds the images.

        Args:
            make: where Redis knows of no folder, mark this one, or take over its marker. The API does at the first
                image. Without it nothing is asked of a folder that Redis does not know.

        Raises:
            ArtifactsUnavailable: if it is not, or cannot be read now.
            RedisError: if Redis is away.
        """
        if self._checked:
            return
        known = cast("str | None", self._redis.get(keys.ARTIFACTS))
        found = self._artifacts.marker(make=make and known is None)
        if known is None and found is not None and make:
            self._redis.set(keys.ARTIFACTS, found, nx=True)
            known = cast("str | None", self._redis.get(keys.ARTIFACTS))
        if known is None:
            return
        if found != known:
            raise ArtifactsUnavailable(describe_wrong_marker(self._artifacts.root, found, known))
        self._artifacts.require_marker(known)
        self._checked = True
