"""A product's quality gate as the API shows it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from model_store.product_state import ProductState
from model_store.store import BundleRef
from service.contract import Timestamp


class GateLimits(BaseModel):
    """From where on an image is unfit for inspection: learned from good images, part of the bundle."""

    darkest: float = Field(description="least mean grey, 0 ... 255")
    brightest: float = Field(description="largest mean grey")
    black_share: float = Field(description="largest share of the image in black, 0 ... 1")
    white_share: float = Field(description="largest share of the image in white")
    sharpness: float = Field(description="least sharpness, in cycles per pixel of the model image")
    likeness: float | None = Field(description="least likeness to good images, up to 1; null: not asked")
    good_images: int = Field(description="that set the limits")


class GateView(BaseModel):
    """Whether images are checked before they are inspected, and by which limits."""

    on: bool = Field(description="the gate is asked for what is accepted from now on, if the version has limits")
    by: str | None = Field(description="who switched it last; null: nobody has")
    at: Timestamp | None = Field(description="when")
    note: str | None = Field(description="why")
    limits: GateLimits | None = Field(
        description="of the active version; null: it has no gate, and inspects all images"
    )


def view_gate(ref: BundleRef, state: ProductState) -> GateView:
    """The gate of a product by its active bundle and its state."""
    gate, switch = ref.manifest.gate, state.gate
    return GateView(
        on=state.gate_on,
        by=switch.by if switch else None,
        at=switch.at if switch else None,
        note=switch.note if switch else None,
        limits=None if gate is None else GateLimits.model_validate(gate.model_dump(exclude={"view"})),
    )
