"""What was measured of a version on labelled images: listed, recorded, removed. No verdict depends on it."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from glad_client.evaluations import (
    EvaluationData,
    EvaluationFigures,
    EvaluationList,
    EvaluationView,
)
from glad_client.fields import Sha256, Timestamp, check_text
from model_store.evaluations import MeasuredQuality, QualityFigures, RecordedEvaluation
from model_store.store import BundleRef, Store
from service.api.dependencies import CallerDep, ProductPath, ServicesDep, VersionPath
from service.api.openapi import operations as documents
from service.api.routes.product_changes import change_store, use_store
from service.contract import Note, VisibleText
from service.errors import InvalidFields

router = APIRouter(tags=["products"])
log = structlog.get_logger(__name__)

EvaluationPath = Annotated[str, Path(description="the evaluation's id", examples=["3f9a0c52d1e84b77"])]
PATH = "/v1/products/{product}/versions/{version}/evaluations"


class MeasurementFields(BaseModel):
    """When, where and how it was measured."""

    model_config = ConfigDict(extra="ignore")

    at: Timestamp
    machine: Annotated[str, StringConstraints(max_length=200), AfterValidator(check_text)] = ""
    glad: Annotated[str, StringConstraints(max_length=50), AfterValidator(check_text)] = ""
    command: Annotated[str, StringConstraints(max_length=2000), AfterValidator(check_text)] = ""


class EvaluationFields(BaseModel):
    """What an evaluation found: the `record` in the JSON of `glad evaluate`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bundle: Sha256 = Field(description="hash of the bundle that was measured: the version's")
    data: EvaluationData
    figures: EvaluationFigures
    yardstick: EvaluationFigures | None = Field(None, description="of the frozen yardstick on the same images")
    minus_yardstick: EvaluationFigures | None = Field(None, description="paired differences, if they are known")
    measured: MeasurementFields
    by: VisibleText | None = Field(None, description="who; default: the name of the API key", examples=["a.meier"])
    note: Note | None = Field(None, description="shown beside it", examples=["lamp replaced"])


@router.get(PATH, summary="List the evaluations of a version", responses=documents.EVALUATIONS_RESPONSES)
async def evaluations(services: ServicesDep, product: ProductPath, version: VersionPath) -> EvaluationList:
    """Return what was measured of the version on labelled images, beside the yardstick."""

    def read(store: Store) -> tuple[BundleRef, list[EvaluationView]]:
        ref = store.resolve(product, version)
        return ref, evaluation_views(store, ref)

    ref, views = await use_store(services, product, read)
    return EvaluationList(product=product, version=version, bundle=ref.hash, evaluations=views)


@router.post(
    PATH, summary="Record an evaluation of a version", status_code=201, responses=documents.EVALUATION_RESPONSES
)
async def record(
    services: ServicesDep, caller: CallerDep, product: ProductPath, version: VersionPath, fields: EvaluationFields
) -> EvaluationView:
    """Record what `glad evaluate` measured of this very bundle, in place of an earlier one on the same images.

    It is shown beside the version. No verdict depends on it, and the product's revision stays.
    """
    by, note = caller.author(fields.by), fields.note or ""
    measured = _measured(fields)

    def change(store: Store) -> RecordedEvaluation:
        return store.record_evaluation(store.resolve(product, version), measured, by=by, note=note)

    recorded = await change_store(services, product, change)
    log.info("evaluation recorded", product=product, version=version, evaluation=recorded.id, by=by)
    return evaluation_view(recorded)


@router.delete(
    PATH + "/{evaluation}",
    summary="Remove an evaluation of a version",
    status_code=204,
    responses=documents.EVALUATION_DELETE_RESPONSES,
)
async def remove(
    services: ServicesDep,
    caller: CallerDep,
    product: ProductPath,
    version: VersionPath,
    evaluation: EvaluationPath,
    *,
    by: Annotated[VisibleText | None, Query(description="who; default: the name of the API key")] = None,
) -> Response:
    """Remove an evaluation from what is shown of the version. Recording it again brings it back."""
    author = caller.author(by)

    def change(store: Store) -> None:
        store.remove_evaluation(store.resolve(product, version), evaluation, by=author)

    await change_store(services, product, change)
    log.info("evaluation removed", product=product, version=version, evaluation=evaluation, by=author)
    return Response(status_code=204)


def evaluation_views(store: Store, ref: BundleRef) -> list[EvaluationView]:
    """Return the evaluations of a version, the latest measurement first; none where they cannot be read."""
    try:
        return [evaluation_view(one) for one in store.evaluations(ref)]
    except OSError as error:
        log.warning("evaluations unreadable", product=ref.product, version=ref.version, reason=str(error))
        return []


def evaluation_view(recorded: RecordedEvaluation) -> EvaluationView:
    """Return an evaluation as clients see it."""
    return EvaluationView.model_validate({"id": recorded.id, **recorded.model_dump()})


def _measured(fields: EvaluationFields) -> MeasuredQuality:
    """Return the fields as a store keeps them.

    Raises:
        InvalidFields: if there is no figure.
    """
    figures = QualityFigures.model_validate(fields.figures.model_dump())
    if figures == QualityFigures():
        raise InvalidFields.for_field("figures", "has none: send the `record` in the JSON of `glad evaluate`")
    return MeasuredQuality.model_validate(fields.model_dump(exclude={"by", "note"}))
