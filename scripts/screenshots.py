"""Pictures of every page of the operators' page, from a running service with traffic: `make screenshots`.

Each page is shown light, dark and on a phone. The images are rendered (the sample product), the verdicts are those of
the shipped bundle. Needs a Chromium; the pictures are PNG files in build/screenshots, or where --out says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from glad_client import Client, Decision, DefectKind, ReviewPlanSettings, StationSettings
from tests.support.browser import CHROMIUM, EmbeddedService, chromium, embedded_service, open_context, part

ROOT = Path(__file__).resolve().parent.parent
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "device_scale_factor": 2,
    },
}
IMAGES = 42
CODES = {
    "missing_screw": DefectKind(code="missing", title="Part missing", key="m"),
    "scratch": DefectKind(code="scratch", title="Scratch", key="c"),
    "stain": DefectKind(code="dirt", title="Dirt", key="i"),
    "dent": DefectKind(code="dent", title="Dent", key="t"),
    "bent_pin": DefectKind(code="pin", title="Bent pin", key="p"),
    "wrong_label": DefectKind(code="label", title="Wrong label", key="l"),
}
"""Defect of the sample product -> how the plant calls it, and its key."""


@dataclass(frozen=True)
class Shot:
    """A page to be shown."""

    name: str
    path: str
    ready: str = "main h1"
    """Selector of what is there once the page is drawn."""
    prepare: Callable[[Page], None] = field(default=lambda page: None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--only", nargs="*", default=[], help="names of pages")
    options = parser.parse_args(arguments)
    if CHROMIUM is None:
        print("there is no Chromium here: apt-get install chromium", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, embedded_service(Path(folder)) as service, chromium() as browser:
        inspections = make_traffic(service)
        for shot in shots(inspections):
            if not options.only or shot.name in options.only:
                take(browser, service, shot, options.out)
    return 0


def make_traffic(service: EmbeddedService) -> list[dict[str, Any]]:
    """Post the images of a small shift at two stations, and review some of them; return the inspections."""
    kinds, found = list(CODES), []
    for number in range(IMAGES):
        defect = kinds[number // 5 % len(kinds)] if number % 5 == 3 else None
        fields: dict[str, Any] = {
            "serial": f"SN-{4100 + number}",
            "lot": f"L-{42 + number // 18}",
            "station": f"line-{1 + number % 2}",
        }
        found.append(service.post(part(7100 + number, defect), **fields) | {"defect": defect})
        print(f"{number + 1} of {IMAGES} images: {found[-1]['verdict']}", flush=True)
    with Client(service.url) as client:
        plan = ReviewPlanSettings(audit_share=0.02, double_read_share=0.1, defect_codes=tuple(CODES.values()))
        client.reviews.set_plan("bracket", plan, by="Q. Engineer")
        for one in [one for one in found if one["defect"]][:4]:
            code = CODES[one["defect"]].code
            client.review(one["id"], Decision.DEFECT, by="A. Meier", defect_code=code)
        for station in ("line-1", "line-2"):
            client.set_station(station, StationSettings(product="bracket"), by="mes")
    return found


def shots(inspections: Sequence[dict[str, Any]]) -> list[Shot]:
    """Return the pages to be shown."""
    failed = next(one for one in inspections if one["verdict"] == "fail")
    return [
        Shot("line", "/line/line-1"),
        Shot("stations", "/line"),
        Shot("review", "/review"),
        Shot("history", "/history"),
        Shot("inspection", f"/inspections/{failed['id']}"),
        Shot("products", "/products"),
        Shot("product", "/products/bracket"),
        Shot("shift", "/shift"),
        Shot("limit-samples", "/stations/line-1/limit-samples"),
        Shot("sign-in", "/sign-in"),
    ]


def take(browser: Browser, service: EmbeddedService, shot: Shot, out: Path) -> None:
    """Write the pictures of one page."""
    for look, options in LOOKS.items():
        context = open_context(browser, service, **options)
        context.request.post("/v1/session", data={"person": "A. Meier"}).dispose()
        page = context.new_page()
        page.goto(shot.path)
        page.wait_for_selector(shot.ready)
        shot.prepare(page)
        page.wait_for_timeout(1500)  # pictures and charts are drawn
        page.screenshot(path=out / f"{shot.name}-{look}.png", full_page=look == "phone")
        context.close()
        print(out / f"{shot.name}-{look}.png", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
