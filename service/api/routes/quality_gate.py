"""Switching a product's quality gate."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from model_store.product_state import ProductState
from model_store.store import Store
from service.api.dependencies import ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.etags import IfMatch, tag
from service.api.routes.product_admin import ProductName, changed, seen_state
from service.api.routes.quality_gate_view import GateView, view_gate
from service.auth.caller import CallerDep
from service.contract import Note, Text

router = APIRouter(tags=["products"])
log = structlog.get_logger(__name__)


class GateFields(BaseModel):
    """Whether images are checked before they are inspected."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"on": False, "note": "new lamp"}]})

    on: bool = Field(description="false: every image is inspected, however dark or blurred")
    by: Text | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["new lamp; limits to be learned anew"])


@router.put("/v1/products/{product}/gate", summary="Switch the quality gate", responses=documents.GATE_RESPONSES)
async def switch(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductName,
    fields: GateFields,
    *,
    if_match: IfMatch = None,
) -> GateView:
    """Switches the quality gate for what is accepted from now on, whatever version inspects it. What waits already, and
    every stored result, stays as it is. The limits are the bundle's own: `glad gate` learns others."""
    by, note = fields.by or caller.name, fields.note or ""

    def change(store: Store) -> ProductState:
        seen = seen_state(store, product, if_match)
        revision = None if if_match is None else seen.revision
        return store.switch_gate(product, on=fields.on, by=by, note=note, revision=revision)

    ref = await changed(services, product, lambda store: store.resolve(product))
    state = await changed(services, product, change)
    tag(response, state.revision)
    log.info("quality gate switched", product=product, on=fields.on, by=by, key=caller.key_name, note=note)
    return view_gate(ref, state)
