"""The operators' page as a whole: its addresses, its policy, its languages and colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import httpx
import pytest
from playwright.sync_api import Page, expect

from glad_client.events import EventType
from service.api.page import ADDRESSES
from tests.support.browser import EmbeddedService, serious_findings

PAGE = Path(__file__).parents[2] / "service" / "page"
LANGUAGES = ("en", "de", "zh")
SECTIONS = ("Line", "Review", "History", "Products", "Shift")
Opener = Callable[..., Page]


def texts(language: str) -> dict[str, str | dict[str, str]]:
    found: dict[str, str | dict[str, str]] = json.loads((PAGE / "texts" / f"{language}.json").read_text())
    return found


def used_keys() -> set[str]:
    """Keys that the scripts name; of those that they put together the beginning: `verdict.` of `verdict.${name}`."""
    found: set[str] = set()
    for script in (PAGE / "app").rglob("*.js"):
        found |= set(re.findall(r"""\bt\(\s*["`]([\w.]+)""", script.read_text()))
    return found


def test_every_language_has_the_same_texts() -> None:
    keys = {language: list(texts(language)) for language in LANGUAGES}
    assert keys["de"] == keys["en"] == keys["zh"] == sorted(keys["en"])


def test_no_text_lacks_a_value_that_another_language_puts_in() -> None:
    for key, text in texts("en").items():
        for language in LANGUAGES:
            assert set(re.findall(r"\{\w+\}", str(texts(language)[key]))) == set(re.findall(r"\{\w+\}", str(text))), key


def test_every_text_that_a_script_names_exists() -> None:
    known = texts("en")
    missing = {key for key in used_keys() if key not in known and not any(one.startswith(key) for one in known)}
    assert not missing


def test_every_text_is_used() -> None:
    scripts = "".join(script.read_text() for script in (PAGE / "app").rglob("*.js"))
    beginnings = tuple(key for key in used_keys() if key.endswith("."))
    assert not [key for key in texts("en") if f'"{key}"' not in scripts and not key.startswith(beginnings)]


def test_the_service_and_the_page_know_the_same_addresses() -> None:
    table = re.findall(r'^  "(/[^"]*)": \(\) =>', (PAGE / "app" / "main.js").read_text(), re.MULTILINE)
    served = {re.sub(r"\{(\w+)(:\w+)?\}", r":\1", one) for one in ADDRESSES}
    assert set(table) == served


def test_the_page_listens_to_every_event_that_the_service_sends() -> None:
    followed = re.findall(r'^  "(\w+\.\w+)",$', (PAGE / "app" / "lib" / "events.js").read_text(), re.MULTILINE)
    assert sorted(followed) == sorted(get_args(EventType))


def test_scripts_come_under_a_strict_policy_and_are_not_sent_twice(service: EmbeddedService) -> None:
    first = httpx.get(f"{service.url}/page/app/main.js")
    again = httpx.get(f"{service.url}/page/app/main.js", headers={"If-None-Match": first.headers["etag"]})
    document = httpx.get(f"{service.url}/line/line-3")
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    policy = document.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/page/../settings.py", "/page/%2e%2e/settings.py", "/page/app", "/page/__init__.py"])
def test_only_the_files_of_the_page_are_served(service: EmbeddedService, path: str) -> None:
    assert httpx.get(f"{service.url}{path}").status_code == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_section_is_reached_by_keyboard_and_accessible(open_page: Opener, scheme: str) -> None:
    page = open_page("/", color_scheme=scheme)
    expect(page).to_have_url(re.compile("/line$"))
    for name in SECTIONS:
        page.get_by_role("link", name=name, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"/{name.lower()}$"))
        expect(page.locator("main h1")).to_be_visible()
        assert serious_findings(page) == []


def test_the_language_changes_at_once_and_is_remembered(open_page: Opener) -> None:
    page = open_page("/history")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("link", name="Verlauf")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Verlauf")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")


def test_an_address_that_does_not_exist_says_so(open_page: Opener) -> None:
    page = open_page("/line")
    page.evaluate("history.pushState(null, '', '/weld'); dispatchEvent(new PopStateEvent('popstate'))")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


def test_a_phone_has_one_line_at_the_top_and_the_rest_behind_a_button(open_page: Opener) -> None:
    page = open_page("/line", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    top = page.get_by_role("banner")
    first, last = (
        top.get_by_role("link", name="Line").bounding_box(),
        top.get_by_role("link", name="Shift").bounding_box(),
    )
    assert first is not None
    assert last is not None
    assert first["y"] == last["y"]
    expect(page.get_by_label("Language")).to_be_hidden()
    top.get_by_role("button", name="Menu").tap()
    page.get_by_label("Language").select_option("de")
    expect(top.get_by_role("link", name="Verlauf")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert serious_findings(page) == []


def test_a_change_goes_on_after_another_tab_has_signed_in_again(service: EmbeddedService, open_page: Opener) -> None:
    station = f"{service.url}/v1/stations/tabs"
    httpx.put(station, json={"product": "bracket"}).raise_for_status()
    page = open_page("/shift", allow_errors=True)  # the refused first try is logged by the browser
    other = page.context.new_page()
    for one, person in ((page, "A. Meier"), (other, "B. Wolf")):
        one.goto("/sign-in")
        one.get_by_label("Your name or badge number").fill(person)
        one.keyboard.press("Enter")
        expect(one.locator("header").get_by_text(person)).to_be_attached()
    page.evaluate(
        "import('/page/app/lib/api.js').then(({api}) => api.send('PUT', '/v1/stations/tabs/hold', {reason: 'x'}))"
    )
    assert httpx.get(station).json()["held_by"] == "B. Wolf"


def test_a_name_that_cannot_be_recorded_is_asked_for_until_it_can(service: EmbeddedService, open_page: Opener) -> None:
    httpx.put(f"{service.url}/v1/stations/name-1", json={"product": "bracket"}).raise_for_status()
    page = open_page("/line/name-1", allow_errors=True, breakable=True)
    page.route("**/v1/session", lambda route: route.abort())
    page.get_by_role("button", name="Hold the station").click()
    page.get_by_label("Reason").fill("lens is dirty")
    page.keyboard.press("Enter")
    page.get_by_label("Your name or badge number").fill("A. Meier")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("does not answer")
    assert serious_findings(page) == []
    page.unroute("**/v1/session")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="On hold:")).to_contain_text("lens is dirty")


def test_a_sign_out_that_does_not_arrive_says_so(open_page: Opener) -> None:
    page = open_page("/sign-in?back=/shift", allow_errors=True, breakable=True)
    page.get_by_label("Your name or badge number").fill("A. Meier")
    page.keyboard.press("Enter")
    page.route("**/v1/session", lambda route: route.abort())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/v1/session")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_language_that_cannot_be_read_says_so_and_the_old_one_stays(open_page: Opener) -> None:
    page = open_page("/shift", allow_errors=True, breakable=True)
    page.route("**/texts/de.json", lambda route: route.abort())
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.get_by_label("Language")).to_have_value("en")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Shift")
