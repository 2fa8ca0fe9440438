"""Changing a product safely: entity tags against lost changes (RFC 9110, 13.1.1), and the store's errors as answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Header, Response

from model_store import errors as store_errors
from model_store.product_state import ProductState
from model_store.store import Store
from service.api import problems
from service.api.dependencies import Services
from service.api.problems import BUNDLES_RETRY_S, product_error, read_bundles
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

VERIFIED_BYTES_PER_S = 10_000_000
"""A slow share reads as much: a change has the time for the largest version besides that of a small file."""


def if_match_header(whose: str) -> Any:
    """Return the header by which a change is made at one revision only; `whose` it is, such as "the product's"."""
    return Header(
        alias="If-Match",
        max_length=1000,
        description=f"change only if this is still {whose} revision: the `ETag` of an earlier answer",
        examples=['"3"'],
    )


IfMatch = Annotated[str | None, if_match_header("the product's")]

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
    """Return what the action, which reads this product in the store, returns. It runs in a thread.

    Raises:
        UnknownProduct: if the store has no such product.
        UnknownVersion: if the product has no such version.
        UnknownEvaluation: if the version has no such evaluation.
        InvalidFields: if an evaluation is of another bundle.
        ProductUnusable: if the product has no usable bundle.
        VersionUnusable: if the version is broken or not calibrated, or there is none to go back to.
        StateChanged: if another call changed the product at the same time.
        StorageUnavailable: if the store does not answer, or the product's state cannot be read or written.
    """
    return await read_bundles(services, product, _answered, services, services.store, product, action)


async def change_store(services: Services, product: str, action: Callable[[Store], T]) -> T:
    """Return what the action, which changes this product in the store, returns. It runs in a thread.

    Raises:
        ServiceError: as `use_store`.
        StorageUnavailable: if the store does not answer. What the action still does then takes no effect.
    """
    limit_s = await use_store(services, product, lambda store: change_limit_s(store, product))
    given_up = threading.Event()

    def refuse_late() -> None:
        if given_up.is_set():
            raise TimeoutError("nobody waits for this change any more")

    store = services.store.checked_by(refuse_late)
    try:
        return await services.threads.changes.run(product, limit_s, _answered, services, store, product, action)
    except TimeoutError as error:
        log.error("change not made: the store of bundles does not answer", product=product, within_s=limit_s)
        raise StorageUnavailable(
            "the store of bundles does not answer: the change was most likely not made; look at the product again "
            "before you repeat it",
            retry_after_s=BUNDLES_RETRY_S,
        ) from error
    finally:
        given_up.set()


def change_limit_s(store: Store, product: str) -> float:
    """Return the seconds that a change of the product may take: an activation reads every file of a version."""
    sizes = [sum(file.bytes for file in ref.manifest.files.values()) for ref in store.versions(product)]
    return problems.BUNDLES_ANSWER_S + max(sizes, default=0) / VERIFIED_BYTES_PER_S


def _answered(services: Services, store: Store, product: str, action: Callable[[Store], T]) -> T:
    """Return what the action returns, with the store's errors as answers of the service. Blocks."""
    try:
        return action(store)
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
        raise product_error(store, product, error) from error
    except OSError as error:
        log.error("product's files not read or written", product=product, error=str(error))
        raise StorageUnavailable(
            "the product's files could not be read or written; nothing changed: try again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error


def _version_error(product: str, error: store_errors.StoreError) -> ServiceError:
    if isinstance(error, store_errors.BrokenBundle):  # its text names folders of this machine
        log.error("version unusable", product=product, reason=str(error))
        return VersionUnusable(
            f"a version of product {product!r} is broken; the service's log says how: publish it again"
        )
    return VersionUnusable(str(error))
