"""A product's quality gate: how the API shows it, and switching it."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from glad_client.answers import GateLimits, GateView
from model_store.product_state import ProductState
from model_store.store import BundleRef, Store
from service.api.dependencies import CallerDep, ProductPath, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.product_changes import IfMatch, set_etag, state_before_change, use_store
from service.contract import Note, Text

router = APIRouter(tags=["products"])
log = structlog.get_logger(__name__)


def gate_view(ref: BundleRef, state: ProductState) -> GateView:
    """Return the gate of a product, from its active bundle and its state."""
    gate, switch = ref.manifest.gate, state.gate
    return GateView(
        on=state.gate_on,
        by=switch.by if switch else None,
        at=switch.at if switch else None,
        note=switch.note if switch else None,
        limits=None if gate is None else GateLimits.model_validate(gate.model_dump(exclude={"view"})),
    )


class GateFields(BaseModel):
    """The switch of the quality gate, which checks images before they are inspected."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"on": False, "note": "new lamp"}]})

    on: bool = Field(description="false: every image is inspected, however dark or blurred")
    by: Text | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["new lamp; limits to be learned anew"])


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

    Images that wait already, and stored results, stay as they are. The limits are the bundle's own: `glad gate` learns
    others.
    """
    by, note = caller.author(fields.by), fields.note or ""

    def change(store: Store) -> ProductState:
        before = state_before_change(store, product, if_match)
        revision = None if if_match is None else before.revision
        return store.switch_gate(product, on=fields.on, by=by, note=note, revision=revision)

    ref = await use_store(services, product, lambda store: store.resolve(product))
    state = await use_store(services, product, change)
    set_etag(response, state.revision)
    log.info("quality gate switched", product=product, on=fields.on, by=by, key=caller.key_name, note=note)
    return gate_view(ref, state)
