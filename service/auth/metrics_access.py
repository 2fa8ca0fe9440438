"""Who may read the metrics of a worker or an outbox: the same callers that may read those of the API."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import redis
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.auth.api_keys import READ_TIMEOUT_S, REFRESH_S, KeyRing, KeyStore
from service.auth.authenticator import needs_key, presented_key
from service.auth.scopes import Caller, Scope
from service.errors import Forbidden, QueueUnavailable, Unauthorized
from service.settings import Settings

log = structlog.get_logger(__name__)


class MetricsAccess:
    """Decides who may read `/metrics` of this process. For threads."""

    def __init__(self, settings: Settings) -> None:
        """Remember the settings; Redis is asked when a key has to be checked."""
        self._settings = settings
        # No retries: a scrape waits for the answer. While Redis is away, the keys that were read last count.
        client = redis.Redis.from_url(
            settings.redis_url or "redis://",
            decode_responses=True,
            socket_timeout=READ_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._keys = KeyStore(client)
        self._reading = threading.Lock()
        self._ring: KeyRing | None = None
        self._due_at = 0.0

    def check(self, headers: Mapping[str, str]) -> None:
        """Return if the sender of these headers may read the metrics.

        Args:
            headers: of the request, found by names in lower case.

        Raises:
            Unauthorized: if a key is needed and the request has none that is in use.
            Forbidden: if the key lacks the scope `read`.
            QueueUnavailable: if the keys could never be read.
        """
        settings = self._settings
        if settings.metrics_open or settings.auth == "off":
            return
        ring = self._current_keys()
        if ring is None:
            raise QueueUnavailable("the API keys cannot be read now: try again later")
        if not needs_key(settings.auth, settings.health_host, any_key_made=ring.any_created):
            return
        presented = presented_key(headers)
        key = ring.find_key(presented) if presented else None
        if key is None:
            raise Unauthorized("send an API key with the scope read as `Authorization: Bearer glad_…`")
        if not Caller(key.id, key.name, key.scopes).has_scope(Scope.READ):
            raise Forbidden(f"key {key.name!r} lacks the scope read: use another key", scope=Scope.READ.value)

    def _current_keys(self) -> KeyRing | None:
        with self._reading:
            if time.monotonic() >= self._due_at:
                try:
                    self._ring = self._keys.ring()
                except RedisError as error:
                    log.warning("API keys could not be read", error=str(error), kind=type(error).__name__)
                self._due_at = time.monotonic() + REFRESH_S
            return self._ring
