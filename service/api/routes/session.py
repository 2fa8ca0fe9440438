"""Signing in on the page, with an API key and a name, and out again: `/v1/session`."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from glad_client.answers import SessionView
from service.api.dependencies import ServicesDep
from service.api.openapi import operations as documents
from service.auth.authenticator import SignedIn
from service.auth.scopes import Scope
from service.auth.sessions import COOKIE
from service.contract import Person, check_visible, now

router = APIRouter(tags=["session"])
log = structlog.get_logger(__name__)


class SignInFields(BaseModel):
    """Who signs in, and with which API key."""

    model_config = ConfigDict(extra="forbid")

    person: Annotated[Person, AfterValidator(check_visible)] = Field(
        description="name or badge: stands at every decision", examples=["A. Meier"]
    )
    key: Annotated[str, Field(max_length=200)] | None = Field(
        None,
        description="the API key; null where none is needed, or to hand the present session over to another person",
        examples=["glad_5f0c2a9b1e77_…"],
    )


@router.get("/v1/session", summary="Ask who is signed in", responses=documents.SESSION_RESPONSES)
async def get(services: ServicesDep, request: Request) -> SessionView:
    """Return who makes the calls: by the cookie of a session, or by the API key that this call came with.

    Needs no key.
    """
    return _view(await services.authenticator.describe(request.headers, request.scope.get("client")))


@router.post("/v1/session", summary="Sign in", responses=documents.SIGN_IN_RESPONSES)
async def sign_in(services: ServicesDep, request: Request, response: Response, fields: SignInFields) -> SessionView:
    """Open a session, and set its cookie `glad_session`: calls with it have the scopes of the key.

    A call with the cookie that changes something needs the header `X-CSRF-Token`. Whatever such a call names as `by`,
    the person who signed in is recorded. The session ends by itself after `GLAD_SESSION_S` seconds, and when its key is
    revoked. Programs need none: they send their key.

    A person who is signed in can hand over to another one without the key; the time of the session goes on.
    """
    signed_in = await services.authenticator.sign_in(
        request.headers, request.scope.get("client"), person=fields.person, key=fields.key
    )
    assert signed_in.session is not None
    response.set_cookie(
        COOKIE,
        signed_in.session.token,
        max_age=round((signed_in.session.stored.expires_at - now()).total_seconds()),  # its clock may be another
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    log.info("signed in", person=fields.person, key=signed_in.caller.key_name if signed_in.caller else None)
    return _view(signed_in)


@router.delete("/v1/session", summary="Sign out", status_code=204, responses=documents.SIGN_OUT_RESPONSES)
async def sign_out(services: ServicesDep, request: Request) -> Response:
    """End the session at once, on every page of this browser. Without one, nothing happens."""
    await services.authenticator.sign_out(request.headers)
    response = Response(status_code=204)
    secure = request.url.scheme == "https"
    response.delete_cookie(COOKIE, path="/", secure=secure, httponly=True, samesite="strict")
    return response


def _view(signed_in: SignedIn) -> SessionView:
    caller, session = signed_in.caller, signed_in.session
    return SessionView(
        needs_key=signed_in.needs_key,
        signed_in=session is not None,
        person=None if session is None else session.stored.person,
        key=None if caller is None else caller.key_name,
        scopes=tuple(scope.value for scope in Scope if caller is not None and caller.has_scope(scope)),
        expires_at=None if session is None else session.stored.expires_at,
        csrf=None if session is None else session.csrf,
    )
