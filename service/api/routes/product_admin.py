"""Changing what decides: the active version of a product, and the thresholds of a version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Self, TypeVar

import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_store import errors as refused
from model_store.manifest import Name
from model_store.product_state import Activation, ProductState, ThresholdOverrides
from model_store.store import BundleRef, Store
from service.api.dependencies import Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import refusal
from service.api.routes.etags import IfMatch, check_match, tag
from service.api.routes.threshold_effect import MOST_COMPARED, Effect, effect_on
from service.auth.caller import CallerDep
from service.contract import Note, Text, Thresholds
from service.errors import (
    FieldProblem,
    InvalidFields,
    ServiceError,
    StateChanged,
    StorageUnavailable,
    UnknownVersion,
    VersionUnusable,
)

T = TypeVar("T")

router = APIRouter(tags=["products"])
log = structlog.get_logger(__name__)

ProductName = Annotated[str, Path(description="the product's name", examples=["bracket"])]


class ActiveFields(BaseModel):
    """Which version inspects from now on: one by name, or the one before."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": "2"}]})

    version: Name | None = Field(None, description="the version to activate", examples=["2"])
    roll_back: bool = Field(False, description="instead of `version`: go back to the one that was active before")
    by: Text | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="why", examples=["less false alarms on bright parts"])

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.version is None) != self.roll_back:
            raise ValueError("give either `version`, or `roll_back`: true")
        return self


class ActiveView(BaseModel):
    """What inspects the product now, and how that came."""

    product: str
    active: str | None = Field(description="null: nobody has chosen; the newest version")
    revision: int = Field(description="grows with every change of the product")
    history: list[Activation] = Field(description="oldest first")


class ThresholdFields(BaseModel):
    """Thresholds to change. What is left out stays; null restores what calibration found."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    review: float | None = Field(None, examples=[0.3])
    fail: float | None = Field(None, gt=0, examples=[0.4])
    pixel: float | None = Field(None, gt=0, examples=[0.42])
    version: Name | None = Field(None, description="default: the active version")
    by: Text | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])


class ThresholdsView(BaseModel):
    """Thresholds before and after, and what the change does."""

    product: str
    version: str
    revision: int = Field(description="of the product, after the change; also the `ETag`")
    applied: bool = Field(description="false: a preview")
    calibrated: Thresholds
    before: Thresholds
    after: Thresholds
    effect: Effect


@router.put(
    "/v1/products/{product}/active", summary="Activate a version, or roll back", responses=documents.ACTIVE_RESPONSES
)
async def activate(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    product: ProductName,
    fields: ActiveFields,
    *,
    if_match: IfMatch = None,
) -> ActiveView:
    """The version inspects what is accepted from now on; what waits already stays with the version that it was accepted
    for. Every file of the version is verified first."""
    by, note = fields.by or caller.name, fields.note or ""

    def change(store: Store) -> ProductState:
        seen = seen_state(store, product, if_match)
        revision = None if if_match is None else seen.revision
        if fields.version is None:
            return store.roll_back(product, by=by, note=note, revision=revision)
        return store.activate(product, fields.version, by=by, note=note, revision=revision)

    state = await changed(services, product, change)
    tag(response, state.revision)
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
    product: ProductName,
    fields: ThresholdFields,
    *,
    if_match: IfMatch = None,
    preview: Annotated[bool, Query(description="true: only tell the effect; nothing changes")] = False,
    last: Annotated[int, Query(ge=0, le=MOST_COMPARED, description="inspections to try the change on")] = 1000,
) -> ThresholdsView:
    """Overrides a version's calibrated thresholds for what is accepted from now on, and tells how many of the last
    inspections would have had another verdict. Stored results stay as they are."""
    state = await changed(services, product, lambda store: seen_state(store, product, if_match))
    ref = await changed(services, product, lambda store: store.resolve(product, fields.version))
    calibration = ref.manifest.thresholds
    overrides = _merged(state.overrides.get(ref.version, ThresholdOverrides()), fields)
    before, after = _shown(state.thresholds(ref.version, calibration)), _over(overrides, ref)
    effect = await effect_on(services.history, ref, after, last)
    if not preview:
        by = fields.by or caller.name
        seen = state.revision  # the overrides were merged into this one: a change in between is not written over
        state = await changed(
            services, product, lambda store: store.override(product, ref.version, overrides, by=by, revision=seen)
        )
        log.info(
            "thresholds changed",
            product=product,
            version=ref.version,
            by=by,
            key=caller.key_name,
            **overrides.model_dump(),
        )
    tag(response, state.revision)
    return ThresholdsView(
        product=product,
        version=ref.version,
        revision=state.revision,
        applied=not preview,
        calibrated=_over(ThresholdOverrides(), ref),
        before=before,
        after=after,
        effect=effect,
    )


def seen_state(store: Store, product: str, if_match: str | None) -> ProductState:
    """The product's state before the change. PreconditionFailed if it is not the one that the caller saw."""
    state = store.state(product)
    check_match(if_match, state)
    return state


async def changed(services: Services, product: str, change: Callable[[Store], T]) -> T:
    """What the change gives; a ServiceError where the store refuses it."""
    try:
        return await asyncio.to_thread(change, services.store)
    except refused.VersionNotInStore as error:
        raise UnknownVersion(str(error)) from error
    except refused.StateConflict as error:
        raise StateChanged(str(error)) from error
    except (refused.BrokenBundle, refused.NotCalibrated, refused.NothingToRollBack) as error:
        raise _unusable(product, error) from error
    except (refused.StoreError, ValueError) as error:
        raise refusal(services.store, product, error) from error
    except OSError as error:
        log.error("product state not written", product=product, error=str(error))
        raise StorageUnavailable(
            "the product's state could not be written; nothing changed: try again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error


def _unusable(product: str, error: refused.StoreError) -> ServiceError:
    if isinstance(error, refused.BrokenBundle):  # its text names this machine's folders
        log.error("version unusable", product=product, reason=str(error))
        return VersionUnusable(
            f"a version of product {product!r} is broken; the service's log says how: publish it again"
        )
    return VersionUnusable(str(error))


def _merged(present: ThresholdOverrides, fields: ThresholdFields) -> ThresholdOverrides:
    given = fields.model_dump(include={"review", "fail", "pixel"}, exclude_unset=True)
    return present.model_copy(update=given)


def _over(overrides: ThresholdOverrides, ref: BundleRef) -> Thresholds:
    try:
        return Thresholds(**overrides.over(ref.manifest.thresholds).model_dump())
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise InvalidFields(f"review: {message}", errors=[FieldProblem(field="review", message=message)]) from error


def _shown(limits: BaseModel) -> Thresholds:
    return Thresholds(**limits.model_dump())
