"""Changing what decides: the active version of a product, and the thresholds of a version."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Self, TypeVar

import structlog
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_store import errors as refused
from model_store.manifest import Name
from model_store.product import Activation, ProductState, ThresholdOverrides
from model_store.store import BundleRef, Store
from service.api.documents import products as documents
from service.api.products import refusal
from service.api.site import Site, SiteOf
from service.contract import InspectionId, Note, Result, State, Text, Thresholds, Timestamp, Verdict
from service.errors import (
    InvalidFields,
    ServiceError,
    StateChanged,
    StorageUnavailable,
    UnknownVersion,
    VersionUnusable,
)
from service.problem_details import FieldProblem
from service.queue.history import HistoryFilter
from service.security.caller import CallerOf

PAGE = 200
MOST_COMPARED = 5000
SHOWN_EXAMPLES = 20

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


class Change(BaseModel):
    """How many inspections would have had another verdict."""

    before: Verdict
    after: Verdict
    count: int


class Effect(BaseModel):
    """The new thresholds on the product's last inspections by this version."""

    compared: int = Field(
        description="inspections with a score that are kept, the latest first, at most `last`; what the quality gate "
        "stopped has none"
    )
    changed: int
    changes: list[Change]
    oldest: Timestamp | None = Field(description="end of the oldest of them")
    examples: list[InspectionId] = Field(description=f"the latest that change, at most {SHOWN_EXAMPLES}")


class ThresholdsView(BaseModel):
    """Thresholds before and after, and what the change does."""

    product: str
    version: str
    applied: bool = Field(description="false: a preview")
    calibrated: Thresholds
    before: Thresholds
    after: Thresholds
    effect: Effect


@router.put(
    "/v1/products/{product}/active", summary="Activate a version, or roll back", responses=documents.ACTIVE_RESPONSES
)
async def activate(site: SiteOf, caller: CallerOf, product: ProductName, fields: ActiveFields) -> ActiveView:
    """The version inspects what is accepted from now on; what waits already stays with the version that it was accepted
    for. Every file of the version is verified first."""
    by, note = fields.by or caller.name, fields.note or ""

    def change(store: Store) -> ProductState:
        if fields.version is None:
            return store.roll_back(product, by=by, note=note)
        return store.activate(product, fields.version, by=by, note=note)

    state = await changed(site, product, change)
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
    site: SiteOf,
    caller: CallerOf,
    product: ProductName,
    fields: ThresholdFields,
    *,
    preview: Annotated[bool, Query(description="true: only tell the effect; nothing changes")] = False,
    last: Annotated[int, Query(ge=0, le=MOST_COMPARED, description="inspections to try the change on")] = 1000,
) -> ThresholdsView:
    """Overrides a version's calibrated thresholds for what is accepted from now on, and tells how many of the last
    inspections would have had another verdict. Stored results stay as they are."""
    ref = await changed(site, product, lambda store: store.resolve(product, fields.version))
    state = await changed(site, product, lambda store: store.state(product))
    calibration = ref.manifest.thresholds
    overrides = _merged(state.overrides.get(ref.version, ThresholdOverrides()), fields)
    before, after = _shown(state.thresholds(ref.version, calibration)), _over(overrides, ref)
    effect = await _effect(site, ref, after, last)
    if not preview:
        by = fields.by or caller.name
        await changed(site, product, lambda store: store.override(product, ref.version, overrides, by=by))
        log.info(
            "thresholds changed",
            product=product,
            version=ref.version,
            by=by,
            key=caller.key_name,
            **overrides.model_dump(),
        )
    return ThresholdsView(
        product=product,
        version=ref.version,
        applied=not preview,
        calibrated=_over(ThresholdOverrides(), ref),
        before=before,
        after=after,
        effect=effect,
    )


async def changed(site: Site, product: str, change: Callable[[Store], T]) -> T:
    """What the change gives; a ServiceError where the store refuses it."""
    try:
        return await asyncio.to_thread(change, site.store)
    except refused.UnknownVersion as error:
        raise UnknownVersion(str(error)) from error
    except refused.StateConflict as error:
        raise StateChanged(str(error)) from error
    except (refused.BrokenBundle, refused.NotCalibrated, refused.NothingToRollBack) as error:
        raise _unusable(product, error) from error
    except (refused.StoreError, ValueError) as error:
        raise refusal(site.store, product, error) from error
    except OSError as error:
        log.error("product state not written", product=product, error=str(error))
        raise StorageUnavailable(
            "the product's state could not be written; nothing changed: try again later",
            retry_after_s=site.settings.retry_after_s,
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


async def _effect(site: Site, ref: BundleRef, limits: Thresholds, last: int) -> Effect:
    """Reads the history from its new end, a page at a time. What the quality gate stopped has no score to compare."""
    wanted = HistoryFilter(product=ref.product, state=State.DONE)
    results: list[Result] = []
    position: int | None = None
    while len(results) < last:
        page = await site.history.page(wanted, after=position, limit=PAGE, newest_first=True)
        results += [
            result
            for result in page.results
            if result.score is not None and result.bundle and result.bundle.hash == ref.hash
        ]
        position = page.position
        if not page.more:
            break
    return compare(results[:last], limits)


def compare(results: Iterable[Result], limits: Thresholds) -> Effect:
    """These limits on inspections that are done, the latest first."""
    pairs = [
        (result, result.verdict, limits.verdict(result.score))
        for result in results
        if result.verdict is not None and result.score is not None
    ]
    changed = [(result, before, after) for result, before, after in pairs if before is not after]
    counts = Counter((before, after) for _, before, after in changed)
    return Effect(
        compared=len(pairs),
        changed=len(changed),
        changes=[Change(before=before, after=after, count=count) for (before, after), count in sorted(counts.items())],
        oldest=pairs[-1][0].finished_at if pairs else None,
        examples=[result.id for result, _, _ in changed[:SHOWN_EXAMPLES]],
    )
