"""Reviewing images: what waits, what is given to whom, a product's review plan, and how people and service agree."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from glad_client.fields import ArtifactName, InspectionId, Message, Name, NotBool, Sha256, Text, Timestamp
from glad_client.results import DefectCode, Result, State, Traceability

ReviewTaskName = Literal["queue", "audit", "double_read"]
CLAIM_S = 120
"""How long a person has an image, unless the claim is renewed."""
MAX_DEFECT_CODES = 64
RESERVED_KEYS = ("o", "d")
"""Keys of the page that mean `ok` and `defect`."""


class BlindInspection(Traceability):
    """An image to be judged without knowing what the service found: all that could give it away is left out."""

    id: InspectionId
    state: State
    product: Name
    artifacts: dict[ArtifactName, str] = Field(default_factory=dict, description="name -> link: the image alone")
    image_sha256: Sha256 | None
    width: int | None = Field(description="of the upright image, in pixels")
    height: int | None
    accepted_at: Timestamp

    @classmethod
    def from_result(cls, result: Result) -> Self:
        """Return what a person may know who judges blind."""
        shown = {name: getattr(result, name) for name in cls.model_fields if name not in {"artifacts", "metadata"}}
        links = {name: link for name, link in result.artifacts.items() if name in BLIND_ARTIFACTS}
        return cls(**shown, artifacts=links)


BLIND_ARTIFACTS = frozenset({"image", "preview.jpg", "thumbnail.jpg"})
"""Pictures that show nothing of what the service found."""

ReviewedInspection = Annotated[Result | BlindInspection, Field(union_mode="left_to_right")]
"""An inspection as the person who reviews it may see it."""


class ReviewTask(Message):
    """An image that is given to one person for a while: nobody else gets it meanwhile."""

    claim: str = Field(description="send it with the review, or give it back", examples=["019abc12-….5f0c2a9b1e77"])
    until: Timestamp = Field(description="then the image may go to somebody else, unless the claim is renewed")
    task: ReviewTaskName = Field(
        description="`queue`: the service found `fail`, `review` or no verdict, or two people disagree; `audit`: drawn "
        "at random, whatever was found; `double_read`: another person has judged it"
    )
    blind: bool = Field(description="whether `inspection` leaves out what the service, and others, found")
    inspection: ReviewedInspection


class ClaimRenewal(Message):
    """A claim that was renewed."""

    claim: str
    until: Timestamp


class DefectKind(Message):
    """A kind of defect in a plant's own list."""

    code: DefectCode = Field(examples=["scratch"])
    title: Text = Field(description="for people", examples=["Scratch"])
    key: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]$")] | None = Field(
        None, description="the key that chooses it on the page; not o or d, which are `ok` and `defect`", examples=["s"]
    )


class ReviewPlanSettings(Message):
    """How a product's images are reviewed."""

    audit_share: Annotated[float, NotBool] = Field(
        0.0,
        ge=0,
        le=1,
        description="share of all images, drawn at random when they come, that people judge blind, whatever the "
        "service found: only these can move thresholds. 0: none",
        examples=[0.02],
    )
    double_read_share: Annotated[float, NotBool] = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the reviewed images that a second person judges, blind: how far people agree",
        examples=[0.1],
    )
    defect_codes: tuple[DefectKind, ...] = Field(
        (), max_length=MAX_DEFECT_CODES, description="the plant's own list; empty: any code may be given"
    )

    @field_validator("defect_codes")
    @classmethod
    def _each_stands_once(cls, kinds: tuple[DefectKind, ...]) -> tuple[DefectKind, ...]:
        for what in ("code", "key"):
            given = [getattr(kind, what) for kind in kinds if getattr(kind, what) is not None]
            if len(given) != len({one.lower() for one in given}):
                raise ValueError(f"a {what} stands there twice: give each kind of defect one of its own")
        if reserved := {kind.key for kind in kinds}.intersection(RESERVED_KEYS):
            raise ValueError(
                f"the key {min(str(key) for key in reserved)!r} means ok or defect on the page: use another"
            )
        return kinds


class ReviewPlanChange(ReviewPlanSettings):
    """A product's review plan as it was set."""

    revision: int = Field(ge=0, description="grows with each change; 0: it was never set")
    by: Text | None = Field(description="who set it; null: nobody")
    at: Timestamp | None = Field(description="when")


class ReviewPlan(ReviewPlanChange):
    """A product's review plan in force, and those before it."""

    product: Name
    earlier: list[ReviewPlanChange] = Field(default_factory=list, description="the latest first")


class WaitingReviews(Message):
    """How many images wait for a person."""

    fail: int
    no_result: int = Field(0, description="the inspection failed or expired, and the image is there to be looked at")
    review: int
    audit: int
    double_read: int
    disputed: int = Field(0, description="two people disagree, and a third one has to decide")


class DecisionCounts(Message):
    """How often people decided what."""

    ok: int = 0
    defect: int = 0


class AgreementTable(Message):
    """What people decided, by the service's verdict. An image counts once, by the review that counts."""

    model_config = ConfigDict(populate_by_name=True)

    passed: DecisionCounts = Field(default_factory=DecisionCounts, alias="pass")
    review: DecisionCounts = Field(default_factory=DecisionCounts)
    fail: DecisionCounts = Field(default_factory=DecisionCounts)


class DoubleReadFigures(Message):
    """How far two people agree who judged the same image."""

    pairs: int
    agreed: int
    kappa: float | None = Field(
        description="Cohen's kappa: 1 where they always agree, 0 where as often as by chance; null: not defined, "
        "because there is no pair or all decisions are the same"
    )


class ReviewSummary(Message):
    """What waits for people, and how people and service agree."""

    waiting: WaitingReviews
    reviewed: int = Field(description="images with a review that counts: what is disputed is not among them")
    withdrawn: int = Field(description="reviews that were withdrawn")
    agreement: AgreementTable
    double_read: DoubleReadFigures


def cohens_kappa(pairs: list[tuple[Any, Any]]) -> float | None:
    """Return Cohen's kappa of pairs of decisions, first and second reader; None where it is not defined.

    kappa = (p_o - p_e) / (1 - p_e), with p_o the share of pairs that agree and p_e the share expected from how often
    each reader chose what (Cohen 1960).
    """
    if not pairs:
        return None
    count = len(pairs)
    observed = sum(first == second for first, second in pairs) / count
    choices = {choice for pair in pairs for choice in pair}
    expected = sum(
        sum(first == choice for first, _ in pairs) * sum(second == choice for _, second in pairs) for choice in choices
    ) / (count * count)
    return None if expected == 1 else (observed - expected) / (1 - expected)
