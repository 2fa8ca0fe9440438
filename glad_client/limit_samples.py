"""Limit samples of a station: known parts that are shown to its camera at the start of a shift, and checks by them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from glad_client.fields import InspectionId, Message, Note, Text, Timestamp
from glad_client.results import LimitSampleKind, Verdict

MOST_LIMIT_SAMPLES = 100
"""Of one station."""
MOST_EARLIER_SAMPLES = 5
"""So many times what was replaced is kept."""
CheckState = Literal["running", "passed", "failed", "cancelled"]


class LimitSample(Message):
    """A part whose verdict is known."""

    serial: Text = Field(description="the serial that stands for it", examples=["LIMIT-BAD-1"])
    expected: LimitSampleKind = Field(description="`good`: it must be `pass`; `bad`: it must be `fail`")
    note: Note | None = Field(None, description="for people", examples=["scratch of 0.4 mm, top left"])


class EarlierLimitSamples(Message):
    """The limit samples of a station as they once were."""

    samples: tuple[LimitSample, ...]
    changed_at: Timestamp | None = Field(description="when they were set")
    changed_by: Text | None = None


class CheckedSample(Message):
    """A limit sample in a check."""

    serial: Text
    expected: LimitSampleKind
    verdict: Verdict | None = Field(None, description="the worst of its views; null: it was not shown yet")
    inspection_id: InspectionId | None = Field(None, description="of its last image")
    ok: bool | None = Field(None, description="the verdict is as expected; null: not decided yet")
    views: tuple[Text | None, ...] = Field((), description="that were shown since it was last decided")


class LimitCheck(Message):
    """One check of a station by its limit samples."""

    started_at: Timestamp
    by: Text | None = Field(None, description="who started it, as they said")
    state: CheckState = Field(description="`failed` by the first wrong verdict, which holds the station")
    samples: tuple[CheckedSample, ...]
    expected_views: tuple[Text, ...] = Field((), description="that the station expected of a part when it was started")
    ended_at: Timestamp | None = None
    ended_by: Text | None = Field(None, description="who cancelled it, as they said; null: it ended by itself")


class LimitSamplesView(Message):
    """The limit samples of a station, and the checks by them."""

    station: str = Field(examples=["line-3"])
    samples: tuple[LimitSample, ...]
    changed_at: Timestamp | None = Field(None, description="when they were set; null: never")
    changed_by: Text | None = None
    earlier_samples: tuple[EarlierLimitSamples, ...] = Field(
        (),
        description=f"those that were replaced, at most {MOST_EARLIER_SAMPLES} times, the latest first",
    )
    check: LimitCheck | None = Field(description="the last one, which may be running; null: there was none")
    earlier: tuple[LimitCheck, ...] = Field(description="those before it, at most 20, the latest first")
