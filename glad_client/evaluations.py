"""What was measured of a product's version on labelled images, beside the yardstick."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from glad_client.fields import Message, Sha256, Text, Timestamp

Share = Annotated[float, Field(ge=-1, le=1)]


class FigureInterval(Message):
    """A measured figure, or a difference of two, with its 95 % interval."""

    value: Share = Field(examples=[0.97])
    low: Share = Field(examples=[0.95])
    high: Share = Field(examples=[0.985])


class EvaluationFigures(Message):
    """The figures of one detector. null: not measured, for lack of defects, of masks, or of thresholds."""

    image_auroc: FigureInterval | None = Field(None, description="how well scores tell defective images from good ones")
    pixel_auroc: FigureInterval | None = Field(None, description="the same of pixels")
    pro: FigureInterval | None = Field(None, description="how well the marked area covers each defect")
    found: FigureInterval | None = Field(
        None, description="share of the defective images that fail at the detector's own threshold"
    )
    false_rejects: FigureInterval | None = Field(None, description="share of the good images that fail there")


class EvaluationData(Message):
    """The labelled images."""

    name: Text = Field(examples=["plant set, week 48"])
    fingerprint: Sha256 = Field(description="of every image and mask with its label")
    good: int = Field(ge=1, le=10_000_000, description="images without a defect")
    defect: int = Field(ge=0, le=10_000_000, description="images with one")


class EvaluationOrigin(Message):
    """When, where and how it was measured."""

    at: Timestamp
    machine: str = ""
    glad: str = Field("", description="version of glad")
    command: str = ""


class EvaluationView(Message):
    """An evaluation of a version: of one bundle and one data set."""

    id: str = Field(description="the same for the same bundle and data set")
    bundle: str = Field(description="hash of the bundle that was measured")
    data: EvaluationData
    figures: EvaluationFigures
    yardstick: EvaluationFigures | None = Field(
        description="of the frozen yardstick on the same images: a memory of features, no training; null: not known"
    )
    minus_yardstick: EvaluationFigures | None = Field(
        description="the version's figures minus the yardstick's, paired by image: an interval that holds 0 does not "
        "show which is better; null: not known"
    )
    measured: EvaluationOrigin
    by: str = Field(description="who recorded it", examples=["a.meier"])
    at: Timestamp = Field(description="when it was recorded")
    note: str = ""


class EvaluationList(Message):
    """The evaluations of a version."""

    product: str
    version: str
    bundle: str = Field(description="hash of the version's bundle")
    evaluations: list[EvaluationView] = Field(description="the latest measurement first")
