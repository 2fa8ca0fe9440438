"""A product or a version is not there, cannot be used, or was changed by somebody else."""

from __future__ import annotations

from http import HTTPStatus

from service.errors.base import ServiceError


class UnknownProduct(ServiceError):
    """No such product."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-product", "Unknown product"


class ProductUnusable(ServiceError):
    """The product has no usable bundle."""

    status, slug, title = HTTPStatus.NOT_FOUND, "product-unusable", "Product has no usable bundle"


class UnknownVersion(ServiceError):
    """The product has no such version."""

    status, slug, title = HTTPStatus.NOT_FOUND, "unknown-version", "Unknown version"


class VersionNotActive(ServiceError):
    """Another version of the product inspects now."""

    status, slug, title = HTTPStatus.NOT_FOUND, "version-not-active", "Version is not active"


class VersionUnusable(ServiceError):
    """A version is broken or not calibrated, or there is none to go back to."""

    status, slug, title = HTTPStatus.CONFLICT, "version-unusable", "Version cannot be used"


class StateChanged(ServiceError):
    """Somebody else changed the product at the same time."""

    status, slug, title = HTTPStatus.CONFLICT, "state-changed", "Product was changed meanwhile"


class PreconditionFailed(ServiceError):
    """If-Match names another revision of the product."""

    status, slug, title = HTTPStatus.PRECONDITION_FAILED, "precondition-failed", "Product is at another revision"
