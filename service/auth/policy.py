"""Is the service open to everybody, and may it be?

| GLAD_AUTH | meaning |
|---|---|
| `auto` | on the loopback address: open until the first key is made. Elsewhere: keys, and no start without one |
| `keys` | every call needs a key; without one made, nobody gets in |
| `off` | open to everybody who reaches the address: somebody else keeps the door |
"""

from __future__ import annotations

import ipaddress
from typing import Literal

import redis
from redis.exceptions import RedisError

from service.auth.api_keys import KeyStore
from service.errors import StartError

Auth = Literal["auto", "keys", "off"]


def is_loopback(host: str) -> bool:
    """Only this machine reaches an address like this."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def needs_key(auth: Auth, host: str, *, any_key_made: bool) -> bool:
    """A call needs a key."""
    return auth == "keys" or (auth == "auto" and (any_key_made or not is_loopback(host)))


def check_may_start(auth: Auth, host: str, client: redis.Redis) -> None:
    """StartError where `auto` would serve a network to which nobody has a key. Without Redis nothing is known: the
    service then starts closed."""
    if auth != "auto" or is_loopback(host):
        return
    try:
        made = KeyStore(client).all()
    except RedisError:
        return
    if not any(key.revoked_at is None for key in made):
        raise StartError(
            f"GLAD_HOST is {host}, which other machines reach, and there is no API key: make one with "
            "`glad key create NAME --scope submit,read`; or set GLAD_AUTH=keys to start without (nobody gets in until "
            "a key is made), or GLAD_AUTH=off to serve everybody who reaches this address"
        )
