"""A product's revision as an entity tag: nobody overwrites a change that they have not seen (RFC 9110, 13.1.1)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Response

from model_store.product_state import ProductState
from service.errors import PreconditionFailed

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="change only if this is still the product's revision: the `ETag` of an earlier answer",
        examples=['"3"'],
    ),
]


def tag(response: Response, revision: int) -> None:
    """The answer's `ETag`: the product's revision that it shows."""
    response.headers["ETag"] = f'"{revision}"'


def check_match(if_match: str | None, state: ProductState) -> None:
    """PreconditionFailed unless the header names the product's revision, or nothing at all."""
    if if_match is not None and if_match.strip() != "*" and str(state.revision) not in _revisions(if_match):
        raise PreconditionFailed(
            f"product {state.product} is at revision {state.revision}, changed by {state.changed_by or 'nobody'}; "
            f"If-Match is {if_match[:100]}: read the product again, look at what changed, and repeat with its ETag"
        )


def _revisions(if_match: str) -> set[str]:
    """The revisions that a list of entity tags names. A weak tag is none: it says nothing of a change."""
    tags = (re.fullmatch(r'"([0-9]+)"', word.strip()) for word in if_match.split(","))
    return {found[1] for found in tags if found}
