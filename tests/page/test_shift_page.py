"""The shift's report: numbers, Pareto charts, the shift before, a file and a sheet of paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Page, expect

from service.queue import keys
from service.queue.connection import connect
from service.queue.history import position_at
from tests.support.browser import EmbeddedService, serious_findings
from tests.support.ended import end_each
from tests.support.line import make_job

Opener = Callable[..., Page]
HOSTILE = "=<b>SUM</b>"


@pytest.fixture(scope="module")
def client(service: EmbeddedService) -> Iterator[redis.Redis]:
    """The service's own Redis."""
    with connect(service.redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def shifts(service: EmbeddedService, client: redis.Redis) -> list[dict[str, Any]]:
    """Three shifts that ended long ago, of which the last two have parts; the present one may end while tests run.

    The last one: three parts pass, one is for review, two fail, one fails at both stations, one has no result. The one
    before: two pass. All at stations of this file.
    """
    found: list[dict[str, Any]] = httpx.get(f"{service.url}/v1/shifts", params={"count": 6}).json()["shifts"][3:]
    last = [(0.1, "P-1"), (0.1, "P-2"), (0.1, HOSTILE), (0.7, "R-1"), (1.5, "F-1"), (1.5, "F-2"), (1.5, "F-3")]
    write(client, found[1], [*last, (None, "N-1")], station="shift-1")
    write(client, found[1], [(1.5, "F-3")], station="shift-2", view="side")
    write(client, found[2], [(0.1, "P-1"), (0.1, "P-2")], station="shift-1")
    return found


def write(client: redis.Redis, shift: dict[str, Any], parts: list[tuple[float | None, str]], **fields: Any) -> None:
    """Parts that ended in a shift, a minute after each other."""
    begins = datetime.fromisoformat(shift["since"])
    jobs = [(make_job(serial=serial, pool="shift", **fields), score) for score, serial in parts]
    for number, inspection in enumerate(end_each(client, jobs)):
        client.zadd(keys.HISTORY, {inspection: position_at(begins + timedelta(minutes=number + 1))})


def figure(page: Page, name: str) -> list[str]:
    """A number and what it was the shift before."""
    card = page.locator(".shift-figure").filter(has=page.get_by_text(name, exact=True))
    return [card.locator(".shift-figure-value").inner_text(), card.locator(".hint").inner_text()]


def pareto(page: Page, title: str) -> list[list[str]]:
    """Name, count and cumulative share of each row."""
    table = page.locator(".pareto").filter(has=page.get_by_role("heading", name=title))
    lines = [row.inner_text().split("\t") for row in table.locator("tbody tr").all()]
    return [[cell.strip() for cell in line if cell.strip()] for line in lines]


def test_the_numbers_of_a_shift_stand_beside_those_of_the_shift_before(
    open_page: Opener, shifts: list[dict[str, Any]]
) -> None:
    page = open_page(f"/shift?since={shifts[1]['since']}&station=shift-1")
    expect(page.locator(".shift-figure").first).to_be_visible()
    assert figure(page, "Parts") == ["8", "last shift 2"]
    assert figure(page, "Yield") == ["37.5%", "last shift 100.0%"]  # 3 of 8
    assert figure(page, "Pass") == ["3", "last shift 2"]
    assert figure(page, "Review") == ["2", "last shift 0"]  # one by its score, one without a result
    assert figure(page, "Fail") == ["3", "last shift 0"]
    assert figure(page, "No result") == ["1", "last shift 0"]


def test_rejects_stand_in_the_order_of_their_number_with_the_sum_up_to_each(
    open_page: Opener, shifts: list[dict[str, Any]]
) -> None:
    page = open_page(f"/shift?since={shifts[1]['since']}")
    expect(page.locator(".pareto").first).to_be_visible()
    # F-1 and F-2 at one station, F-3 at both: 3 of 4, then 4 of 4.
    assert pareto(page, "Fail by station") == [["shift-1", "3", "75%"], ["shift-2", "1", "100%"]]
    assert pareto(page, "Fail by product") == [["toy", "3", "100%"]]
    assert pareto(page, "Fail by defect code") == [["no code given", "3", "100%"]]
    hours = page.locator(".hours-row-fail td").all_inner_texts()
    assert (len(hours), hours[0], sum(map(int, hours))) == (8, "3", 3)


def test_defects_have_the_names_of_the_review_plan_on_the_page_and_their_codes_in_the_file(
    open_page: Opener, service: EmbeddedService, client: redis.Redis, shifts: list[dict[str, Any]]
) -> None:
    plan = f"{service.url}/v1/products/bracket/review-plan"
    kinds = [{"code": "missing-screw", "title": "Missing screw", "key": "m"}]
    burr = {"code": "burr", "title": "Burr", "key": "b"}
    httpx.put(plan, json={"defect_codes": [*kinds, burr]}).raise_for_status()
    serials = ["C-1", "C-2", "C-3", "C-4", "C-5", "C-6"]
    write(client, shifts[1], [(1.5, serial) for serial in serials], station="shift-8", product="bracket")
    found = httpx.get(f"{service.url}/v1/inspections", params={"station": "shift-8"}).json()["inspections"]
    for inspection, code in zip(found, ["missing-screw"] * 3 + ["burr"] * 2, strict=False):
        review = {"decision": "defect", "by": "A. Meier", "defect_code": code}
        httpx.post(f"{service.url}/v1/inspections/{inspection['id']}/review", json=review).raise_for_status()
    httpx.put(plan, json={"defect_codes": kinds}).raise_for_status()  # the plan has no burr any more
    page = open_page(f"/shift?since={shifts[1]['since']}&station=shift-8")
    expect(page.get_by_role("rowheader", name="Missing screw")).to_be_visible()
    names = [["Missing screw", "3", "50%"], ["Burr", "2", "83%"], ["no code given", "1", "100%"]]
    assert pareto(page, "Fail by defect code") == names
    page.emulate_media(media="print")
    expect(page.get_by_role("rowheader", name="Missing screw")).to_be_visible()
    page.emulate_media(media="screen")
    with page.expect_download() as download:
        page.get_by_role("button", name="Parts as CSV").click()
    file = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert (file.count("missing-screw"), file.count("Missing screw")) == (3, 0)


def test_shift_and_station_are_chosen_by_keyboard_and_stand_in_the_address(
    open_page: Opener, shifts: list[dict[str, Any]]
) -> None:
    page = open_page(f"/shift?since={shifts[0]['since']}")
    page.get_by_label("Shift").focus()
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile(re.escape(httpx.QueryParams(since=shifts[1]["since"]).__str__())))
    page.get_by_label("Station").select_option("shift-2")
    expect(page).to_have_url(re.compile("station=shift-2"))
    expect(page.locator(".shift-figure-value").first).to_have_text("1")
    page.reload()
    expect(page.locator(".shift-figure-value").first).to_have_text("1")
    expect(page.get_by_label("Station")).to_have_value("shift-2")


def test_a_shift_that_is_no_longer_listed_is_said_to_be_so(open_page: Opener) -> None:
    page = open_page("/shift?since=2020-01-01T06:00:00.000Z")
    expect(page.get_by_role("status")).to_contain_text("The shift of this link is not listed any more")
    page.get_by_label("Shift").select_option(index=1)
    expect(page.get_by_role("status")).to_have_count(0)


def test_a_product_is_chosen_and_stands_in_the_address(open_page: Opener, shifts: list[dict[str, Any]]) -> None:
    page = open_page(f"/shift?since={shifts[1]['since']}")
    page.get_by_label("Product").select_option("toy")
    expect(page).to_have_url(re.compile("product=toy"))
    expect(page.locator(".shift-span")).to_contain_text("product toy")
    page.get_by_label("Product").select_option("all products")
    expect(page).not_to_have_url(re.compile("product="))


def test_a_review_changes_a_shift_that_is_over(
    open_page: Opener, service: EmbeddedService, client: redis.Redis, shifts: list[dict[str, Any]]
) -> None:
    write(client, shifts[1], [(1.5, "F-9")], station="shift-9")
    page = open_page(f"/shift?since={shifts[1]['since']}&station=shift-9")
    expect(page.locator(".shift-figure-fail .shift-figure-value")).to_have_text("1")
    [inspection] = httpx.get(f"{service.url}/v1/inspections", params={"serial": "F-9"}).json()["inspections"]
    fields = {"decision": "ok", "by": "A. Meier"}
    httpx.post(f"{service.url}/v1/inspections/{inspection['id']}/review", json=fields).raise_for_status()
    page.reload()
    expect(page.locator(".shift-figure-pass .shift-figure-value")).to_have_text("1")
    expect(page.locator(".shift-figure-fail .shift-figure-value")).to_have_text("0")


def test_the_parts_are_saved_as_a_file_that_no_spreadsheet_runs(
    open_page: Opener, shifts: list[dict[str, Any]]
) -> None:
    page = open_page(f"/shift?since={shifts[1]['since']}&station=shift-1")
    with page.expect_download() as download:
        page.get_by_role("button", name="Parts as CSV").click()
    assert re.fullmatch(r"parts-\d{8}T\d{4}Z-\d{8}T\d{4}Z\.csv", download.value.suggested_filename)
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert (len(lines), lines[0].split(",")[:2]) == (9, ["serial", "verdict"])
    assert [line for line in lines if line.startswith(f"'{HOSTILE},pass,")]


def test_the_report_is_one_sheet_of_paper(open_page: Opener, shifts: list[dict[str, Any]]) -> None:
    page = open_page(f"/shift?since={shifts[1]['since']}")
    expect(page.locator(".hours-row-fail")).to_be_visible()
    sheets = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", sheets)) == 1
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.locator(".shift-span")).to_be_visible()


def test_a_station_without_parts_says_so(open_page: Opener) -> None:
    page = open_page("/shift?station=nowhere-to-be-seen")
    expect(page.get_by_text("No part was inspected in this shift.")).to_be_visible()


@pytest.mark.parametrize("look", [{"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}])
def test_the_shift_is_accessible_and_fits_the_screen(
    open_page: Opener, shifts: list[dict[str, Any]], look: dict[str, Any]
) -> None:
    page = open_page(f"/shift?since={shifts[1]['since']}", **look)
    expect(page.locator(".pareto").first).to_be_visible()
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
