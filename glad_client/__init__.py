"""The client of the GLAD inspection service, and the types of its REST contract.

    from glad_client import Client

    with Client("http://127.0.0.1:8000") as client:
        inspection = client.inspect("bracket", "part.png")
        print(inspection.verdict, inspection.score)

It needs httpx and pydantic only. What stands in `__all__` is public and follows semantic versioning; so does
`glad_client.camera`: a line camera, and a folder whose images are sent as they appear.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glad_client.answers import (
        InspectionPage,
        Part,
        PartView,
        ProductView,
        Readiness,
        SessionView,
        StationHistory,
        StationSettings,
        StationView,
        ThresholdsView,
    )
    from glad_client.async_client import AsyncClient
    from glad_client.client import Client
    from glad_client.errors import ApiError, ClientError, NotFinished, UnexpectedAnswer, Unreachable
    from glad_client.events import Event
    from glad_client.limit_samples import LimitSample, LimitSamplesView
    from glad_client.part_statistics import ShiftList, Statistics
    from glad_client.results import (
        Decision,
        Disposition,
        PartDisposition,
        Quality,
        Region,
        Result,
        Review,
        State,
        Thresholds,
        Verdict,
    )
    from glad_client.reviews import (
        BlindInspection,
        DefectKind,
        ReviewPlan,
        ReviewPlanSettings,
        ReviewSummary,
        ReviewTask,
    )
    from glad_client.sse import ServerEvent

_MODULES = {
    "answers": (
        "InspectionPage",
        "Part",
        "PartView",
        "ProductView",
        "Readiness",
        "SessionView",
        "StationHistory",
        "StationSettings",
        "StationView",
        "ThresholdsView",
    ),
    "async_client": ("AsyncClient",),
    "client": ("Client",),
    "limit_samples": ("LimitSample", "LimitSamplesView"),
    "errors": ("ApiError", "ClientError", "NotFinished", "UnexpectedAnswer", "Unreachable"),
    "events": ("Event",),
    "results": (
        "Decision",
        "Disposition",
        "PartDisposition",
        "Quality",
        "Region",
        "Result",
        "Review",
        "State",
        "Thresholds",
        "Verdict",
    ),
    "reviews": ("BlindInspection", "DefectKind", "ReviewPlan", "ReviewPlanSettings", "ReviewSummary", "ReviewTask"),
    "sse": ("ServerEvent",),
    "part_statistics": ("ShiftList", "Statistics"),
}
__all__ = [
    "ApiError",
    "AsyncClient",
    "BlindInspection",
    "Client",
    "ClientError",
    "Decision",
    "DefectKind",
    "Disposition",
    "Event",
    "InspectionPage",
    "LimitSample",
    "LimitSamplesView",
    "NotFinished",
    "Part",
    "PartDisposition",
    "PartView",
    "ProductView",
    "Quality",
    "Readiness",
    "Region",
    "Result",
    "Review",
    "ReviewPlan",
    "ReviewPlanSettings",
    "ReviewSummary",
    "ReviewTask",
    "ServerEvent",
    "SessionView",
    "ShiftList",
    "State",
    "StationHistory",
    "StationSettings",
    "StationView",
    "Statistics",
    "Thresholds",
    "ThresholdsView",
    "UnexpectedAnswer",
    "Unreachable",
    "Verdict",
]


def __getattr__(name: str) -> object:
    """Import a name when it is asked for: who only needs the types does not load httpx."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it has {', '.join(__all__)}")
