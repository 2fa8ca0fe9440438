"""Who calls, as the door found out, and whether this call is theirs to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.auth.scopes import Scope, needed_scope
from service.errors import Forbidden


@dataclass(frozen=True)
class Caller:
    """The owner of a key, or anybody, where the service is open."""

    id: str
    """The key's id; "" for anybody."""
    name: str
    scopes: frozenset[Scope]

    @property
    def key_name(self) -> str | None:
        """The key's name; None for anybody."""
        return self.name if self.id else None

    def may(self, scope: Scope) -> bool:
        """Has this right."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYBODY = Caller("", "anybody", frozenset(Scope))


def caller(request: Request) -> Caller:
    """Who makes this request."""
    found: Caller = request.state.caller
    return found


CallerOf = Annotated[Caller, Depends(caller)]
"""A path function's `caller` argument."""


def authorize(request: Request, who: CallerOf) -> None:
    """Forbidden if this call takes a scope that the caller's key lacks. A dependency of the whole application."""
    scope = needed_scope(request.method, request.scope["route"].path_format)
    if not who.may(scope):
        has = ", ".join(sorted(who.scopes))
        raise Forbidden(
            f"key {who.name!r} has the scope {has}; {request.method} {request.url.path[:200]} takes {scope.value!r}: "
            "use another key, or make one with that scope",
            scope=scope.value,
        )
