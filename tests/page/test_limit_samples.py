"""Limit samples on the page: set, shown to the camera, judged while one looks; the hold and its release."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import EmbeddedService, part, serious_findings

Opener = Callable[..., Page]
GOOD, BAD = part(7110), part(7104, "missing_screw")
"""The shipped product passes the one and fails the other."""


@pytest.fixture
def station(service: EmbeddedService, request: pytest.FixtureRequest) -> str:
    """A station of this test's own, with hostile letters in its name."""
    name = f"<b>{request.node.name[5:40]}</b>"
    answer = httpx.put(f"{service.url}/v1/stations/{path_of(name)}", json={"product": "bracket"})
    assert answer.status_code == 200, answer.text
    return name


def path_of(station: str) -> str:
    return station.replace("/", "%2F").replace("<", "%3C").replace(">", "%3E")


def page_of(station: str) -> str:
    return f"/stations/{path_of(station)}/limit-samples"


def set_samples(service: EmbeddedService, station: str) -> None:
    samples = [{"serial": f"{station}-good", "expected": "good"}, {"serial": f"{station}-bad", "expected": "bad"}]
    url = f"{service.url}/v1/stations/{path_of(station)}/limit-samples"
    assert httpx.put(url, json={"samples": samples}).status_code == 200


def name_oneself(page: Page, name: str = "A. Meier") -> None:
    page.get_by_label("Your name or badge number").fill(name)
    page.keyboard.press("Enter")


def start(page: Page) -> None:
    page.get_by_role("button", name="Start a check").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 samples")
    page.get_by_role("dialog").get_by_role("button", name="Start a check").click()


def test_samples_are_set_and_a_check_passes_while_one_looks(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    page = open_page(page_of(station))
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Limit samples of {station}")
    page.get_by_role("button", name="Change the samples").click()
    page.get_by_label("Serial").fill(f"{station}-good")
    page.get_by_label("Known to be").select_option("good")
    page.get_by_role("button", name="Add a sample").click()
    page.get_by_label("Serial").nth(1).fill(f"{station}-bad")
    page.get_by_label("Note").nth(1).fill("<i>without a screw</i>")
    page.get_by_role("button", name="Save the samples").click()
    page.get_by_role("dialog").get_by_role("button", name="Save the samples").click()
    name_oneself(page)
    expect(page.get_by_text("<i>without a screw</i>")).to_be_visible()
    start(page)
    expect(page.get_by_text("Show each sample to the camera")).to_be_visible()
    assert serious_findings(page) == []
    assert service.post(BAD, station=station, serial=f"{station}-bad")["limit_sample"] == "bad"
    row = page.get_by_role("row").filter(has_text=f"{station}-bad").first
    expect(row).to_contain_text("as expected")
    service.post(GOOD, station=station, serial=f"{station}-good")
    check = page.get_by_role("region", name="Check", exact=True)
    expect(check).to_contain_text("Passed")
    expect(check).to_contain_text("by A. Meier")
    row.get_by_role("link").click()
    expect(page).to_have_url(re.compile("/inspections/"))


def test_a_wrong_verdict_holds_the_station_and_the_page_says_what_to_do(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    set_samples(service, station)
    page = open_page(page_of(station))
    start(page)
    name_oneself(page, "B. Huber")
    expect(page.get_by_text("Show each sample to the camera")).to_be_visible()
    service.post(GOOD, station=station, serial=f"{station}-bad")
    expect(page.get_by_text("Not passed")).to_be_visible()
    expect(page.get_by_text("Check light, lens and position")).to_be_visible()
    held = page.get_by_role("status").filter(has_text="On hold:")
    expect(held).to_contain_text(f"the known bad limit sample {station}-bad was PASS")
    assert serious_findings(page) == []
    start(page)  # during the hold
    expect(page.get_by_text("Show each sample to the camera")).to_be_visible()
    service.post(BAD, station=station, serial=f"{station}-bad")
    service.post(GOOD, station=station, serial=f"{station}-good")
    expect(page.get_by_role("region", name="Check", exact=True)).to_contain_text("Passed")
    page.get_by_role("button", name="Release the station").click()
    page.get_by_role("dialog").get_by_role("button", name="Release the station").click()
    expect(held).to_be_hidden()
    expect(page.get_by_role("region", name="Earlier checks")).to_contain_text("Not passed")
    found = httpx.get(f"{service.url}/v1/stations/{path_of(station)}").json()
    assert [change["by"] for change in found["changes"][:2]] == ["B. Huber", "B. Huber"]
    assert found["hold"] is None


def test_a_failed_check_stands_beside_a_persons_hold_and_is_released_by_itself(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    url = f"{service.url}/v1/stations/{path_of(station)}"
    set_samples(service, station)
    httpx.put(f"{url}/hold", json={"reason": "<i>lens</i> is dirty", "by": "A. Meier"}).raise_for_status()
    httpx.post(f"{url}/limit-samples/check", json={"by": "B. Huber"}).raise_for_status()
    page = open_page(page_of(station))
    held = page.get_by_role("status").filter(has_text="On hold:")
    expect(held).to_contain_text("On hold: <i>lens</i> is dirty")
    service.post(GOOD, station=station, serial=f"{station}-bad")
    failed = f"the known bad limit sample {station}-bad was PASS"
    expect(held).to_contain_text(f"Also, by a check: {failed}")
    expect(held).to_contain_text("On hold: <i>lens</i> is dirty")
    assert serious_findings(page) == []
    release = page.get_by_role("button", name="Release the station")
    release.click()
    dialog = page.get_by_role("dialog", name="Release the station?")
    expect(dialog).to_contain_text(
        f"Only this reason is lifted: <i>lens</i> is dirty. The station stays on hold, because {failed}."
    )
    dialog.get_by_role("button", name="Release the station").click()
    name_oneself(page, "C. Novak")
    expect(held).to_contain_text(f"On hold: {failed}")
    release.click()
    expect(dialog).to_contain_text("pass again from now on")
    dialog.get_by_role("button", name="Release the station").click()
    expect(held).to_be_hidden()
    changes = httpx.get(url).json()["changes"]
    assert [(one["by"], one["settings"]["hold"]) for one in changes[:3]] == [
        ("C. Novak", None),
        ("C. Novak", f"limit sample {station}-bad (bad) was pass"),
        ("B. Huber", "<i>lens</i> is dirty"),
    ]


def test_a_station_is_held_by_keyboard_alone_with_a_reason(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    page = open_page(page_of(station), color_scheme="dark")
    page.get_by_role("button", name="Hold the station").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # not without a reason
    page.keyboard.type("<script>alert(1)</script> lens is dirty")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your name or badge number")).to_be_focused()
    page.keyboard.type("A. Meier")
    page.keyboard.press("Enter")
    held = page.get_by_role("status").filter(has_text="On hold:")
    expect(held).to_contain_text("<script>alert(1)</script> lens is dirty")
    expect(held).to_contain_text("by A. Meier")
    assert serious_findings(page) == []
    found = httpx.get(f"{service.url}/v1/stations/{path_of(station)}").json()
    assert found["hold"] == "<script>alert(1)</script> lens is dirty"
    # Somebody else releases it, and the page hears of it.
    httpx.delete(f"{service.url}/v1/stations/{path_of(station)}/hold")
    expect(held).to_be_hidden()


def test_a_running_check_is_cancelled_only_after_a_question(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    set_samples(service, station)
    page = open_page(page_of(station), viewport={"width": 390, "height": 844}, has_touch=True)
    page.get_by_role("button", name="Start a check").tap()
    page.get_by_role("dialog").get_by_role("button", name="Start a check").tap()
    name_oneself(page)
    page.get_by_role("button", name="Cancel the check").tap()
    page.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).tap()
    expect(page.get_by_text("Running", exact=True)).to_be_visible()
    page.get_by_role("button", name="Cancel the check").tap()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the check").tap()
    expect(page.get_by_text("It was cancelled by A. Meier.")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_station_that_only_images_name_is_set_up_from_the_page(service: EmbeddedService, open_page: Opener) -> None:
    page = open_page("/stations/newly-named/limit-samples", allow_errors=True)
    expect(page.get_by_role("status")).to_contain_text("Station newly-named is not set up yet.")
    page.get_by_role("button", name="Set up the station").click()
    page.get_by_role("dialog").get_by_label("Product that it inspects").select_option("bracket")
    page.get_by_role("dialog").get_by_role("button", name="Set up the station").click()
    name_oneself(page)
    expect(page.get_by_role("button", name="Hold the station")).to_be_visible()
    expect(page.get_by_text("First name the samples below.")).to_be_visible()
    found = httpx.get(f"{service.url}/v1/stations/newly-named").json()
    assert (found["product"], found["changed_by"]) == ("bracket", "A. Meier")
    page.get_by_role("button", name="Remove the station").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove the station").click()
    expect(page.get_by_role("status").filter(has_text="Station newly-named is not set up yet.")).to_be_visible()


def test_samples_that_were_replaced_are_restored_after_a_question(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    set_samples(service, station)
    url = f"{service.url}/v1/stations/{path_of(station)}/limit-samples"
    before = httpx.get(url).json()["samples"]
    httpx.put(url, json={"samples": [], "by": "<b>B. Huber</b>"}).raise_for_status()
    page = open_page(page_of(station))
    earlier = page.get_by_role("region", name="Earlier samples")
    expect(earlier.get_by_role("listitem")).to_have_count(1)
    expect(earlier).to_contain_text(f"{station}-good, {station}-bad")
    assert serious_findings(page) == []
    earlier.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("dialog")).to_contain_text("2")
    page.get_by_role("dialog").get_by_role("button", name="Save the samples").click()
    name_oneself(page)
    expect(earlier).to_contain_text("no samples")
    expect(earlier).to_contain_text("<b>B. Huber</b>")
    found = httpx.get(url).json()
    assert (found["samples"], found["changed_by"]) == (before, "A. Meier")


def test_all_samples_are_removed_and_others_named(service: EmbeddedService, open_page: Opener, station: str) -> None:
    set_samples(service, station)
    page = open_page(page_of(station))
    page.get_by_role("button", name="Change the samples").click()
    for serial in ("good", "bad"):
        page.get_by_role("button", name=f"Remove {station}-{serial}").click()
    expect(page.get_by_label("Serial")).to_have_count(0)
    page.get_by_role("button", name="Add a sample").click()
    expect(page.get_by_label("Serial")).to_be_focused()
    page.get_by_role("row").get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Save the samples").click()
    page.get_by_role("dialog").get_by_role("button", name="Save the samples").click()
    name_oneself(page)
    expect(page.get_by_role("button", name="Change the samples")).to_be_visible()
    assert httpx.get(f"{service.url}/v1/stations/{path_of(station)}/limit-samples").json()["samples"] == []


def test_the_takt_of_a_station_is_set_recorded_and_put_back(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    url = f"{service.url}/v1/stations/{path_of(station)}"
    httpx.put(url, json={"product": "bracket", "lot": "L-9", "hold": "lens is dirty"}).raise_for_status()
    page = open_page(page_of(station))
    card = page.get_by_role("region", name="Station", exact=True)
    expect(card).to_contain_text("bracket · no takt · on hold: lens is dirty")
    card.get_by_role("button", name="Change product and takt").click()
    page.get_by_role("dialog").get_by_label("Takt in milliseconds").fill("800")
    page.keyboard.press("Enter")
    name_oneself(page)
    expect(card).to_contain_text("bracket · takt 800 ms · on hold: lens is dirty")
    expect(card.get_by_role("listitem").first).to_contain_text("by A. Meier")
    assert serious_findings(page) == []
    found = httpx.get(url).json()
    assert (found["takt_ms"], found["lot"], found["hold"]) == (800, "L-9", "lens is dirty")  # all else stays
    card.get_by_role("listitem").nth(1).get_by_role("button", name="Restore").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    expect(card.get_by_role("listitem")).to_have_count(4)
    assert httpx.get(url).json()["takt_ms"] is None
