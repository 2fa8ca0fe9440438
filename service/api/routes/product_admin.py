"""Changing what decides an inspection: the active version of a product, and the thresholds of a version."""

from __future__ import annotations

from typing import Annotated, Self

import structlog
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from glad_client.answers import ThresholdsView
from model_store.manifest import Name, VerdictThresholds
from model_store.product_state import Activation, ProductState, ThresholdOverrides
from model_store.store import BundleRef, Store
from service.api.dependencies import CallerDep, ProductPath, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.distributions import LARGEST_THRESHOLD
from service.api.routes.product_changes import IfMatch, change_store, set_etag, state_before_change, use_store
from service.api.routes.stored_results import MAX_COMPARED
from service.api.routes.threshold_effect import preview_effect
from service.contract import NotBool, Note, Thresholds, VisibleText
from service.errors import InvalidFields

router = APIRouter(tags=["products"])
log = structlog.get_logger(__name__)


class ActiveFields(BaseModel):
    """The version that inspects from now on: one by name, or the one before."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": "2"}]})

    version: Name | None = Field(None, description="the version to activate", examples=["2"])
    roll_back: bool = Field(False, description="instead of `version`: go back to the one that was active before")
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["less false alarms on bright parts"])

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.version is None) != self.roll_back:
            raise ValueError("give either `version`, or `roll_back`: true")
        return self


class ActiveView(BaseModel):
    """The version that inspects the product now, and the changes that led there."""

    product: str
    active: str | None = Field(description="null: none was chosen, so the newest version")
    revision: int = Field(description="grows with every change of the product")
    history: list[Activation] = Field(description="oldest first")


class ThresholdFields(BaseModel):
    """Thresholds to change. Those left out stay; null restores the calibrated value."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    review: Annotated[float | None, NotBool] = Field(None, ge=-LARGEST_THRESHOLD, le=LARGEST_THRESHOLD, examples=[0.3])
    fail: Annotated[float | None, NotBool] = Field(None, gt=0, le=LARGEST_THRESHOLD, examples=[0.4])
    pixel: Annotated[float | None, NotBool] = Field(None, gt=0, le=LARGEST_THRESHOLD, examples=[0.42])
    version: Name | None = Field(None, description="default: the active version")
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["too many false alarms"])


@router.put(
    "/v1/products/{product}/active", summary="Activate a version, or roll back", responses=documents.ACTIVE_RESPONSES
)
async def activate(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductPath,
    fields: ActiveFields,
    *,
    if_match: IfMatch = None,
) -> ActiveView:
    """Activate the version for images that are accepted from now on.

    Images that wait already stay with the version that they were accepted for. Every file of the version is verified
    first.
    """
    by, note = caller.author(fields.by), fields.note or ""

    def change(store: Store) -> ProductState:
        before = state_before_change(store, product, if_match)
        revision = None if if_match is None else before.revision
        if fields.version is None:
            return store.roll_back(product, by=by, note=note, revision=revision)
        return store.activate(product, fields.version, by=by, note=note, revision=revision)

    state = await change_store(services, product, change)
    set_etag(response, state.revision)
    log.info(
        "version activated",
        product=product,
        version=state.active,
        by=by,
        key=caller.key_name,
        note=note,
        revision=state.revision,
    )
    return ActiveView(product=product, active=state.active, revision=state.revision, history=list(state.history))


@router.patch(
    "/v1/products/{product}/thresholds", summary="Change thresholds", responses=documents.THRESHOLDS_RESPONSES
)
async def thresholds(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductPath,
    fields: ThresholdFields,
    *,
    if_match: IfMatch = None,
    preview: Annotated[bool, Query(description="true: only show the effect; nothing changes")] = False,
    last: Annotated[int, Query(ge=0, le=MAX_COMPARED, description="inspections to try the change on")] = 1000,
) -> ThresholdsView:
    """Override a version's calibrated thresholds for images that are accepted from now on.

    The answer says how many of the last inspections would have had another verdict. Stored results stay as they are.
    """
    state = await use_store(services, product, lambda store: state_before_change(store, product, if_match))
    ref = await use_store(services, product, lambda store: store.resolve(product, fields.version))
    calibration = ref.manifest.thresholds
    overrides = _merged(state.overrides.get(ref.version, ThresholdOverrides()), fields)
    before, after = state.thresholds(ref.version, calibration), _overridden(ref, overrides)
    effect = await preview_effect(services, ref, after, last)
    if not preview:
        by, note = caller.author(fields.by), fields.note or ""
        # The overrides were merged into this revision: a change made since then is not written over.
        revision = state.revision
        state = await change_store(
            services,
            product,
            lambda store: store.override(product, ref.version, overrides, by=by, note=note, revision=revision),
        )
        log.info(
            "thresholds changed",
            product=product,
            version=ref.version,
            by=by,
            key=caller.key_name,
            **overrides.model_dump(),
        )
    set_etag(response, state.revision)
    return ThresholdsView(
        product=product,
        version=ref.version,
        revision=state.revision,
        applied=not preview,
        calibrated=_as_contract(_overridden(ref, ThresholdOverrides())),
        before=_as_contract(before),
        after=_as_contract(after),
        effect=effect,
    )


def _merged(overrides: ThresholdOverrides, fields: ThresholdFields) -> ThresholdOverrides:
    """Return the overrides in force with those of the call in their place."""
    return overrides.model_copy(update=fields.model_dump(include={"review", "fail", "pixel"}, exclude_unset=True))


def _overridden(ref: BundleRef, overrides: ThresholdOverrides) -> VerdictThresholds:
    """Return the bundle's thresholds with these overrides.

    Raises:
        InvalidFields: if the review threshold lies above the fail threshold.
    """
    try:
        return overrides.over(ref.manifest.thresholds)
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise InvalidFields.for_field("review", message) from error


def _as_contract(thresholds: VerdictThresholds) -> Thresholds:
    return Thresholds.model_validate(thresholds, from_attributes=True)
