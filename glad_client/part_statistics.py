"""Answers of the REST interface about a time span: parts counted by verdict, station, product, defect code and hour."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from glad_client.fields import Message, Text, Timestamp


class PartCounts(Message):
    """Parts by their verdicts; `parts` is the sum of `pass`, `review` and `fail`."""

    model_config = ConfigDict(populate_by_name=True)

    parts: int
    passed: int = Field(alias="pass")
    review: int
    fail: int


class PartCountsWithoutResult(PartCounts):
    """Parts by their verdicts, and those of which an inspection failed or expired."""

    no_result: int = Field(
        description="among `review`: an inspection of theirs failed or expired, so that a person has to look"
    )


class NamedPartCounts(PartCountsWithoutResult):
    """Parts of one station or product."""

    name: Text | None = Field(description="null: of images that named none", examples=["line-3"])


class HourPartCounts(PartCounts):
    """Parts whose last image ended in one hour."""

    at: Timestamp = Field(description="when the hour began, by the clock in the time zone GLAD_TIME_ZONE")


class DefectCodePartCounts(Message):
    """Parts that fail with one defect code."""

    code: Text | None = Field(description="null: parts that fail without a code", examples=["scratch"])
    parts: int


class DispositionCounts(Message):
    """What was decided to do with parts."""

    scrap: int = 0
    rework: int = 0
    use_as_is: int = 0


class Statistics(PartCountsWithoutResult):
    """The parts that were inspected in a time span.

    Serial by serial, by the same rules as the verdict of a part; an image without a serial is a part of its own.
    """

    since: Timestamp
    until: Timestamp
    images: int = Field(description="inspections that ended in the span")
    unfinished: int = Field(description="parts that are not counted yet: an image of theirs waits or runs")
    overtime: int = Field(
        0,
        description="parts without a verdict whose takt was over in the span, and that wait or run now: at the gate "
        "each is `review`. Each is counted in `parts` once it has ended, then by its verdict",
    )
    yield_share: float | None = Field(
        alias="yield", description="`pass` / `parts`, 0 ... 1; null: no part", examples=[0.97]
    )
    by_station: list[NamedPartCounts] = Field(
        description="most `fail` first. A part that several stations saw counts at each, by the views seen there"
    )
    by_product: list[NamedPartCounts] = Field(description="most `fail` first, as for stations")
    by_defect_code: list[DefectCodePartCounts] = Field(
        description="most parts first; a part with several codes counts for each"
    )
    by_hour: list[HourPartCounts] = Field(description="each hour of the span that has begun, oldest first")
    dispositions: DispositionCounts


class ShiftSpan(Message):
    """A shift, from `since` to before `until`."""

    name: str = Field(description="beginning and end by the clock on the wall", examples=["06:00-14:00"])
    since: Timestamp
    until: Timestamp


class ShiftList(Message):
    """The latest shifts."""

    time_zone: str = Field(description="GLAD_TIME_ZONE", examples=["Europe/Berlin"])
    shifts: list[ShiftSpan] = Field(description="newest first; the first is the present one")
