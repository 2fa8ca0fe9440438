"""What people decide: a review of an inspected image, and what becomes of a part."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from glad_client.fields import Message, NotBool, Note, Text, Timestamp


class Decision(StrEnum):
    """An operator's decision."""

    OK = "ok"
    DEFECT = "defect"


DefectCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
"""A plant's own name of a kind of defect: also the name of a folder, where reviewed images are exported."""
MAX_DRAWN_REGIONS = 64
_Pixel = Annotated[int, Field(ge=0, le=1 << 20), NotBool]
_Extent = Annotated[int, Field(ge=1, le=1 << 20), NotBool]
DrawnRegion = tuple[_Pixel, _Pixel, _Extent, _Extent]
"""x, y, width, height of a box that a person drew, in pixels of the upright original."""


class Review(Message):
    """An operator's judgement of an inspected part. The last one counts that nobody has withdrawn, but for a blind look
    at what another person has judged: see `counted_review`.
    """

    decision: Decision
    defect_code: DefectCode | None = Field(
        None, description="the kind of defect, one of the product's review plan", examples=["scratch"]
    )
    regions: tuple[DrawnRegion, ...] | None = Field(
        None,
        max_length=MAX_DRAWN_REGIONS,
        description="where the person saw the defect: boxes x, y, width, height in pixels of the upright original; "
        "null: the service's regions were not corrected",
        examples=[[[12, 30, 40, 25]]],
    )
    blind: bool = Field(False, description="whether the person saw the image without the service's verdict")
    audit: float | None = Field(
        None,
        gt=0,
        le=1,
        description="set where this answers the random audit, blind: the probability with which the image was drawn",
    )
    double_read: bool = Field(False, description="whether this is the second, blind look at an image by another person")
    withdrawn_at: Timestamp | None = Field(None, description="when it was taken back: then it does not count")
    withdrawn_by: Text | None = Field(None, description="who took it back")
    note: Note | None = Field(None, description="for people", examples=["scratch is on the fixture"])
    by: Text = Field(description="who judged, as the caller says", examples=["a.meier"])
    key: Text | None = Field(
        None, description="name of the API key that sent it; null where no key was needed", examples=["console"]
    )
    at: Timestamp = Field(description="when it was recorded")

    @property
    def counts(self) -> bool:
        """Whether nobody has withdrawn it."""
        return self.withdrawn_at is None


PeoplesDecision = Literal["ok", "defect", "disputed"]
"""What people decided all in all."""


def counted_review(reviews: Sequence[Review]) -> Review | None:
    """Return the review that counts of an inspection's: the last one that nobody has withdrawn; None if there is none.

    A blind look at what another person has judged, such as a double read, measures how far people agree, and replaces
    no decision. Where it disagrees, none counts until somebody decides who has seen both: see reviewed.lua.
    """
    review, disputed = _first_look(reviews)
    return None if disputed else review


def is_disputed(reviews: Sequence[Review]) -> bool:
    """Return whether two people disagree, the second of whom looked blind, and nobody has decided since."""
    return _first_look(reviews)[1]


def _first_look(reviews: Sequence[Review]) -> tuple[Review | None, bool]:
    """Return the last review that is no second look, and whether a second look after it disagrees."""
    first, disputed = None, False
    for review in reviews:
        if not review.counts:
            continue
        if review.blind and first is not None and first.by != review.by:
            disputed = disputed or review.decision is not first.decision
        else:
            first, disputed = review, False
    return first, disputed


class Disposition(StrEnum):
    """What becomes of a part."""

    SCRAP = "scrap"
    REWORK = "rework"
    USE_AS_IS = "use_as_is"


class PartDisposition(Message):
    """A decision on what becomes of a part; null: an earlier one was taken back."""

    disposition: Disposition | None = Field(description="null: nothing is decided (any more)")
    note: Note | None = Field(None, description="for people", examples=["polished by hand"])
    by: Text = Field(description="who decided", examples=["a.meier"])
    key: Text | None = Field(None, description="name of the API key that sent it; null where no key was needed")
    at: Timestamp = Field(description="when it was recorded")
