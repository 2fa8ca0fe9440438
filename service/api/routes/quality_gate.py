"""A product's quality gate: how the API shows it, switching it, and changing its limits."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from glad.quality_gate.limits import QualityGate
from glad_client.answers import GateLimits, GateView
from glad_client.product_answers import GateLimitsView
from model_store.manifest import Name
from model_store.product_state import GateOverrides, ProductState
from model_store.store import BundleRef, Store
from service.api.dependencies import CallerDep, ProductPath, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.gate_effect import gate_effect
from service.api.routes.product_changes import IfMatch, change_store, set_etag, state_before_change, use_store
from service.api.routes.stored_results import MAX_COMPARED
from service.contract import NotBool, Note, VisibleText
from service.errors import InvalidFields, VersionUnusable

router = APIRouter(tags=["products"])
log = structlog.get_logger(__name__)


def gate_view(ref: BundleRef, state: ProductState) -> GateView:
    """Return the gate of a product, from its active bundle and its state."""
    learned, switch = ref.manifest.gate, state.gate
    return GateView(
        on=state.gate_on,
        by=switch.by if switch else None,
        at=switch.at if switch else None,
        note=switch.note if switch else None,
        limits=gate_limits(None if learned is None else state.gate_in_force(ref.version, learned)),
        learned=gate_limits(learned),
    )


def gate_limits(gate: QualityGate | None) -> GateLimits | None:
    """Return the limits of a gate as the API shows them."""
    return None if gate is None else _shown(gate)


class GateFields(BaseModel):
    """The switch of the quality gate, which checks images before they are inspected."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"on": False, "note": "new lamp"}]})

    on: bool = Field(description="false: every image is inspected, however dark or blurred")
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["new lamp; limits to be learned anew"])


Limit = Annotated[float | None, NotBool]


class GateLimitFields(BaseModel):
    """Limits to change. Those left out stay; null restores what good images set."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    darkest: Limit = Field(None, ge=0, le=255, description="least mean grey; 0: not asked", examples=[60])
    brightest: Limit = Field(None, ge=0, le=255, description="largest mean grey; 255: not asked")
    black_share: Limit = Field(None, ge=0, le=1, description="largest share in black; 1: not asked")
    white_share: Limit = Field(None, ge=0, le=1, description="largest share in white; 1: not asked")
    sharpness: Limit = Field(None, ge=0, le=1, description="least sharpness, in cycles per pixel; 0: not asked")
    likeness: Limit = Field(None, ge=0, le=1, description="least likeness to good images; 0: not asked")


class GateChangeFields(BaseModel):
    """A change of a version's gate limits."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"limits": {"darkest": 60}}]})

    limits: GateLimitFields
    version: Name | None = Field(None, description="default: the active version")
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["darker parts are good too"])


@router.put("/v1/products/{product}/gate", summary="Switch the quality gate", responses=documents.GATE_RESPONSES)
async def switch(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductPath,
    fields: GateFields,
    *,
    if_match: IfMatch = None,
) -> GateView:
    """Switch the quality gate for images that are accepted from now on, whatever version inspects them.

    Images that wait already, and stored results, stay as they are. The limits are the bundle's own, unless
    `PATCH /v1/products/{product}/gate` has changed them; `glad gate` learns others.
    """
    by, note = caller.author(fields.by), fields.note or ""

    def change(store: Store) -> ProductState:
        before = state_before_change(store, product, if_match)
        revision = None if if_match is None else before.revision
        return store.switch_gate(product, on=fields.on, by=by, note=note, revision=revision)

    ref = await use_store(services, product, lambda store: store.resolve(product))
    state = await change_store(services, product, change)
    set_etag(response, state.revision)
    log.info("quality gate switched", product=product, on=fields.on, by=by, key=caller.key_name, note=note)
    return gate_view(ref, state)


@router.patch(
    "/v1/products/{product}/gate",
    summary="Change limits of the quality gate",
    responses=documents.GATE_LIMITS_RESPONSES,
)
async def limits(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductPath,
    fields: GateChangeFields,
    *,
    if_match: IfMatch = None,
    preview: Annotated[bool, Query(description="true: only show the effect; nothing changes")] = False,
    last: Annotated[int, Query(ge=0, le=MAX_COMPARED, description="images to try the change on")] = 1000,
) -> GateLimitsView:
    """Override limits of a version's gate for images that are accepted from now on.

    The answer says how many of the last images would have been stopped, or inspected, instead. Stored results stay as
    they are.
    """
    state = await use_store(services, product, lambda store: state_before_change(store, product, if_match))
    ref = await use_store(services, product, lambda store: store.resolve(product, fields.version))
    learned = ref.manifest.gate
    if learned is None:
        raise VersionUnusable(
            f"version {ref.version} of product {product!r} has no quality gate: learn one with `glad gate`"
        )
    chosen = state.gate_limits.get(ref.version, GateOverrides())
    chosen = chosen.model_copy(update=fields.limits.model_dump(exclude_unset=True))
    before, after = state.gate_in_force(ref.version, learned), _overridden(learned, chosen)
    effect = await gate_effect(services, ref, after, last)
    if not preview:
        by, note, revision = caller.author(fields.by), fields.note or "", state.revision
        state = await change_store(
            services,
            product,
            lambda store: store.limit_gate(product, ref.version, chosen, by=by, note=note, revision=revision),
        )
        log.info(
            "gate limits changed",
            product=product,
            version=ref.version,
            by=by,
            key=caller.key_name,
            **chosen.model_dump(),
        )
    set_etag(response, state.revision)
    return GateLimitsView(
        product=product,
        version=ref.version,
        revision=state.revision,
        applied=not preview,
        learned=_shown(learned),
        before=_shown(before),
        after=_shown(after),
        effect=effect,
    )


def _overridden(learned: QualityGate, overrides: GateOverrides) -> QualityGate:
    try:
        return overrides.over(learned)
    except ValueError as error:
        raise InvalidFields.for_field("limits.darkest", str(error)) from error


def _shown(gate: QualityGate) -> GateLimits:
    return GateLimits.model_validate(gate.model_dump(exclude={"view"}))
