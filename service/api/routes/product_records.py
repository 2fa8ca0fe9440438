"""What is recorded of a product: the changes that people made, and the report of a version's training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from glad_client.product_answers import ProductChange, ProductChanges
from model_store.evaluations import RecordedEvaluation
from model_store.manifest import REPORT_PAGE
from model_store.product_changes import StateChange
from model_store.store import BundleRef, Store
from service.api.dependencies import ProductPath, ServicesDep, VersionPath
from service.api.openapi import operations as documents
from service.api.routes.evaluations import evaluation_view
from service.api.routes.product_changes import set_etag, use_store
from service.errors import UnknownReport

router = APIRouter(tags=["products"])

REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
"""A report came with a bundle: it may show its pictures and nothing else, and is of no origin."""


@router.get(
    "/v1/products/{product}/changes", summary="List who changed a product", responses=documents.CHANGES_RESPONSES
)
async def changes(services: ServicesDep, response: Response, product: ProductPath) -> ProductChanges:
    """Return who changed what of the product and when, the latest first.

    Sending the values of `before` with the call that made a change undoes it: `PUT …/active` with its `version`,
    `PATCH …/thresholds` and `PATCH …/gate` (as `limits`) with the change's `version`, `PUT …/gate` with `on`.
    `DELETE …/evaluations/{evaluation}` undoes that an evaluation was recorded where none was, and recording the
    change's `evaluation` again that one was removed. Activations of before changes were recorded are listed too.
    """

    def read(store: Store) -> ProductChanges:
        state, removed = store.state(product), store.removed_evaluations(product)
        changes = [_change_view(one, removed) for one in store.changes(product)]
        return ProductChanges(product=product, revision=state.revision, changes=changes)

    listed = await use_store(services, product, read)
    set_etag(response, listed.revision)
    return listed


@router.get(
    "/v1/products/{product}/versions/{version}/report",
    summary="Get the report of a version's training",
    responses=documents.REPORT_RESPONSES,
    response_class=HTMLResponse,
)
async def report(services: ServicesDep, product: ProductPath, version: VersionPath) -> HTMLResponse:
    """Return the page about its training that the bundle brings, checked against the bundle's manifest.

    Its policy lets it run nothing and reach nothing.
    """
    content = await use_store(services, product, lambda store: _report(store, store.resolve(product, version)))
    headers = {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return HTMLResponse(content, headers=headers)


def _change_view(change: StateChange, removed: Mapping[str, RecordedEvaluation]) -> ProductChange:
    view = ProductChange.model_validate(change, from_attributes=True)
    gone = removed.get(str(change.before["evaluation"])) if change.kind == "evaluation" else None
    if gone is None or gone.removed is None or gone.removed.at != change.at:
        return view
    return view.model_copy(update={"evaluation": evaluation_view(gone)})


def report_link(ref: BundleRef) -> str | None:
    """Return the link to a version's report; None if its bundle brings none."""
    if REPORT_PAGE not in ref.manifest.report or not (ref.path / REPORT_PAGE).is_file():
        return None
    return f"/v1/products/{ref.product}/versions/{ref.version}/report"


def _report(store: Store, ref: BundleRef) -> bytes:
    entry = ref.manifest.report.get(REPORT_PAGE)
    if entry is None:
        raise UnknownReport(
            f"version {ref.version} of product {ref.product!r} brings no report of its training: `glad report BUNDLE` "
            "writes a page of what its manifest tells"
        )
    try:
        content = (ref.path / REPORT_PAGE).read_bytes()
    except FileNotFoundError as error:
        raise UnknownReport(
            f"the report of version {ref.version} of product {ref.product!r} was not brought along with its bundle: "
            f"copy {REPORT_PAGE} from where it was trained"
        ) from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise UnknownReport(
            f"the report of version {ref.version} of product {ref.product!r} is another one than its manifest names: "
            "publish the bundle again"
        )
    return content
