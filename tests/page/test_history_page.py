"""The history among ten thousand results, and one inspection with everything known of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Locator, Page, expect

from service.contract import Job, new_inspection_id
from service.queue import keys
from service.queue.connection import connect
from tests.support.browser import EmbeddedService, part, serious_findings
from tests.support.ended import copy_ended, end_each
from tests.support.line import make_job

Opener = Callable[..., Page]
MANY = 10_000
HOSTILE = '<img src=x onerror="window.hacked=1">'
MISSING_PICTURE = "404"
"""What the browser logs of a picture that is not kept: stored results have none."""


@pytest.fixture(scope="module")
def client(service: EmbeddedService) -> Iterator[redis.Redis]:
    """The service's own Redis. An image came: before, the folder of images counts as one that is away."""
    service.post(part(7100), wait_s=0)
    with connect(service.redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def archive(client: redis.Redis) -> list[str]:
    """Ten thousand inspections of station "archive", every tenth of them `fail`; their ids, oldest first."""
    good, bad = end_each(client, [(make_job(station="archive", pool="archive"), score) for score in (0.1, 1.5)])
    return copy_ended(
        client,
        [
            (good if number % 10 else bad, {"serial": f"H-{number}", "lot": f"HL-{number // 100}"})
            for number in range(MANY)
        ],
    )


@pytest.fixture
def open_stored(open_page: Opener) -> Iterator[Callable[[str], Page]]:
    """Opens a page whose results have no pictures: no other error may be logged."""
    errors: list[str] = []

    def open_(path: str, **options: Any) -> Page:
        page = open_page("/sign-in", allow_errors=True, **options)
        page.on("console", lambda one: errors.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        return page

    yield open_
    assert [error for error in errors if MISSING_PICTURE not in error] == []


def rows(page: Page) -> Locator:
    """The results."""
    return page.locator(".history-list li")


def serials(page: Page) -> list[str]:
    """Those of the results."""
    return page.locator(".row-serial").all_inner_texts()


def test_ten_thousand_results_are_walked_by_keyboard_a_page_at_a_time(open_stored: Opener, archive: list[str]) -> None:
    page = open_stored("/history?station=archive")
    expect(rows(page)).to_have_count(50)
    assert serials(page) == [f"H-{MANY - 1 - place}" for place in range(50)]
    page.keyboard.press("n")
    expect(rows(page).first).to_contain_text(f"H-{MANY - 51}")
    second = page.url
    page.keyboard.press("p")
    expect(rows(page).first).to_contain_text(f"H-{MANY - 1}")
    page.goto(second)  # the address of a page can be sent
    expect(rows(page).first).to_contain_text(f"H-{MANY - 51}")
    expect(rows(page)).to_have_count(50)


def test_one_part_of_ten_thousand_is_found_by_its_serial_and_opened_by_keyboard(
    open_stored: Opener, archive: list[str]
) -> None:
    page = open_stored("/history")
    expect(rows(page)).to_have_count(50)
    page.keyboard.press("/")
    page.keyboard.type("H-1234")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/history\?serial=H-1234$"))
    page.get_by_role("heading", name="History").click()  # out of the field
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/inspections/{archive[1234]}$"))
    expect(page.locator(".inspection-reason").filter(has_text="is below the review limit")).to_be_visible()


def test_conditions_must_all_hold_and_the_form_shows_those_of_the_address(
    open_stored: Opener, archive: list[str]
) -> None:
    page = open_stored("/history")
    page.get_by_label("Lot").fill("HL-7")
    page.locator("select[name=verdict]").select_option("fail")
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(10)  # of a hundred every tenth
    assert serials(page) == [f"H-{number}" for number in range(790, 690, -10)]
    page.reload()
    expect(page.get_by_label("Lot")).to_have_value("HL-7")
    expect(page.locator("select[name=verdict]")).to_have_value("fail")
    expect(rows(page)).to_have_count(10)
    page.get_by_role("button", name="Clear all").click()
    expect(page).to_have_url(re.compile("/history$"))


def test_nothing_found_says_what_to_do(open_stored: Opener) -> None:
    page = open_stored("/history?serial=NOWHERE")
    expect(page.get_by_text("Nothing found. Check the serial")).to_be_visible()


def test_what_a_line_sent_is_text_and_never_markup(open_stored: Opener, client: redis.Redis) -> None:
    hostile = {"serial": HOSTILE, "lot": "<script>hacked=1</script>", "station": "<b>s", "view": "javascript:alert(1)"}
    [inspection] = end_each(client, [(make_job(**hostile, metadata={"a": HOSTILE}, pool="archive"), 1.5)])
    page = open_stored("/history?station=%3Cb%3Es")
    expect(page.locator(".row-serial")).to_have_text(HOSTILE)
    page.goto(f"/inspections/{inspection}")
    expect(page.get_by_role("heading", name=f"Part {HOSTILE}")).to_be_visible()
    expect(page.get_by_text("<script>hacked=1</script>")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img[src=x], main script, main b").count() == 0


@pytest.mark.parametrize("look", [{"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}])
def test_history_and_inspection_are_accessible(open_stored: Opener, archive: list[str], look: dict[str, Any]) -> None:
    page = open_stored("/history?station=archive", **look)
    expect(rows(page)).to_have_count(50)
    assert serious_findings(page) == []
    page.goto(f"/inspections/{archive[0]}")
    expect(page.get_by_role("heading", name="Part H-0")).to_be_visible()
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_inspection_shows_why_by_whom_and_the_parts_other_view(open_page: Opener, service: EmbeddedService) -> None:
    top = service.post(part(7101, "missing_screw"), serial="I-1", view="top", station="inspection")
    side = service.post(part(7100), serial="I-1", view="side", station="inspection")
    assert top["verdict"] == "fail"
    fields = {"decision": "defect", "by": "A. Meier", "note": "screw is missing"}
    httpx.post(f"{service.url}/v1/inspections/{top['id']}/review", json=fields).raise_for_status()
    page = open_page(f"/inspections/{top['id']}", permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator(".verdict-large")).to_have_text(re.compile("FAIL"))
    expect(page.get_by_text("is above the fail limit")).to_be_visible()
    expect(page.get_by_text("A. Meier decided: defect")).to_be_visible()
    expect(page.get_by_text("screw is missing")).to_be_visible()
    for known in (top["bundle"]["hash"], top["image_sha256"], "512 × 512 pixels", "Time per stage, in milliseconds"):
        expect(page.get_by_text(known, exact=True)).to_be_visible()
    expect(page.locator(".viewer-layer").first).to_be_visible()
    expect(page.locator(".outline-region").first).to_be_visible()
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_text("Link copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.get_by_role("link", name="side · bracket").click()
    expect(page).to_have_url(re.compile(side["id"]))
    expect(page.get_by_text("(this image)")).to_be_visible()


def test_boxes_that_a_person_drew_are_shown_and_kept_when_the_code_is_corrected(
    open_page: Opener, service: EmbeddedService
) -> None:
    found = service.post(part(7101, "missing_screw"), station="inspection")
    url = f"{service.url}/v1/inspections/{found['id']}"
    fields = {"decision": "defect", "by": "A. Meier", "regions": [[10, 20, 100, 50]], "note": "at the edge"}
    httpx.post(f"{url}/review", json=fields).raise_for_status()
    page = open_page(f"/inspections/{found['id']}")
    expect(page.locator(".outline-drawn")).to_have_count(1)
    decide = page.locator(".inspection-reviews + h3 + div")
    decide.get_by_label("Note").fill("<i>seen</i> again")
    decide.get_by_role("button", name="Defect").click()
    page.get_by_role("dialog").get_by_role("button", name="Defect").click()
    page.get_by_label("Your name or badge number").fill("B. Huber")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".inspection-reviews .counts")).to_contain_text("<i>seen</i> again")
    assert httpx.get(url).json()["reviews"][1]["regions"] == [[10, 20, 100, 50]]
    expect(page.locator(".outline-drawn")).to_have_count(1)
    decide.get_by_role("button", name="Good part").click()
    page.get_by_role("dialog").get_by_role("button", name="Good part").click()
    expect(page.locator(".outline-drawn")).to_have_count(0)
    assert serious_findings(page) == []


def test_an_admin_withdraws_what_somebody_else_decided(open_stored: Opener, client: redis.Redis) -> None:
    [inspection] = end_each(client, [(make_job(serial="I-8", station="inspection", pool="archive"), 1.5)])
    page = open_stored(f"/inspections/{inspection}")
    fields = {"decision": "ok", "by": "A. Meier"}
    page.request.post(f"/v1/inspections/{inspection}/review", data=fields)
    page.reload()
    page.get_by_role("button", name="Withdraw the decision of A. Meier").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    page.get_by_label("Your name or badge number").fill("B. Huber")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".inspection-reviews")).to_contain_text(re.compile("B. Huber"))
    expect(page.locator(".inspection-reviews .counts")).to_have_count(0)


def test_a_limit_sample_is_named_so_in_the_history(open_page: Opener, service: EmbeddedService) -> None:
    station = f"{service.url}/v1/stations/inspection-2"
    httpx.put(station, json={"product": "bracket"}).raise_for_status()
    sample = {"serial": "LIMIT-BAD", "expected": "bad"}
    httpx.put(f"{station}/limit-samples", json={"samples": [sample]}).raise_for_status()
    service.post(part(7101, "missing_screw"), station="inspection-2", serial="LIMIT-BAD")
    page = open_page("/history?serial=LIMIT-BAD")
    expect(rows(page)).to_contain_text(["known bad limit sample"])


def test_what_becomes_of_a_part_is_recorded_with_who_and_taken_back(open_stored: Opener, client: redis.Redis) -> None:
    [inspection] = end_each(client, [(make_job(serial="I-9", station="inspection", pool="archive"), 1.5)])
    page = open_stored(f"/inspections/{inspection}")
    page.locator("select[name=disposition]").select_option("rework")
    page.locator("input[name=note]").fill("polish by hand")
    page.get_by_role("button", name="Record").click()
    page.get_by_role("dialog").get_by_role("button", name="Rework").click()
    page.get_by_label("Your name or badge number").fill("A. Meier")
    page.get_by_role("button", name="Continue").click()
    decided = page.locator(".part-dispositions li")
    expect(decided).to_have_text([re.compile("Rework · A. Meier · .*polish by hand")])
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    expect(decided).to_have_text([re.compile("Rework"), re.compile("Taken back · A. Meier")])
    expect(page.get_by_text("Nothing is decided.")).to_be_visible()


def test_the_history_is_searched_by_what_people_decided(
    open_stored: Opener, service: EmbeddedService, client: redis.Redis
) -> None:
    scored: list[tuple[Job, float | None]] = [
        (make_job(serial=f"D-{number}", station="decided", pool="archive"), 1.5) for number in range(3)
    ]
    ids = end_each(client, scored)
    for inspection, fields in (
        (ids[0], {"decision": "defect", "defect_code": "scratch"}),
        (ids[1], {"decision": "ok"}),
    ):
        url = f"{service.url}/v1/inspections/{inspection}/review"
        httpx.post(url, json={"by": "A. Meier", **fields}).raise_for_status()
    scrap = {"disposition": "scrap", "by": "mes"}
    httpx.put(f"{service.url}/v1/parts/D-0/disposition", json=scrap).raise_for_status()
    page = open_stored("/history?station=decided")
    expect(rows(page)).to_have_count(3)
    expect(page.locator(".row-review")).to_have_text(["", "Good part – A. Meier", "Defect: scratch – A. Meier"])
    for query, found in (
        ("reviewed=true", ["D-1", "D-0"]),
        ("reviewed=false", ["D-2"]),
        ("defect_code=scratch", ["D-0"]),
        ("disposition=scrap", ["D-0"]),
    ):
        page.goto(f"/history?station=decided&{query}")
        expect(page.locator(".row-serial")).to_have_text(found)
        expect(page.locator("details[open]")).to_be_visible()


def test_an_expired_inspection_is_inspected_again_after_a_question(
    open_stored: Opener, service: EmbeddedService, client: redis.Redis
) -> None:
    kept = service.post(part(7100), serial="I-2")
    stored = json.loads(str(client.hget(keys.inspection(kept["id"]), "job")))
    job = Job.model_validate(stored | {"id": new_inspection_id(), "serial": "I-3", "pool": "archive"})
    [expired] = end_each(client, [(job, None)])
    page = open_stored(f"/inspections/{expired}")
    expect(page.get_by_text("There is no result: The image waited longer than its deadline.")).to_be_visible()
    page.get_by_role("button", name="Inspect again").click()
    page.get_by_role("dialog").get_by_role("button", name="Inspect again").click()
    page.get_by_label("Your name or badge number").fill("A. Meier")
    page.get_by_role("button", name="Continue").click()
    expect(page).not_to_have_url(re.compile(expired))
    expect(page.locator(".verdict-large")).to_have_text(re.compile("PASS|REVIEW"), timeout=60_000)
    expect(page.get_by_role("link", name=expired)).to_be_visible()
    expect(page.locator("dt", has_text="Asked for by").locator("+ dd")).to_have_text("A. Meier")


def test_an_inspection_that_is_not_kept_says_so(open_page: Opener) -> None:
    page = open_page("/inspections/019abc12-3456-7def-8123-456789abcdef", allow_errors=True)
    expect(page.get_by_role("alert")).to_contain_text("019abc12-3456-7def-8123-456789abcdef")
