"""`/v2`: the Open Inference Protocol. A product is a model, and its active bundle is the model's version.

An image enters the same queue as by `POST …/inspections`, and its inspection stands in history and events like every
other one. The difference: the answer waits for the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from numpy.typing import NDArray

from service.api.dependencies import CallerDep, HeldDep, Services, ServicesDep
from service.api.intake.acceptance import Accepted, accept_image, count_rejections, pin_product
from service.api.oip import openapi as documents
from service.api.oip.openapi import ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady
from service.api.oip.tensors import (
    INPUTS,
    MAP,
    OUTPUTS,
    FinishedInspection,
    InferenceOrder,
    read_map,
    read_order,
    write_outputs,
)
from service.api.oip.wire import HEADER_LENGTH, InferRequest, WireError, decompress, read_request, write_answer
from service.api.problems import read_bundles
from service.api.routes import health
from service.api.routes.artifacts import load_artifact
from service.api.routes.inspections import current_result
from service.api.uploads.budget import HeldBytes
from service.api.uploads.decoding import Upload
from service.api.uploads.digests import read_body
from service.auth.scopes import Caller
from service.contract import Result, State
from service.errors import (
    InspectionFailed,
    InspectionUnfinished,
    MalformedInference,
    ServiceError,
    UnknownArtifact,
    VersionNotActive,
)
from service.telemetry.logs import package_version

RETRY_AFTER_S = 1
SHORT_JSON_BYTES = 100_000

router = APIRouter(tags=["open inference protocol"])

Model = Annotated[str, Path(description="the product's name", examples=["bracket"])]
Version = Annotated[str, Path(description="the active version: another one is refused", examples=["1"])]


@dataclass(frozen=True)
class RawRequest:
    """A request to infer as it was sent."""

    body: bytes
    header_length: str | None
    """The header `Inference-Header-Content-Length`."""
    encoding: str
    """The header `Content-Encoding`; "" if it was not sent."""
    held: HeldBytes

    @property
    def is_heavy(self) -> bool:
        """Whether its size does not bound the memory and the time that it takes to read."""
        stated = self.header_length or ""
        json_bytes = int(stated) if stated.isdecimal() and len(stated) < 12 else len(self.body)
        return bool(self.encoding) or json_bytes > SHORT_JSON_BYTES


async def _raw_request(
    request: Request,
    services: ServicesDep,
    held: HeldDep,
    header_length: Annotated[
        str | None,
        Header(alias=HEADER_LENGTH, description="bytes of JSON before the raw tensors of the binary extension"),
    ] = None,
    content_encoding: Annotated[str, Header(alias="Content-Encoding", description="gzip or deflate")] = "",
) -> RawRequest:
    return RawRequest(
        await read_body(request, services.threads.inference.executor), header_length, content_encoding, held
    )


RawRequestDep = Annotated[RawRequest, Depends(_raw_request)]


@router.get("/v2", summary="Describe the server", responses=documents.SERVER)
async def server() -> ServerMetadata:
    """Return the name, the version and the extensions of the server."""
    return ServerMetadata(version=package_version())


@router.get("/v2/health/live", summary="Liveness, in the protocol's form", responses=documents.LIVE)
async def live() -> ServerLive:
    """Return 200 while the event loop answers."""
    return ServerLive()


@router.get("/v2/health/ready", summary="Readiness, in the protocol's form", responses=documents.READY)
async def ready(services: ServicesDep, response: Response) -> ServerReady:
    """Return 200 if an image sent now would be accepted and kept, else 503: `/health/ready` says why."""
    readiness = await health.ready(services, response)
    return ServerReady(ready=readiness.status != "unavailable")


@router.get("/v2/models/{model}", summary="Describe a model", responses=documents.METADATA)
async def metadata(services: ServicesDep, model: Model) -> ModelMetadata:
    """Return the product's tensors, and the version that is active."""
    active = await _active(services, model)
    return ModelMetadata(name=model, versions=[active], inputs=list(INPUTS), outputs=list(OUTPUTS))


@router.get("/v2/models/{model}/versions/{version}", summary="Describe a model's version", responses=documents.METADATA)
async def version_metadata(services: ServicesDep, model: Model, version: Version) -> ModelMetadata:
    """Return the same as without the version, which must be the active one."""
    _check_version(model, version, await _active(services, model))
    return await metadata(services, model)


@router.get("/v2/models/{model}/ready", summary="Is a model ready?", responses=documents.MODEL_READY)
async def model_ready(services: ServicesDep, model: Model) -> ModelReady:
    """Return 200 if images of the product would be accepted."""
    await _active(services, model)
    return ModelReady(name=model)


@router.get(
    "/v2/models/{model}/versions/{version}/ready",
    summary="Is a model's version ready?",
    responses=documents.MODEL_READY,
)
async def version_ready(services: ServicesDep, model: Model, version: Version) -> ModelReady:
    """Return 200 if it is the active version."""
    _check_version(model, version, await _active(services, model))
    return ModelReady(name=model)


@router.post(
    "/v2/models/{model}/infer",
    summary="Inspect, and wait for the result",
    response_class=Response,
    responses=documents.INFER,
    openapi_extra=documents.INFER_BODY,
)
async def infer(services: ServicesDep, caller: CallerDep, raw: RawRequestDep, model: Model) -> Response:
    """Inspect up to 16 images and return their tensors.

    If the request has an `id`, sending the same request again is harmless: it waits for the same inspection. If the
    result takes longer than `GLAD_OIP_WAIT_S`, the answer is 504 and names the inspection, which continues.
    """
    return await _infer(services, caller, raw, model, None)


@router.post(
    "/v2/models/{model}/versions/{version}/infer",
    summary="Inspect with the active version",
    response_class=Response,
    responses=documents.INFER,
    openapi_extra=documents.INFER_BODY,
)
async def version_infer(
    services: ServicesDep, caller: CallerDep, raw: RawRequestDep, model: Model, version: Version
) -> Response:
    """Inspect as without the version, which must be the active one."""
    return await _infer(services, caller, raw, model, version)


async def _infer(services: Services, caller: Caller, raw: RawRequest, model: str, version: str | None) -> Response:
    threads = services.threads.heavy_inference if raw.is_heavy else services.threads.inference
    with count_rejections(services):
        request, order = await threads.run(_read, services, raw)
        accepted = await _accept_all(services, caller, model, version, order)
    results = await _wait_for_verdicts(services, accepted, order)
    return await services.threads.inference.run(_write_response, services, request, order, results)


def _read(services: Services, raw: RawRequest) -> tuple[InferRequest, InferenceOrder]:
    """Return the request without its tensors, and the inspections that it orders.

    The body was counted as it was sent. What it is unpacked to is counted piece by piece, and then its images.

    Raises:
        MalformedInference: if the request cannot be read.
        TooManyUploads: if the process holds too much for what the body is unpacked to.
    """
    settings = services.settings
    try:
        body = decompress(raw.body, raw.encoding, settings.max_body_bytes, raw.held.reserve)
        request = read_request(body, raw.header_length)
        order = read_order(request, settings.max_pixels)
    except WireError as error:
        raise MalformedInference(str(error)) from error
    if body is not raw.body:
        raw.held.release(len(body))
    raw.held.reserve(sum(map(len, order.images)))
    return request.without_tensors(), order


async def _accept_all(
    services: Services, caller: Caller, model: str, version: str | None, order: InferenceOrder
) -> tuple[Accepted, ...]:
    """Submit every image, in order.

    Raises:
        ServiceError: if one is refused; the message names the images that were accepted before it.
    """
    if version is not None:
        _check_version(model, version, await _active(services, model))
    accepted: list[Accepted] = []
    for image, key in zip(order.images, order.keys, strict=True):
        try:
            accepted.append(await accept_image(services, caller, model, Upload(image, order.fields), key))
        except ServiceError as error:
            raise _name_image(error, order, accepted) from error
    return tuple(accepted)


def _name_image(error: ServiceError, order: InferenceOrder, before: Sequence[Accepted]) -> ServiceError:
    if len(order.images) == 1:
        return error
    ids = ", ".join(one.submission.inspection_id for one in before) or "none"
    detail = f"image {len(before)} of {len(order.images)}: {error.detail}; accepted before it: {ids}"
    return type(error)(detail, errors=error.errors, retry_after_s=error.retry_after_s)


async def _wait_for_verdicts(services: Services, accepted: Sequence[Accepted], order: InferenceOrder) -> list[Result]:
    """Return the results of all inspections when each has a verdict.

    Raises:
        InspectionUnfinished: if one has not ended in time, or has expired.
        InspectionFailed: if one has ended without a verdict.
    """
    wait_s = services.settings.oip_wait_s
    if order.timeout_s is not None:
        wait_s = min(wait_s, order.timeout_s)
    results = await asyncio.gather(*(current_result(services, one, wait_s) for one in accepted))
    if waiting := [result for result in results if not result.state.final]:
        raise InspectionUnfinished(
            f"{_with_states(waiting)} after {wait_s:g} s; it goes on: GET /v1/inspections/{waiting[0].id} asks for it, "
            "or repeat the request with the same id to wait on",
            retry_after_s=RETRY_AFTER_S,
        )
    if expired := [result for result in results if result.state is State.EXPIRED]:
        raise InspectionUnfinished(f"{_with_states(expired)}: {_reason(expired[0])}")
    if failed := [result for result in results if result.state is State.FAILED]:
        raise InspectionFailed(f"{_with_states(failed)}: {_reason(failed[0])}")
    return results


def _with_states(results: Sequence[Result]) -> str:
    return ", ".join(f"inspection {result.id} is {result.state.value}" for result in results)


def _reason(result: Result) -> str:
    return f"{result.error.code}: {result.error.detail}" if result.error else "no reason is kept"


def _write_response(
    services: Services, request: InferRequest, order: InferenceOrder, results: Sequence[Result]
) -> Response:
    inspections = [
        FinishedInspection(result, _map(services, result) if MAP in order.outputs else None) for result in results
    ]
    head = {"model_name": results[0].product}
    if results[0].bundle is not None:
        head["model_version"] = results[0].bundle.version
    if request.id:
        head["id"] = request.id
    answer = write_answer(head, write_outputs(order, inspections), request)
    if answer.header_length is None:
        return Response(answer.body, media_type="application/json")
    headers = {HEADER_LENGTH: str(answer.header_length)}
    return Response(answer.body, media_type="application/octet-stream", headers=headers)


def _map(services: Services, result: Result) -> NDArray[np.float32]:
    if result.unfit:
        return np.zeros((0, 0), dtype=np.float32)
    if "map.npy" not in result.artifacts:
        raise UnknownArtifact(f"inspection {result.id} has no map: ask without the output {MAP!r}")
    return read_map(load_artifact(services, result, "map.npy"))


async def _active(services: Services, model: str) -> str:
    """Return the active version of a product.

    Raises:
        UnknownProduct: if there is no such product.
        ProductUnusable: if it has no usable bundle.
    """
    pinned = await read_bundles(services, model, pin_product, services.store, model)
    return pinned.bundle.version


def _check_version(model: str, version: str, active: str) -> None:
    if version != active:
        raise VersionNotActive(
            f"version {version[:100]!r} of {model!r} is not active; {active!r} is: leave the version out, or activate "
            "that one"
        )
