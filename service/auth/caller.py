"""The caller of a request, and the check that its scopes allow the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.auth.scopes import Scope, required_scope
from service.errors import Forbidden


@dataclass(frozen=True)
class Caller:
    """The owner of an API key; or anybody, where no key is needed."""

    id: str
    """The key's id; "" without a key."""
    name: str
    scopes: frozenset[Scope]

    @property
    def key_name(self) -> str | None:
        """The key's name; None without a key."""
        return self.name if self.id else None

    def has_scope(self, scope: Scope) -> bool:
        """Return whether the caller has this scope; `admin` includes every other one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANONYMOUS = Caller("", "anybody", frozenset(Scope))
"""The caller where no key is needed: it has every scope."""


def current_caller(request: Request) -> Caller:
    """Return the caller that `AuthenticationMiddleware` has found."""
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(current_caller)]
"""The `caller` argument of a path function."""


def authorize(request: Request, caller: CallerDep) -> None:
    """Check that the caller may make this call. It is a dependency of the whole application.

    Raises:
        Forbidden: if the call takes a scope that the caller's key lacks.
    """
    scope = required_scope(request.method, request.scope["route"].path_format)
    if not caller.has_scope(scope):
        scopes = ", ".join(sorted(caller.scopes))
        raise Forbidden(
            f"key {caller.name!r} has the scope {scopes}; {request.method} {request.url.path[:200]} takes "
            f"{scope.value!r}: use another key, or make one with that scope",
            scope=scope.value,
        )
