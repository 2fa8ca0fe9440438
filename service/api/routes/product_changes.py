"""Changing a product safely: entity tags against lost changes (RFC 9110, 13.1.1), and the store's errors as answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, TypeVar

import structlog
from fastapi import Header, Response

from model_store import errors as store_errors
from model_store.product_state import ProductState
from model_store.store import Store
from service.api.dependencies import Services
from service.api.problems import product_error
from service.errors import (
    InvalidFields,
    PreconditionFailed,
    ServiceError,
    StateChanged,
    StorageUnavailable,
    UnknownEvaluation,
    UnknownVersion,
    VersionUnusable,
)

T = TypeVar("T")

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="change only if this is still the product's revision: the `ETag` of an earlier answer",
        examples=['"3"'],
    ),
]

log = structlog.get_logger(__name__)


def set_etag(response: Response, revision: int) -> None:
    """Set the answer's `ETag` to the revision that it shows, of the product or of its review plan."""
    response.headers["ETag"] = f'"{revision}"'


def state_before_change(store: Store, product: str, if_match: str | None) -> ProductState:
    """Return the product's state, which a change is to replace.

    Raises:
        PreconditionFailed: if `if_match` names other revisions of the product. None and `*` fit any.
    """
    state = store.state(product)
    named = named_revisions(if_match)
    if named is not None and state.revision not in named:
        raise PreconditionFailed(
            f"product {state.product} is at revision {state.revision}, changed by {state.changed_by or 'nobody'}; "
            f"If-Match is {str(if_match)[:100]}: read the product again, look at what changed, and repeat with its ETag"
        )
    return state


def named_revisions(if_match: str | None) -> frozenset[int] | None:
    """Return the revisions that a list of entity tags names; None: any, as without a list and with `*`.

    A weak tag names none: it is not exact (RFC 9110).
    """
    if if_match is None or if_match.strip() == "*":
        return None
    matches = (re.fullmatch(r'"([0-9]{1,18})"', tag.strip()) for tag in if_match.split(","))
    return frozenset(int(match[1]) for match in matches if match)


async def use_store(services: Services, product: str, action: Callable[[Store], T]) -> T:
    """Return what the action, which reads or changes this product in the store, returns. It runs in a thread.

    Raises:
        UnknownProduct: if the store has no such product.
        UnknownVersion: if the product has no such version.
        UnknownEvaluation: if the version has no such evaluation.
        InvalidFields: if an evaluation is of another bundle.
        ProductUnusable: if the product has no usable bundle.
        VersionUnusable: if the version is broken or not calibrated, or there is none to go back to.
        StateChanged: if another call changed the product at the same time.
        StorageUnavailable: if the product's state cannot be written.
    """
    try:
        return await services.threads.bundles.run(action, services.store)
    except store_errors.VersionNotInStore as error:
        raise UnknownVersion(str(error)) from error
    except store_errors.EvaluationNotInStore as error:
        raise UnknownEvaluation(str(error)) from error
    except store_errors.EvaluationOfAnother as error:
        raise InvalidFields.for_field("bundle", str(error)) from error
    except store_errors.StateConflict as error:
        raise StateChanged(str(error)) from error
    except (store_errors.BrokenBundle, store_errors.NotCalibrated, store_errors.NothingToRollBack) as error:
        raise _version_error(product, error) from error
    except (store_errors.StoreError, ValueError) as error:
        raise product_error(services.store, product, error) from error
    except OSError as error:
        log.error("product state not written", product=product, error=str(error))
        raise StorageUnavailable(
            "the product's state could not be written; nothing changed: try again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error


def _version_error(product: str, error: store_errors.StoreError) -> ServiceError:
    if isinstance(error, store_errors.BrokenBundle):  # its text names folders of this machine
        log.error("version unusable", product=product, reason=str(error))
        return VersionUnusable(
            f"a version of product {product!r} is broken; the service's log says how: publish it again"
        )
    return VersionUnusable(str(error))
