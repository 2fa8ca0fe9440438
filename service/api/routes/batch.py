"""Submitting several images in one call: `POST /v1/products/{product}/inspections:batch`."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from service.api.dependencies import CallerDep, IdempotencyKey, IdempotencyKeyText, ProductPath, Services, ServicesDep
from service.api.intake.acceptance import InspectionFields, accept_image, count_rejections, pin_product
from service.api.openapi import operations as documents
from service.api.openapi.bodies import batch_body
from service.api.problems import read_bundles
from service.api.routes.inspections import current_result
from service.api.uploads.decoding import BatchUpload, Upload
from service.auth.scopes import Caller
from service.contract import Result
from service.errors import InvalidFields, Problem, ServiceError, field_problems

MAX_IMAGES = 32
ITEMS_FIELD = "items"
KEY_FIELD = "idempotency_key"
_ITEMS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[dict[str, Any]])
_KEY: TypeAdapter[str | None] = TypeAdapter(IdempotencyKeyText | None)

router = APIRouter(tags=["inspections"])


class BatchItem(BaseModel):
    """The outcome of one image."""

    index: int = Field(description="place of the image in the form, from 0")
    status: int = Field(
        description="as if the image had come alone: 202, 200 where it has ended already, or an error's"
    )
    inspection: Result | None = Field(None, description="of an accepted image")
    problem: Problem | None = Field(None, description="of a refused one")


class BatchAnswer(BaseModel):
    """The outcomes of all images, in the order of the form."""

    items: list[BatchItem]


@router.post(
    "/v1/products/{product}/inspections:batch",
    summary="Submit several images",
    status_code=202,
    response_model=BatchAnswer,
    responses=documents.BATCH_RESPONSES,
    openapi_extra=batch_body(InspectionFields),
)
async def batch(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    *,
    product: ProductPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept up to 32 images as the parts `image` of one form.

    Plain fields are for all of them; `items` is a JSON array with one object for each image, in order, whose fields
    win over those. Each image is accepted or refused by itself: look at every `status`.

    With an `Idempotency-Key` the whole call may be repeated: the image at place N has the key `{key}:{N}`, unless its
    item names an `idempotency_key` of its own.
    """
    with count_rejections(services):
        await read_bundles(services, product, pin_product, services.store, product)
        images = _split(await services.decoder.read_batch(request, MAX_IMAGES), idempotency_key)
    answer = BatchAnswer(items=await _submit_all(services, caller, product, images, request.url.path))
    return Response(answer.model_dump_json(), 202, media_type="application/json")


@dataclass(frozen=True)
class _Image:
    """An image of a batch, as if it had been sent alone."""

    upload: Upload
    idempotency_key: object
    """Not checked yet."""


def _split(batch: BatchUpload, idempotency_key: str | None) -> list[_Image]:
    """Return each image with the fields common to all, completed and overridden by those of its item."""
    common = {name: value for name, value in batch.fields.items() if name != ITEMS_FIELD}
    items = _read_items(batch.fields.get(ITEMS_FIELD), len(batch.images))
    return [
        _Image(
            upload=Upload(image, common | {name: value for name, value in fields.items() if name != KEY_FIELD}),
            idempotency_key=fields.get(KEY_FIELD, None if idempotency_key is None else f"{idempotency_key}:{index}"),
        )
        for index, (image, fields) in enumerate(zip(batch.images, items, strict=True))
    ]


def _read_items(text: str | None, count: int) -> list[dict[str, Any]]:
    if text is None:
        return [{} for _ in range(count)]
    try:
        items = _ITEMS.validate_json(text)
    except ValidationError as error:
        reason = field_problems(list(error.errors()))[0].message
        raise InvalidFields.for_field(
            ITEMS_FIELD, f'is no JSON array of objects ({reason}): send such as [{{"view": "top"}}, {{"view": "side"}}]'
        ) from error
    if len(items) != count:
        raise InvalidFields.for_field(
            ITEMS_FIELD, f"has {len(items)} entries for {count} images: give one for each, in order"
        )
    return items


async def _submit_all(
    services: Services, caller: Caller, product: str, images: list[_Image], path: str
) -> list[BatchItem]:
    """Accept the images one after the other, so that they are queued in this order.

    After a 503 the rest is not tried: each would wait long for the same answer.
    """
    items: list[BatchItem] = []
    unavailable: ServiceError | None = None
    for index, image in enumerate(images):
        try:
            if unavailable is not None:
                raise unavailable
            items.append(await _submit(services, caller, product, index, image))
        except ServiceError as error:
            unavailable = error if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
            items.append(BatchItem(index=index, status=int(error.status), problem=error.problem(path)))
    return items


async def _submit(services: Services, caller: Caller, product: str, index: int, image: _Image) -> BatchItem:
    with count_rejections(services):
        accepted = await accept_image(services, caller, product, image.upload, _checked_key(image.idempotency_key))
    result = await current_result(services, accepted)
    return BatchItem(index=index, status=200 if result.state.final else 202, inspection=result)


def _checked_key(key: object) -> str | None:
    try:
        return _KEY.validate_python(key)
    except ValidationError as error:
        raise InvalidFields.for_field(KEY_FIELD, field_problems(list(error.errors()))[0].message) from error
