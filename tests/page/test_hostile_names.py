"""Whatever a line, a person or a link names: every page shows it as text, runs none of it, and grows no wider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect

from service.queue.connection import connect
from tests.support.browser import EmbeddedService
from tests.support.ended import end_each
from tests.support.line import make_job

Opener = Callable[..., Page]
MARKUP = "<img src=x onerror='window.hacked=1'>"
LONGEST = 128
IN_A_PERSON = 90
"""Letters of a name that a person may have too: the page counts some of them twice."""
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}


@pytest.mark.parametrize(
    "name",
    [
        f"{MARKUP}\u202e4321\u2066\U0001f469\u200d\U0001f52c a%2Fb".ljust(LONGEST, "W"),
        "__proto__",
    ],
    ids=["markup", "prototype"],
)
def test_a_name_is_text_on_every_page(service: EmbeddedService, open_page: Opener, name: str) -> None:
    at, person = quote(name, safe=""), name[:IN_A_PERSON]
    with connect(service.redis_url) as client:
        job = make_job(serial=name, lot=name, station=name, view=name, metadata={name: name}, pool="archive")
        [inspection] = end_each(client, [(job, 1.5)])
    record_everywhere(service, inspection, name)
    page, errors = open_page("/sign-in", allow_errors=True, **PHONE), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
    page.get_by_label("Name").first.fill(person)
    page.locator("main button[type=submit]").click()
    expect(page.locator(".who")).to_have_text(person)
    for path in (
        f"/line/{at}",
        "/line",
        f"/history?serial={at}",
        f"/inspections/{inspection}",
        f"/review?station={at}",
        "/review?tab=numbers&product=bracket",
        "/review?tab=plan&product=bracket",
        "/products/bracket",
        f"/stations/{at}/limit-samples",
        "/shift",
        f"/sign-in?next={at}",
    ):
        page.goto(path)
        expect(page.locator("main h1, main h2").first).to_be_visible()
        expect(page.locator(".who")).to_have_text(person)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img[src=x], .who img").count() == 0
    page.goto(f"/history?serial={at}")
    expect(page.locator(".row-serial").first).to_have_text(name)
    # Of stored results there are no pictures.
    assert [error for error in errors if not error.startswith("Failed to load resource")] == []


def record_everywhere(service: EmbeddedService, inspection: str, name: str) -> None:
    """A review, a disposition, a hold, limit samples and a review plan that all say this name."""
    at, by = quote(name, safe=""), {"by": name[:IN_A_PERSON]}
    codes = [{"code": "constructor", "title": name, "key": "s"}]
    with httpx.Client(base_url=f"{service.url}/v1", timeout=30) as http:
        for method, path, body in (
            ("PUT", "products/bracket/review-plan", {"defect_codes": codes}),
            (
                "POST",
                f"inspections/{inspection}/review",
                {"decision": "defect", "defect_code": "constructor", "note": name},
            ),
            ("PUT", f"parts/{at}/disposition", {"disposition": "scrap", "note": name}),
            ("PUT", f"stations/{at}", {"product": "bracket"}),
            ("PUT", f"stations/{at}/hold", {"reason": name}),
            ("PUT", f"stations/{at}/limit-samples", {"samples": [{"serial": name, "expected": "good", "note": name}]}),
            ("POST", f"stations/{at}/limit-samples/check", {}),
        ):
            http.request(method, f"/{path}", json={**body, **by}).raise_for_status()


@pytest.mark.parametrize("elsewhere", ["//example.org/x", "/%09/example.org"])
def test_signing_in_leads_to_no_other_host(open_page: Opener, elsewhere: str) -> None:
    page = open_page(f"/sign-in?next={elsewhere}", allow_errors=True)
    page.get_by_label("Name").first.fill("A. Meier")
    page.locator("main button[type=submit]").click()
    page.wait_for_url("**/line")
