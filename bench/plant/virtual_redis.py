"""The queue's own scripts on a real Redis, by the plant's clock instead of Redis's.

Each script gets the virtual time with its arguments. What stands before it answers TIME by that, keeps expiries by it,
and says that the server has been up for long; everything else reaches Redis as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import redis

PRELUDE = """
local server, clock_ms = redis, tonumber(table.remove(ARGV))
local EXPIRIES = 'plant:expiries'
for _, key in ipairs(server.call('ZRANGEBYSCORE', EXPIRIES, '-inf', clock_ms, 'LIMIT', 0, 100)) do
  server.call('DEL', key)
  server.call('ZREM', EXPIRIES, key)
end

local function without_px(given)
  local kept, ms = {}, nil
  local i = 1
  while i <= #given do
    if given[i] == 'PX' then
      ms = tonumber(given[i + 1])
      i = i + 2
    else
      kept[#kept + 1] = given[i]
      i = i + 1
    end
  end
  return kept, ms
end

local redis = {}
function redis.call(name, ...)
  if name == 'TIME' then
    return {tostring(math.floor(clock_ms / 1000)), tostring(clock_ms % 1000 * 1000)}
  elseif name == 'INFO' then
    return 'uptime_in_seconds:1000000000'
  elseif name == 'PEXPIRE' then
    local key, ms = ...
    return server.call('ZADD', EXPIRIES, clock_ms + tonumber(ms), key)
  elseif name == 'SET' then
    local given, ms = without_px({...})
    local done = server.call('SET', unpack(given))
    if done and ms then
      server.call('ZADD', EXPIRIES, clock_ms + ms, given[1])
    end
    return done
  end
  return server.call(name, ...)
end
redis.pcall = redis.call
"""

ClockMs = Callable[[], int]


class VirtualScript:
    """A registered script that is told the time."""

    def __init__(self, script: Callable[..., Any], clock_ms: ClockMs) -> None:
        self._script, self._clock_ms = script, clock_ms

    def __call__(self, keys: Iterable[Any] = (), args: Iterable[Any] = ()) -> Any:
        """As redis-py's `Script`."""
        return self._script(keys=list(keys), args=[*args, self._clock_ms()])


class VirtualRedis(redis.Redis):
    """A client whose scripts live in virtual time. Set `clock_ms` before the first script is registered."""

    clock_ms: ClockMs

    def register_script(self, script: Any) -> Any:
        """The script behind the prelude."""
        return VirtualScript(super().register_script(PRELUDE + script), self.clock_ms)


class Awaited:
    """The client as the API's side of the queue awaits it. Every call answers at once: see `answer`."""

    def __init__(self, client: VirtualRedis) -> None:
        self._client = client

    def register_script(self, script: str) -> Callable[..., Awaitable[Any]]:
        """The same script, awaited."""
        own = self._client.register_script(script)

        async def call(keys: Iterable[Any] = (), args: Iterable[Any] = ()) -> Any:
            return own(keys=keys, args=args)

        return call

    async def set(self, *given: Any, **options: Any) -> Any:
        """SET."""
        return self._client.set(*given, **options)

    async def get(self, key: str) -> Any:
        """GET."""
        return self._client.get(key)

    async def info(self) -> dict[str, Any]:
        """INFO: nothing is lost here, and nothing told."""
        return {}


def answer(call: Any) -> Any:
    """What a coroutine returns that never has to wait."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the call waits for something: in virtual time every call answers at once")
