"""Without a mouse: at the line, in the review, in the history and at the end of a shift all is done by keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from playwright.sync_api import Page, expect

from service.contract import Job, new_inspection_id
from service.queue import keys
from service.queue.connection import connect
from tests.support.browser import EmbeddedService, part
from tests.support.ended import copy_ended, end_each
from tests.support.keyboard import Keyboard, button, walk
from tests.support.line import make_job
from tests.support.processes import eventually

Opener = Callable[..., Page]
LINE, QUEUE = "0-line", "0-queue"
"""Stations of this file, the first of all by name: an arrow from "all"."""
CODES = [{"code": "scratch", "title": "Scratch", "key": "s"}]


@pytest.fixture(scope="module")
def inspections(service: EmbeddedService) -> list[str]:
    """Two parts of the line, the second one defective."""
    httpx.put(f"{service.url}/v1/stations/{LINE}", json={"product": "bracket"}).raise_for_status()
    good = service.post(part(7110), station=LINE, serial="L-1")["id"]
    return [good, service.post(part(7, "missing_screw"), station=LINE, serial="L-2")["id"]]


@pytest.fixture(scope="module")
def client(service: EmbeddedService, inspections: list[str]) -> Iterator[redis.Redis]:
    """The service's own Redis."""
    with connect(service.redis_url) as client:
        yield client


@pytest.fixture
def plan(service: EmbeddedService) -> None:
    """One kind of defect; no audit."""
    plan = {"audit_share": 0.0, "double_read_share": 0.0, "defect_codes": CODES, "by": "test"}
    httpx.put(f"{service.url}/v1/products/bracket/review-plan", json=plan).raise_for_status()


def test_at_the_line_parts_are_looked_at_and_a_station_is_held_and_released(
    service: EmbeddedService, open_page: Opener, inspections: list[str]
) -> None:
    page = open_page("/line")
    keyboard = Keyboard(page)
    station = page.locator("#line-station")
    expect(station.get_by_role("option", name=LINE)).to_be_attached()
    keyboard.choose(station, LINE)
    expect(page).to_have_url(re.compile(f"/line/{LINE}$"))
    expect(station).to_be_focused()
    expect(page.locator(".big-word")).to_have_text("FAIL")

    keyboard.go_to(page.get_by_label("Reconstruction"))
    keyboard.press("End")
    expect(page.locator(".viewer-split")).to_be_attached()
    keyboard.go_to(page.get_by_label("Heat"))
    expect(page.locator(".viewer-heat")).to_be_visible()
    keyboard.press("Home")
    expect(page.locator(".viewer-heat")).to_have_count(0)
    hottest = page.get_by_role("img", name="Hottest place")
    keyboard.use(page.get_by_label("Marks"), "Space")
    expect(hottest).to_have_count(0)
    keyboard.press("Space")
    expect(hottest).to_be_visible()
    keyboard.use(page.get_by_role("button", name="Picture alone"), "Space")
    expect(hottest).to_have_count(0)
    keyboard.use(button(page, "Zoom in"))
    expect(page.locator(".viewer-stage.is-zoomed")).to_be_visible()
    keyboard.use(button(page, "Show all of it"))
    expect(page.locator(".viewer-stage.is-zoomed")).to_have_count(0)

    keyboard.use(page.get_by_role("button", name="Sound off"))
    keyboard.use(page.get_by_role("button", name="Sound on"))
    expect(page.get_by_role("button", name="Sound off")).to_be_focused()
    keyboard.use(page.get_by_role("button", name="Full screen"))
    keyboard.use(page.get_by_role("button", name="Leave full screen"))
    expect(page.get_by_role("button", name="Full screen")).to_be_focused()

    keyboard.use(page.get_by_role("button", name="PASS, L-1"))
    expect(page.get_by_text("You look at an earlier part.")).to_be_visible()
    keyboard.use(page.get_by_role("button", name="Back to live"))
    expect(page.get_by_text("You look at an earlier part.")).to_have_count(0)

    keyboard.use(button(page, "Hold the station"))
    page.keyboard.type("lens is dirty")
    keyboard.press("Enter")
    page.keyboard.type("A. Meier")
    keyboard.press("Enter")
    release = button(page, "Release the station")
    expect(release).to_be_visible()
    held = service.get(f"/v1/stations/{LINE}")
    assert (held["hold"], held["held_by"]) == ("lens is dirty", "A. Meier")
    keyboard.press("Tab")  # from the place where the other button was
    expect(release).to_be_focused()
    page.goto("/line")
    keyboard.use(page.get_by_role("alert").filter(has_text=LINE).get_by_role("link", name="To the station"))
    keyboard.use(release)
    keyboard.answer("Release the station")
    expect(button(page, "Hold the station")).to_be_visible()
    assert service.get(f"/v1/stations/{LINE}")["hold"] is None
    keyboard.use(page.get_by_role("link", name="All details"))
    expect(page).to_have_url(re.compile(f"/inspections/{inspections[1]}$"))


def test_an_inspection_is_decided_corrected_disposed_of_and_sent(
    service: EmbeddedService, open_page: Opener, inspections: list[str], plan: None
) -> None:
    page = open_page(f"/inspections/{inspections[1]}")
    keyboard = Keyboard(page)
    keyboard.use(button(page, "Copy link"))
    expect(page.get_by_text(re.compile("Link copied|Copy this address"))).to_be_visible()
    with page.expect_popup() as opened:
        keyboard.use(page.get_by_role("link", name="Heatmap"))
    opened.value.close()

    note = page.get_by_label("Note").first
    keyboard.write(note, "seen by hand")
    keyboard.choose(page.get_by_label("Which defect?"), "Scratch")
    keyboard.use(button(page, "Defect"))
    keyboard.answer("Defect: Scratch", "A. Meier")
    expect(page.locator(".inspection-reviews .counts")).to_contain_text("Defect: Scratch – A. Meier")
    expect(button(page, "Defect")).to_be_focused()
    [review] = service.get(f"/v1/inspections/{inspections[1]}")["reviews"]
    assert (review["defect_code"], review["note"]) == ("scratch", "seen by hand")
    keyboard.use(button(page, "Withdraw my decision"))
    keyboard.answer("Withdraw my decision")
    expect(page.get_by_role("heading", name="Decide on this image")).to_be_visible()

    keyboard.choose(page.locator("select[name=disposition]"), "Rework")
    keyboard.use(button(page, "Record"))
    keyboard.answer("Rework")
    take_back = button(page, "Take back")
    expect(take_back).to_be_visible()
    assert service.get("/v1/parts/L-2")["disposition"]["disposition"] == "rework"
    keyboard.use(take_back)
    keyboard.answer("Take back")
    expect(take_back).to_have_count(0)
    assert service.get("/v1/parts/L-2")["disposition"] is None


def test_an_expired_inspection_is_inspected_again(
    open_page: Opener, client: redis.Redis, inspections: list[str]
) -> None:
    stored = json.loads(str(client.hget(keys.inspection(inspections[0]), "job")))
    job = Job.model_validate(stored | {"id": new_inspection_id(), "serial": "L-3", "pool": "by-keys"})
    [expired] = end_each(client, [(job, None)])
    page = open_page(f"/inspections/{expired}", allow_errors=True)
    keyboard = Keyboard(page)
    keyboard.use(button(page, "Inspect again"))
    keyboard.answer("Inspect again", "A. Meier")
    expect(page).not_to_have_url(re.compile(expired))
    keyboard.use(page.get_by_role("link", name=expired))
    expect(page).to_have_url(re.compile(expired))


def test_images_are_decided_marked_skipped_and_taken_back(
    service: EmbeddedService, open_page: Opener, plan: None
) -> None:
    ids = [service.post(part(7, "missing_screw"), station=QUEUE, serial=f"Q-{n}")["id"] for n in (1, 2, 3)]
    page = open_page(f"/review?station={QUEUE}")
    keyboard = Keyboard(page)

    def expect_image(serial: str) -> None:
        expect(page.get_by_role("heading", name=serial)).to_be_visible()

    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("A. Meier")
    keyboard.press("Enter")
    expect_image("Q-1")
    defect = page.get_by_role("button", name="Defect D", exact=True)
    keyboard.use(defect)
    keyboard.use(page.get_by_role("button", name="Scratch S"))
    expect_image("Q-2")
    expect(page.locator(".review-last")).to_contain_text("Q-1: defect, Scratch The model said the same")
    keyboard.use(page.get_by_role("button", name="Undo"))
    expect_image("Q-1")
    keyboard.write(page.get_by_label("Note"), "looks odd")
    keyboard.use(page.get_by_role("button", name="OK O", exact=True))
    expect_image("Q-2")
    keyboard.use(page.get_by_role("button", name="Skip"))
    expect_image("Q-3")

    keyboard.use(page.get_by_role("button", name="Mark the defect"))
    expect(page.locator(".viewer-stage")).to_be_focused()
    regions = page.locator("g.draw-region")
    for left in range(regions.count(), 0, -1):
        keyboard.go_to(regions.first)
        keyboard.press("Delete")
        expect(regions).to_have_count(left - 1)
    keyboard.use(button(page, "Add a box"))
    expect(regions).to_be_focused()
    keyboard.press("Shift+ArrowRight", "Alt+ArrowDown")
    keyboard.press("Insert")
    expect(regions).to_have_count(2)
    expect(regions.last).to_be_focused()
    keyboard.use(button(page, "Delete the box"))
    expect(regions).to_have_count(1)
    way = walk(page)
    assert (way.came_round, way.unmarked, way.nameless) == (True, [], [])
    keyboard.use(page.get_by_role("button", name="Done marking"))
    expect(page.locator(".viewer-outline.outline-drawn")).to_have_count(1)
    keyboard.press("d", "d")

    keyboard.use(button(page, "Show the skipped ones again"))
    expect_image("Q-2")
    keyboard.press("o")
    expect(page.get_by_role("heading", name="Nothing waits")).to_be_visible()
    eventually(lambda: len(service.get(f"/v1/inspections/{ids[1]}")["reviews"]) == 1)
    first, _, last = [service.get(f"/v1/inspections/{one}")["reviews"] for one in ids]
    assert [(one["decision"], one["note"], bool(one["withdrawn_at"])) for one in first] == [
        ("defect", None, True),
        ("ok", "looks odd", False),
    ]
    assert [(one["decision"], one["defect_code"], len(one["regions"])) for one in last] == [("defect", None, 1)]
    keyboard.use(page.get_by_role("link", name="Q-3: defect"))
    expect(page.get_by_role("heading", name="Part Q-3")).to_be_visible()
    page.go_back()  # Alt and the arrow: a key of the browser's window, which a test has none of
    expect(page.get_by_role("heading", level=1, name="Review")).to_be_visible()
    keyboard.choose(page.get_by_label("Product"), "bracket")
    expect(page).to_have_url(re.compile("product=bracket"))
    expect(page.get_by_label("Product")).to_be_focused()


def test_numbers_are_chosen_and_exported_and_the_plan_is_changed_and_restored(
    service: EmbeddedService, open_page: Opener, plan: None
) -> None:
    page = open_page("/review?product=bracket")
    keyboard = Keyboard(page)
    keyboard.use(page.get_by_role("link", name="Numbers"))
    keyboard.use(button(page, "Last 30 days"))
    expect(button(page, "Last 30 days")).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as download:
        keyboard.use(page.get_by_role("link", name="Images with these labels as ZIP"))
    assert download.value.suggested_filename.endswith(".zip")

    keyboard.use(page.get_by_role("link", name="Plan"))
    keyboard.use(button(page, "Add a kind of defect"))
    added = page.get_by_role("group", name="Kind of defect 2")
    expect(added.get_by_label("Name")).to_be_focused()
    for text in ("Dent", "dent", "e"):
        page.keyboard.type(text)
        keyboard.press("Tab")
    keyboard.write(page.get_by_label("Random check"), "1.5")
    keyboard.press("Enter")
    keyboard.answer("Save", "Q. Engineer")
    expect(page.locator("form").get_by_text(re.compile("^Set by Q. Engineer"))).to_be_visible()
    changed = service.get("/v1/products/bracket/review-plan")
    assert (changed["audit_share"], changed["defect_codes"][1:]) == (
        0.015,
        [{"code": "dent", "title": "Dent", "key": "e"}],
    )
    keyboard.use(added.get_by_role("button", name="Remove"))
    expect(added).to_have_count(0)
    keyboard.use(page.get_by_role("button", name="Restore").first)
    keyboard.answer("Save")
    expect(page.get_by_label("Random check")).to_have_value("0")
    assert service.get("/v1/products/bracket/review-plan")["defect_codes"] == CODES


def test_the_history_is_searched_by_every_condition_and_walked(open_page: Opener, client: redis.Redis) -> None:
    [failed] = end_each(client, [(make_job(station="0-rows", pool="by-keys"), 1.5)])
    copy_ended(client, [(failed, {"serial": f"R-{number}"}) for number in range(60)])
    page = open_page("/history", allow_errors=True)  # these results have no pictures
    keyboard = Keyboard(page)
    rows, state = page.locator(".history-list a"), page.locator(".history-state")
    keyboard.write(page.locator("[name=station]"), "0-rows")
    keyboard.choose(page.locator("[name=verdict]"), "FAIL")
    keyboard.go_to(page.locator("[name=since]"))
    page.keyboard.type("01022020")
    keyboard.press("Tab")
    page.keyboard.type("0600a")  # a.m., where the browser has it; the order of day and month is its own
    keyboard.use(page.get_by_text("More conditions"))
    for condition, option in (("reviewed", "no"), ("state", "ended with a verdict")):
        keyboard.choose(page.locator(f"[name={condition}]"), option)
    keyboard.use(button(page, "Search"))
    for name, value in (("verdict", "fail"), ("since", "2020-0"), ("reviewed", "false"), ("state", "done")):
        expect(page).to_have_url(re.compile(f"[?&]{name}={value}"))
    expect(state).to_have_text(re.compile("50"))
    expect(state).to_be_focused()
    keyboard.press("ArrowDown", "ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Inspection")).to_be_focused()
    page.go_back()
    expect(rows.nth(1)).to_be_focused()  # who comes back goes on where they were
    keyboard.press("n")
    expect(rows).to_have_count(11)
    expect(state).to_be_focused()
    keyboard.press("Tab")
    expect(rows.first).to_be_focused()
    keyboard.use(page.get_by_role("button", name="Back"))
    expect(rows).to_have_count(50)
    keyboard.use(page.get_by_role("link", name="Older"))
    keyboard.use(page.get_by_role("link", name="Newest"))
    expect(rows).to_have_count(50)
    keyboard.use(button(page, "Clear all"))
    expect(page).to_have_url(re.compile("/history$"))


def test_a_shift_is_chosen_saved_printed_and_followed_to_its_parts(open_page: Opener, inspections: list[str]) -> None:
    page = open_page("/shift")
    keyboard = Keyboard(page)
    shift, station, product = (page.locator("main select").nth(place) for place in range(3))
    keyboard.choose(station, LINE)
    expect(page.locator(".shift-span")).to_contain_text(f"station {LINE}")
    keyboard.choose(product, "bracket")
    expect(page.locator(".shift-span")).to_contain_text("product bracket")
    with page.expect_download() as download:
        keyboard.use(button(page, "Parts as CSV"))
    assert download.value.suggested_filename.endswith(".csv")
    page.evaluate("window.print = () => { window.printed = true; }")
    keyboard.use(button(page, "Print"))
    assert page.evaluate("window.printed")
    keyboard.go_to(shift)
    keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile("since="))
    expect(shift).to_be_focused()
    keyboard.press("ArrowUp")
    keyboard.use(page.get_by_role("link", name="Show the images that fail"))
    expect(page).to_have_url(re.compile("/history.*verdict=fail"))
    expect(page.get_by_role("heading", level=1, name="History")).to_be_focused()
