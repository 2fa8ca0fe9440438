"""The products that can be inspected, with their bundles and the thresholds in force."""

from __future__ import annotations

from fastapi import APIRouter, Response

from glad_client.answers import BundleView, ProductList, ProductView, ThresholdPromise
from model_store.errors import StoreError
from model_store.manifest import Calibration
from model_store.promise import exact, is_proven, least_for_one_draw, promise
from model_store.store import BundleRef, Store
from service.api.bounded_calls import ALL_PRODUCTS
from service.api.dependencies import ProductPath, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import product_error, read_bundles
from service.api.routes.evaluations import evaluation_views
from service.api.routes.product_changes import set_etag
from service.api.routes.product_records import report_link
from service.api.routes.quality_gate import gate_view
from service.contract import Thresholds

router = APIRouter(tags=["products"])


@router.get("/v1/products", summary="List the products", responses=documents.PRODUCTS_RESPONSES)
async def products(services: ServicesDep) -> ProductList:
    """Return every product that has a usable bundle."""
    return await read_bundles(services, ALL_PRODUCTS, _list, services.store)


@router.get("/v1/products/{product}", summary="Describe a product", responses=documents.PRODUCT_RESPONSES)
async def product(
    services: ServicesDep,
    response: Response,
    product: ProductPath,
) -> ProductView:
    """Return the product's active bundle, all its versions, and the thresholds in force.

    The `ETag` is the product's revision: sent as `If-Match` with a change, it keeps that change from overwriting
    another one.
    """
    view = await read_bundles(services, product, _describe, services.store, product)
    set_etag(response, view.revision)
    return view


def _list(store: Store) -> ProductList:
    views = []
    for name in store.products():
        try:
            views.append(_product_view(store, name))
        except StoreError:  # its state file or its active version is broken: it cannot be inspected
            continue
    return ProductList(products=views)


def _describe(store: Store, name: str) -> ProductView:
    try:
        return _product_view(store, name)
    except StoreError as error:
        raise product_error(store, name, error) from error


def _product_view(store: Store, name: str) -> ProductView:
    state = store.state(name)  # read before the rest, which is then of this revision or a newer one
    active = store.resolve(name)
    return ProductView(
        product=name,
        revision=state.revision,
        active=_bundle_view(store, active),
        versions=[_bundle_view(store, ref) for ref in store.versions(name)],
        gate=gate_view(active, store.state(name)),
        pictures=state.pictures_when,
    )


def _bundle_view(store: Store, ref: BundleRef) -> BundleView:
    limits = store.thresholds(ref)
    return BundleView(
        version=ref.version,
        hash=ref.hash,
        title=ref.manifest.title,
        created_at=ref.manifest.provenance.created_at,
        resolution=ref.manifest.settings.resolution,
        thresholds=Thresholds.model_validate(limits, from_attributes=True),
        calibrated=Thresholds.model_validate(ref.manifest.thresholds, from_attributes=True),
        report=report_link(ref),
        quality=ref.manifest.quality,
        evaluations=evaluation_views(store, ref),
        promise=_promise_view(ref.manifest.calibration),
    )


def _promise_view(calibration: Calibration | None) -> ThresholdPromise | None:
    if calibration is None:
        return None
    parts = calibration.groups or calibration.good_images
    found = promise(parts, calibration.fail_quantile, calibration.confidence)
    return ThresholdPromise(
        parts=parts,
        images=calibration.good_images,
        kind=calibration.kind.value,
        proven=is_proven(calibration.kind, calibration.confidence),
        false_rejects=float(1 - exact(calibration.fail_quantile)),
        confidence=calibration.confidence,
        kept=found.kept,
        least=found.rate,
        needed=found.needed,
        least_for_one_draw=least_for_one_draw(found, calibration.kind),
    )
