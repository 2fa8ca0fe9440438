"""Without a mouse: Tab reaches everything on every page, the focus is seen, and it is never lost."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import EmbeddedService, part
from tests.support.keyboard import Keyboard, flaws, walk

Opener = Callable[..., Page]
STATION = "0-walk"
"""The first of all by name: an arrow from "all"."""
PAGES = {
    "/line": ("button", "FAIL, W-1"),
    f"/line/{STATION}": ("button", "Hold the station"),
    f"/review?station={STATION}": ("textbox", "Your name or badge number"),
    "/review?tab=numbers": ("link", "Images with these labels as ZIP"),
    "/review?tab=plan": ("button", "Add a kind of defect"),
    f"/history?station={STATION}": ("link", "FAIL"),
    "/inspections/{id}": ("button", "Record"),
    "/products": ("link", "bracket"),
    "/products/bracket": ("slider", "Least brightness"),
    f"/stations/{STATION}/limit-samples": ("button", "Change product and takt"),
    "/shift": ("button", "Parts as CSV"),
    "/sign-in": ("textbox", "Your name or badge number"),
}
"""Every page, and the role and name of a control that it has when all is read."""


@pytest.fixture(scope="module")
def inspection(service: EmbeddedService) -> str:
    """A defective part at a station that is set up."""
    httpx.put(f"{service.url}/v1/stations/{STATION}", json={"product": "bracket"}).raise_for_status()
    return str(service.post(part(7, "missing_screw"), station=STATION, serial="W-1")["id"])


def test_tab_goes_over_every_control_of_every_page_in_order_and_comes_round(open_page: Opener, inspection: str) -> None:
    page, wrong = open_page("/sign-in"), {}
    for address, (role, name) in PAGES.items():
        page.goto(address.format(id=inspection))
        expect(page.get_by_role(role, name=name).first).to_be_visible()  # type: ignore[arg-type]
        expect(page.locator("main [aria-busy=true]")).to_have_count(0)
        wrong[address] = flaws(walk(page)) + flaws(walk(page, is_back=True))
    assert wrong == {address: [] for address in PAGES}


def test_tab_stays_in_an_open_question_and_escape_leads_back_to_what_asked_it(
    open_page: Opener, inspection: str
) -> None:
    page = open_page(f"/line/{STATION}")
    keyboard = Keyboard(page)
    hold = page.get_by_role("button", name="Hold the station")
    keyboard.use(hold)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    for button in ("Cancel", "Hold the station"):
        keyboard.press("Tab")
        expect(dialog.get_by_role("button", name=button)).to_be_focused()
    for _ in range(4):
        keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(hold).to_be_focused()


def test_the_first_tab_leads_past_the_top_to_the_content(open_page: Opener) -> None:
    page = open_page("/shift")
    expect(page.get_by_role("button", name="Print")).to_be_visible()
    keyboard = Keyboard(page)
    keyboard.press("Tab")
    skip = page.get_by_role("button", name="To the content")
    expect(skip).to_be_focused()
    box = skip.bounding_box()
    assert box is not None
    assert box["height"] >= 44  # it is seen as soon as it has the focus
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Shift", exact=True)).to_be_focused()
    keyboard.press("Tab")
    expect(page.locator("main select").first).to_be_focused()


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, {"width": 390, "height": 844}])
def test_at_the_line_the_heading_is_seen_while_the_first_tab_has_led_to_it(
    open_page: Opener, inspection: str, viewport: dict[str, int]
) -> None:
    page = open_page(f"/line/{STATION}", viewport=viewport)
    expect(page.get_by_role("button", name="Hold the station")).to_be_visible()
    heading = page.get_by_role("heading", level=1, name=STATION)
    Keyboard(page).press("Tab", "Enter")
    expect(heading).to_be_focused()
    box = heading.bounding_box()
    assert box is not None
    assert (box["width"] > 100, box["height"] > 20) == (True, True)
    assert heading.evaluate("one => getComputedStyle(one).clipPath") == "none"
    assert heading.evaluate("one => getComputedStyle(one).outlineStyle") == "dotted"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Tab")
    expect(page.locator("#line-station")).to_be_focused()
    assert heading.evaluate("one => one.getBoundingClientRect().width") == 1


def test_language_and_colours_change_under_the_focus(open_page: Opener) -> None:
    page = open_page("/products")
    keyboard = Keyboard(page)
    language = page.locator("#language")
    keyboard.go_to(language)
    for name in ("Produkte", "产品"):
        keyboard.press("ArrowDown")
        expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
        expect(language).to_be_focused()
        assert page.title() == f"{name} – GLAD Inspect"
    keyboard.choose(language, "English")
    keyboard.use(page.get_by_role("button", name="Colours: Automatic"))
    keyboard.use(page.get_by_role("button", name="Colours: Light"))
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Colours: Dark")).to_be_focused()


def test_somebody_signs_in_hands_over_and_signs_out(open_page: Opener) -> None:
    page = open_page("/products")
    keyboard, top = Keyboard(page), page.get_by_role("banner")
    keyboard.use(top.get_by_role("link", name="Sign in"))
    for person in ("A. Meier", "B. Wolf"):
        expect(page.get_by_label("Your name or badge number")).to_be_focused()
        page.keyboard.type(person)
        keyboard.press("Enter")
        expect(page).to_have_url(re.compile("/products$"))
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        keyboard.go_to(top.get_by_role("link", name=person))
        if person == "A. Meier":
            keyboard.press("Enter")
    keyboard.use(top.get_by_role("button", name="Sign out"))
    expect(top.get_by_role("link", name="Sign in")).to_be_visible()
    keyboard.press("Tab")  # from the place where the button was
    expect(top.get_by_role("link", name="Sign in")).to_be_focused()


def test_a_small_window_has_the_rest_of_the_top_behind_a_button(open_page: Opener) -> None:
    page = open_page("/shift", viewport={"width": 390, "height": 844})
    keyboard = Keyboard(page)
    keyboard.use(page.get_by_role("button", name="Menu"))
    keyboard.press("Tab")
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_focused()


def test_a_page_that_is_opened_has_the_focus_at_its_heading(open_page: Opener, inspection: str) -> None:
    page = open_page("/products")
    keyboard = Keyboard(page)
    keyboard.use(page.get_by_role("link", name="bracket", exact=True))
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_be_focused()
    expect(heading).to_have_text(re.compile("^bracket"))
    keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="Products").last).to_be_focused()  # the way back stands above it
    keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Products")).to_be_focused()
    keyboard.use(page.get_by_role("link", name="History"))  # of the top: it stays, and so does the focus
    expect(page.get_by_role("heading", level=1, name="History")).to_be_visible()
    expect(page.get_by_role("link", name="History")).to_be_focused()


def test_letters_are_keys_of_the_page_also_while_a_slider_has_the_focus(open_page: Opener, inspection: str) -> None:
    page = open_page(f"/inspections/{inspection}")
    keyboard = Keyboard(page)
    hottest = page.get_by_role("img", name="Hottest place")
    expect(hottest).to_be_visible()
    keyboard.go_to(page.get_by_label("Heat"))
    keyboard.press("Home", "h")
    expect(hottest).to_have_count(0)
    keyboard.press("h")
    expect(hottest).to_be_visible()
    expect(page.locator(".viewer-heat")).to_have_count(0)  # Home was the slider's
