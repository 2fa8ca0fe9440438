"""The review page in a real browser: keys, touch, blind images, undo, two people at once, a network that breaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import EmbeddedService, part, serious_findings, touch
from tests.support.processes import eventually

Opener = Callable[..., Page]
CODES = [
    {"code": "scratch", "title": "Scratch", "key": "s"},
    {"code": "missing-screw", "title": "Missing screw", "key": "m"},
]
_numbers = count(1)


def set_plan(service: EmbeddedService, *, audit_share: float = 0.0) -> None:
    """Sets the product's review plan."""
    plan = {"audit_share": audit_share, "double_read_share": 0.0, "defect_codes": CODES, "by": "test"}
    httpx.put(f"{service.url}/v1/products/bracket/review-plan", json=plan).raise_for_status()


@pytest.fixture(scope="module", autouse=True)
def plan(service: EmbeddedService) -> None:
    """The plant's list of defects; no audit."""
    set_plan(service)


@pytest.fixture
def station() -> str:
    """A station of the test's own: its queue is the test's own, too."""
    return f"review-{next(_numbers)}"


def post(service: EmbeddedService, station: str, *serials: str) -> list[str]:
    """Posts a defective part under each serial; returns the ids."""
    return [service.post(part(7, "missing_screw"), station=station, serial=serial)["id"] for serial in serials]


def reviews(service: EmbeddedService, inspection_id: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{service.url}/v1/inspections/{inspection_id}").json()["reviews"])


def counting(service: EmbeddedService, inspection_id: str) -> list[dict[str, Any]]:
    return [one for one in reviews(service, inspection_id) if one["withdrawn_at"] is None]


def expect_reviews(service: EmbeddedService, inspection_id: str, *expected: tuple[str, str | None]) -> None:
    """Waits until the reviews that count are these: decision and defect code."""

    def found() -> bool:
        return [(one["decision"], one["defect_code"]) for one in counting(service, inspection_id)] == list(expected)

    eventually(found)


def sit_down(open_page: Opener, station: str, person: str = "A. Meier", **options: Any) -> Page:
    """Opens the queue of a station, as a person who says who they are."""
    page = open_page(f"/review?station={station}", **options)
    page.get_by_label("Your name").fill(person)
    page.keyboard.press("Enter")
    return page


def expect_image(page: Page, serial: str) -> None:
    expect(page.get_by_role("heading", name=serial)).to_be_visible()
    expect(page.locator(".review-image img").first).to_have_js_property("complete", True)


def expect_nothing_left(page: Page) -> None:
    expect(page.get_by_role("heading", name="Nothing waits for a decision.")).to_be_visible()


FETCHED = "performance.getEntriesByType('resource').map(one => one.name).join()"
"""What the browser has read for a page."""


def test_an_image_is_decided_by_two_keys(service: EmbeddedService, open_page: Opener, station: str) -> None:
    first, second, third = post(service, station, "SN-1", "SN-2", "SN-3")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    page.keyboard.press("d")
    page.keyboard.press("s")
    expect_image(page, "SN-2")
    expect(page.locator(".review-last")).to_contain_text("SN-1: defect, Scratch The model said the same: FAIL.")
    page.keyboard.press("o")
    expect_image(page, "SN-3")
    expect(page.locator(".review-last")).to_contain_text("SN-2: OK The model said otherwise: FAIL.")
    page.keyboard.press("d")
    page.keyboard.press("d")
    expect_nothing_left(page)
    expect(page.get_by_text("You decided 3 today")).to_be_visible()
    expect_reviews(service, first, ("defect", "scratch"))
    expect_reviews(service, second, ("ok", None))
    expect_reviews(service, third, ("defect", None))
    assert reviews(service, first)[0]["by"] == "A. Meier"


def test_no_image_is_shown_before_its_defects_have_their_keys(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    page = open_page("/line", allow_errors=True, breakable=True)
    busy = [True]

    def refuse_while_busy(route: Any) -> None:
        if busy:
            route.fulfill(status=503, content_type="application/problem+json", body='{"title": "Busy", "status": 503}')
        else:
            route.continue_()

    page.route("**/review-plan", refuse_while_busy)
    page.goto(f"/review?station={station}")
    page.get_by_label("Your name").fill("A. Meier")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Busy")).to_be_visible()
    expect(page.get_by_role("heading", name="SN-1")).to_have_count(0)
    busy.clear()
    expect_image(page, "SN-1")
    expect(page.get_by_text("Busy")).to_have_count(0)
    page.keyboard.press("d")
    page.keyboard.press("s")  # the key of "Scratch"; without the list of defects it would skip the image
    expect_reviews(service, inspection_id, ("defect", "scratch"))


AT_ONCE = """
new MutationObserver(() => {
  const shown = document.querySelector(".review-facts h2")?.textContent;
  if (!shown || shown === window.answered) return;
  window.answered = shown;
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "o", bubbles: true }));
}).observe(document, { childList: true, characterData: true, subtree: true });
"""
"""A person who presses the key at the moment in which an image is in the document, before it is painted."""


def test_a_key_counts_from_the_moment_in_which_the_image_is_there(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    ids = post(service, station, "SN-1", "SN-2", "SN-3")
    page = open_page("/line")
    page.add_init_script(AT_ONCE)
    page.goto(f"/review?station={station}")
    page.get_by_label("Your name").fill("A. Meier")
    page.keyboard.press("Enter")
    expect_nothing_left(page)
    for inspection_id in ids:
        expect_reviews(service, inspection_id, ("ok", None))


def test_a_key_that_is_held_decides_one_image(service: EmbeddedService, open_page: Opener, station: str) -> None:
    post(service, station, "SN-1", "SN-2")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    page.keyboard.down("o")
    expect_image(page, "SN-2")
    page.keyboard.down("o")  # the second of a key that is still down: what a keyboard sends while it is held
    page.keyboard.up("o")
    expect_image(page, "SN-2")


def test_an_undo_shows_the_image_again_and_the_second_decision_counts(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    first, _ = post(service, station, "SN-1", "SN-2")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    page.keyboard.press("n")
    page.keyboard.type("looks odd")
    page.keyboard.press("Enter")
    page.keyboard.press("o")
    expect_image(page, "SN-2")
    page.keyboard.press("u")
    expect_image(page, "SN-1")
    expect(page.locator(".review-last")).to_contain_text("The decision on SN-1 was taken back.")
    expect(page.get_by_label("Note")).to_have_value("looks odd")
    page.keyboard.press("d")
    page.keyboard.press("m")
    expect_image(page, "SN-2")
    expect_reviews(service, first, ("defect", "missing-screw"))
    withdrawn, counts = reviews(service, first)
    assert (withdrawn["decision"], withdrawn["withdrawn_by"], counts["note"]) == ("ok", "A. Meier", "looks odd")


def test_a_decision_of_three_images_ago_is_corrected_on_its_own_page(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    first, *_ = post(service, station, "SN-1", "SN-2", "SN-3", "SN-4")
    page = sit_down(open_page, station)
    for serial in ("SN-1", "SN-2", "SN-3", "SN-4"):
        expect_image(page, serial)
        page.keyboard.press("o")
    expect_nothing_left(page)
    page.get_by_role("link", name="SN-1: OK").click()
    expect(page.get_by_role("heading", name="Part SN-1")).to_be_visible()
    page.get_by_label("Which defect?").select_option("Missing screw")
    page.get_by_role("button", name="Defect", exact=True).click()
    page.get_by_role("dialog", name="Defect: Missing screw").get_by_role("button", name="Defect").click()
    expect(page.locator(".inspection-reviews .counts")).to_contain_text("Defect: Missing screw – A. Meier")
    assert [one["decision"] for one in counting(service, first)] == ["ok", "defect"]  # the last one counts
    assert serious_findings(page) == []
    page.get_by_role("button", name="Withdraw my decision").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw my decision").click()
    expect(page.locator(".inspection-reviews .counts")).to_contain_text("Good part – A. Meier")


def test_one_key_shows_the_picture_without_heat_and_marks(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    post(service, station, "SN-1")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    expect(page.get_by_role("img", name="Hottest place")).to_be_visible()
    page.keyboard.press("h")
    expect(page.get_by_role("img", name="Hottest place")).to_have_count(0)
    expect(page.locator(".viewer-heat")).to_have_count(0)
    page.keyboard.press("h")
    expect(page.get_by_role("img", name="Hottest place")).to_be_visible()


def test_a_blind_image_shows_nothing_of_the_model_and_stays_blind_after_an_undo(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    set_plan(service, audit_share=1.0)
    (drawn,) = post(service, station, "SN-1")
    set_plan(service)
    before = agreement(service)
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    expect(page.get_by_text("Judge it on your own")).to_be_visible()
    expect(page.get_by_text(re.compile("FAIL|Score|region"))).to_have_count(0)
    expect(page.locator("[data-region]")).to_have_count(0)
    page.keyboard.press("o")
    expect(page.locator(".review-last")).to_contain_text("SN-1: OK Recorded. What the model found stays hidden.")
    page.keyboard.press("u")
    expect_image(page, "SN-1")
    page.keyboard.press("d")
    page.keyboard.press("s")
    expect_nothing_left(page)
    expect_reviews(service, drawn, ("defect", "scratch"))
    (review,) = counting(service, drawn)
    assert (review["blind"], review["audit"]) == (True, 1.0)
    assert agreement(service)["fail"]["defect"] == before["fail"]["defect"] + 1  # what "Numbers" shows, of all together


def agreement(service: EmbeddedService) -> dict[str, dict[str, int]]:
    summary = httpx.get(f"{service.url}/v1/reviews/summary", params={"product": "bracket"}).json()
    return dict(summary["agreement"])


def test_two_people_never_have_the_same_image(service: EmbeddedService, open_page: Opener, station: str) -> None:
    ids = post(service, station, "SN-1", "SN-2", "SN-3", "SN-4")
    pages = {name: sit_down(open_page, station, name) for name in ("A. Meier", "B. Wolf")}
    shown = {name: page.locator(".review-facts h2") for name, page in pages.items()}
    for title in shown.values():
        expect(title).to_be_visible()
    assert shown["A. Meier"].inner_text() != shown["B. Wolf"].inner_text()
    for page in pages.values():
        page.keyboard.press("o")
        expect(page.get_by_text("You decided 1 today")).to_be_visible()
        eventually(partial(decided_all, page), every_s=0.1)  # what is left goes to whom it is given
    for inspection_id in ids:
        expect_reviews(service, inspection_id, ("ok", None))
    assert {reviews(service, inspection_id)[0]["by"] for inspection_id in ids} == {"A. Meier", "B. Wolf"}


def decided_all(page: Page) -> bool:
    """Decides on the image that is shown, if one is; whether none is left."""
    page.keyboard.press("o")
    return page.get_by_role("heading", name="Nothing waits for a decision.").is_visible()


def test_who_leaves_gives_the_images_back_at_once(service: EmbeddedService, open_page: Opener, station: str) -> None:
    post(service, station, "SN-1")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    other = sit_down(open_page, station, "B. Wolf")
    expect_nothing_left(other)
    # Off the queue meanwhile: a call on its way while a page leaves may claim an image that then nobody sees.
    other.goto("/products")
    with page.expect_response("**/v1/reviews/claims/*"):
        page.get_by_role("link", name="Products", exact=True).click()
    other.goto(f"/review?station={station}")
    expect_image(other, "SN-1")
    other.keyboard.press("d")
    other.reload()  # in the middle of a decision
    expect_image(other, "SN-1")


def test_an_image_that_was_being_given_while_the_page_is_loaded_anew_is_there_afterwards(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    post(service, station, "SN-1")
    page = open_page(f"/review?station={station}", allow_errors=True, breakable=True)
    given: list[int] = []
    page.route("**/v1/reviews/next", lambda route: given.append(route.fetch().status))  # the page never hears of it
    page.get_by_label("Your name").fill("A. Meier")
    page.keyboard.press("Enter")
    eventually(lambda: page.evaluate("true") and given == [200], every_s=0.1)
    page.unroute("**/v1/reviews/next")
    page.reload()
    expect_image(page, "SN-1")
    other = sit_down(open_page, station, "B. Wolf")
    expect_nothing_left(other)


def test_a_tab_that_is_duplicated_has_images_of_its_own(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    first, second, *_ = post(service, station, "SN-1", "SN-2", "SN-3", "SN-4")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    eventually(lambda: second in page.evaluate(FETCHED), patience_s=30)  # the next image is claimed, too
    with page.expect_popup() as opened:
        page.evaluate("() => { sessionStorage.setItem('copied', 'yes'); window.open(location.href); }")
    twin = opened.value
    expect_image(twin, "SN-3")
    assert twin.evaluate("sessionStorage.getItem('copied')") == "yes"  # as a browser does with a tab that is duplicated
    twin.reload()  # and it stays the desk that it is
    expect_image(twin, "SN-3")
    page.keyboard.press("o")
    expect_image(page, "SN-2")
    expect_reviews(service, first, ("ok", None))


def test_a_tab_that_is_duplicated_while_nobody_looks_at_it_has_images_of_its_own(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    _, second, *_ = post(service, station, "SN-1", "SN-2", "SN-3", "SN-4")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    eventually(lambda: second in page.evaluate(FETCHED), patience_s=30)  # the next image is claimed, too
    with page.expect_popup() as opened:
        page.evaluate(DUPLICATED_HIDDEN)
    twin = opened.value
    expect_image(twin, "SN-3")
    twin.reload()  # alone with its name, it keeps it
    expect_image(twin, "SN-3")
    page.keyboard.press("o")
    expect_image(page, "SN-2")


DUPLICATED_HIDDEN = """() => {
  Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
  if (!sessionStorage.getItem("glad.tab")) throw new Error("a hidden tab keeps its name");
  window.open(location.href);
  delete document.hidden;
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""A window that is opened by a page gets a copy of its store, as a tab does that is duplicated."""


def test_a_skipped_image_comes_again_when_asked_for(service: EmbeddedService, open_page: Opener, station: str) -> None:
    post(service, station, "SN-1")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="Only 1 skipped image waits.")).to_be_visible()
    page.get_by_role("button", name="Show the skipped ones again").click()
    expect_image(page, "SN-1")


def test_regions_are_drawn_by_keyboard_in_pixels_of_the_original(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    result = httpx.get(f"{service.url}/v1/inspections/{inspection_id}").json()
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    page.keyboard.press("r")
    for _ in result["regions"]:
        page.locator("g.draw-region").first.focus()
        page.keyboard.press("Delete")
    page.locator(".viewer-stage").focus()
    page.keyboard.press("Enter")
    expect(page.locator("g.draw-region")).to_be_focused()
    before = region_of(page)
    side = round(min(result["width"], result["height"]) / 5)
    assert before[2:] == [side, side]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Alt+ArrowLeft")
    step = max(1, round(result["width"] / page.locator(".viewer-plane").bounding_box()["width"]))  # type: ignore[index]
    expected = [before[0] + 10 * step, before[1] - step, side - step, side]
    assert region_of(page) == expected
    assert serious_findings(page) == []
    page.keyboard.press("d")
    page.keyboard.press("s")
    expect_reviews(service, inspection_id, ("defect", "scratch"))
    assert reviews(service, inspection_id)[0]["regions"] == [expected]


def region_of(page: Page) -> list[int]:
    """The one rectangle that is drawn, as a screen reader says it: x, y, width, height."""
    label = page.locator("g.draw-region").get_attribute("aria-label") or ""
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", label.partition(":")[2])]


def test_a_region_is_drawn_moved_and_resized_by_mouse(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    page = sit_down(open_page, station)
    expect_image(page, "SN-1")
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="Add a box")).to_be_visible()
    known = page.locator("g.draw-region").count()
    stage = page.locator(".viewer-plane").bounding_box()
    assert stage is not None
    size = httpx.get(f"{service.url}/v1/inspections/{inspection_id}").json()["width"]
    scale = stage["width"] / size

    def drag(*points: tuple[float, float]) -> None:
        """With the mouse, between points of the image."""
        (x, y), *rest = [(stage["x"] + x * scale, stage["y"] + y * scale) for x, y in points]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in rest:
            page.mouse.move(x, y, steps=3)
        page.mouse.up()

    drag((20, 20), (100, 90))
    drag((60, 20), (70, 40))  # by its upper side's middle, which is a handle: 20 lower
    drag((60, 70), (90, 75))  # by its inside: 30 to the right, 5 down
    page.keyboard.press("d")
    page.keyboard.press("s")
    expect_reviews(service, inspection_id, ("defect", "scratch"))
    regions = reviews(service, inspection_id)[0]["regions"]
    assert len(regions) == known + 1
    assert regions[-1] == pytest.approx([20 + 30, 20 + 20 + 5, 80, 70 - 20], abs=2)  # 2: rounding of three drags


def test_a_phone_decides_and_draws_by_touch(service: EmbeddedService, open_page: Opener, station: str) -> None:
    first, second = post(service, station, "SN-1", "SN-2")
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = sit_down(open_page, station, **phone)
    expect_image(page, "SN-1")
    assert serious_findings(page) == []
    page.get_by_role("button", name="Mark the defect").tap()
    expect(page.get_by_role("button", name="Add a box")).to_be_visible()
    known = page.locator("g.draw-region").count()
    stage = page.locator(".viewer-plane").bounding_box()
    assert stage is not None
    middle = (stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)  # the defects are at the corners
    touch(page, [middle, (middle[0] + 20, middle[1] + 20), (middle[0] + 40, middle[1] + 40)])
    expect(page.locator("g.draw-region")).to_have_count(known + 1)
    kind = page.get_by_role("button", name="Missing screw")
    tap(page.get_by_role("button", name="Defect", exact=True), until=kind)
    kind.tap()
    expect_image(page, "SN-2")
    page.get_by_role("button", name="OK", exact=True).tap()
    expect_reviews(service, first, ("defect", "missing-screw"))
    expect_reviews(service, second, ("ok", None))
    assert len(reviews(service, first)[0]["regions"]) == known + 1


def tap(button: Locator, *, until: Locator) -> None:
    """Taps as a person does: once more if nothing came of it, for a busy browser may take a touch for a long press.

    Playwright's own waits stand still behind a touch of CDP.
    """
    for _ in range(5):
        button.tap()
        with suppress(AssertionError):
            return eventually(lambda: until.count() == 1, patience_s=10)
    pytest.fail("five taps had no effect")


def test_a_decision_without_network_is_kept_over_a_reload_and_recorded_once(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    first, second = post(service, station, "SN-1", "SN-2")
    page = sit_down(open_page, station, allow_errors=True, breakable=True)
    expect_image(page, "SN-1")
    eventually(lambda: second in page.evaluate(FETCHED), patience_s=30)  # the next image is there before the decision
    page.route("**/review", lambda route: route.abort())
    page.keyboard.press("o")
    expect_image(page, "SN-2")
    page.keyboard.press("o")
    expect(page.get_by_text("No connection: 2 decisions are kept here and sent later.")).to_be_visible()
    assert reviews(service, first) == reviews(service, second) == []
    page.unroute("**/review")
    page.reload()
    expect_reviews(service, first, ("ok", None))
    expect_reviews(service, second, ("ok", None))
    expect_nothing_left(page)


def test_what_a_tab_has_left_is_sent_by_one_that_stays_open(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    page = sit_down(open_page, station, allow_errors=True, breakable=True)
    expect_image(page, "SN-1")
    page.route("**/review", lambda route: route.abort())
    page.keyboard.press("o")
    expect(page.get_by_text("No connection: 1 decision is kept here and sent later.")).to_be_visible()
    browser = page.context
    page.close()
    browser.clock.install()
    other = browser.new_page()
    other.goto(f"/review?station={station}")
    expect_nothing_left(other)
    assert reviews(service, inspection_id) == []  # the tab could still be open
    other.clock.fast_forward("10:00")
    expect_reviews(service, inspection_id, ("ok", None))
    eventually(lambda: other.evaluate("Object.keys(localStorage).join()").count("decisions") == 0)


def test_a_decision_whose_answer_is_lost_is_recorded_once(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    page = sit_down(open_page, station, allow_errors=True, breakable=True)
    expect_image(page, "SN-1")
    lost: list[int] = []

    def lose_the_first(route: Any) -> None:
        answer = route.fetch()
        if lost:
            route.fulfill(response=answer)
        else:
            lost.append(answer.status)
            route.abort()

    page.route("**/review", lose_the_first)
    page.keyboard.press("o")
    expect(page.locator(".review-last")).to_contain_text("SN-1: OK The model said otherwise")
    assert lost == [200]
    assert len(reviews(service, inspection_id)) == 1


def test_a_decision_that_comes_after_anothers_is_refused_in_words(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    page = open_page(f"/review?station={station}", allow_errors=True, breakable=True)
    page.get_by_label("Your name").fill("A. Meier")
    with page.expect_response(is_task) as task:
        page.keyboard.press("Enter")
    claim = task.value.json()["claim"]
    expect_image(page, "SN-1")
    page.route("**/review", lambda route: route.abort())
    page.keyboard.press("o")
    expect(page.get_by_text("No connection: 1 decision is kept here and sent later.")).to_be_visible()
    httpx.delete(f"{service.url}/v1/reviews/claims/{claim}").raise_for_status()  # as if two minutes had passed
    decision = {"decision": "defect", "defect_code": "scratch", "by": "B. Wolf"}
    httpx.post(f"{service.url}/v1/inspections/{inspection_id}/review", json=decision).raise_for_status()
    page.unroute("**/review")
    expect(page.get_by_role("alert")).to_contain_text("was not recorded: B. Wolf has decided on it meanwhile.")
    assert [one["by"] for one in reviews(service, inspection_id)] == ["B. Wolf"]
    page.get_by_role("button", name="I have read this").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def is_task(answer: Any) -> bool:
    return bool(answer.url.endswith("/v1/reviews/next") and answer.status == 200)


def test_a_restart_of_the_api_in_the_middle_loses_nothing(
    service: EmbeddedService, open_page: Opener, station: str
) -> None:
    first, second = post(service, station, "SN-1", "SN-2")
    page = sit_down(open_page, station, allow_errors=True)
    expect_image(page, "SN-1")
    service.kill_api()
    page.keyboard.press("d")
    page.keyboard.press("s")
    service.wait_until_ready()
    expect_reviews(service, first, ("defect", "scratch"))
    expect_image(page, "SN-2")
    page.keyboard.press("o")
    expect_reviews(service, second, ("ok", None))
    assert len(reviews(service, first)) == 1


def test_a_hostile_serial_is_text(service: EmbeddedService, open_page: Opener, station: str) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\">{{7*7}}"
    (inspection_id,) = post(service, station, hostile)
    page = sit_down(open_page, station)
    expect_image(page, hostile)
    page.keyboard.press("o")
    expect(page.locator(".review-last")).to_contain_text(f"{hostile}: OK")
    expect_reviews(service, inspection_id, ("ok", None))
    assert page.title() != "owned"


def test_an_admin_changes_the_plan_after_a_question_and_can_restore_the_earlier_one(
    service: EmbeddedService, open_page: Opener
) -> None:
    page = open_page("/review?tab=plan&product=bracket")
    page.get_by_role("button", name="Add a kind of defect").click()
    row = page.get_by_role("group", name="Kind of defect 3")
    row.get_by_label("Name").fill("Dent")
    row.get_by_label("Code").fill("dent")
    row.get_by_label("Key").fill("e")
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog", name="Change the review plan?")
    expect(dialog).to_contain_text("Scratch (S), Missing screw (M), Dent (E)")
    dialog.get_by_role("button", name="Save").click()
    page.get_by_label("Your name").fill("Q. Engineer")
    page.keyboard.press("Enter")
    expect(page.locator("form").get_by_text(re.compile("Set by Q. Engineer"))).to_be_visible()
    plan = httpx.get(f"{service.url}/v1/products/bracket/review-plan").json()
    assert [one["code"] for one in plan["defect_codes"]] == ["scratch", "missing-screw", "dent"]
    assert serious_findings(page) == []
    page.get_by_role("button", name="Restore").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("group", name="Kind of defect 3")).to_have_count(0)
    plan = httpx.get(f"{service.url}/v1/products/bracket/review-plan").json()
    assert [one["code"] for one in plan["defect_codes"]] == ["scratch", "missing-screw"]


def test_a_plan_that_somebody_changed_meanwhile_is_shown_beside_what_was_typed(
    service: EmbeddedService, open_page: Opener
) -> None:
    url = f"{service.url}/v1/products/bracket/review-plan"
    page = open_page("/review?tab=plan&product=bracket", allow_errors=True)  # the refusal is one

    def rename(name: str) -> None:
        page.get_by_role("group", name="Kind of defect 1").get_by_label("Name").fill(name)
        page.get_by_role("button", name="Save").click()
        page.get_by_role("dialog", name="Change the review plan?").get_by_role("button", name="Save").click()

    rename("Deep scratch")
    page.get_by_label("Your name").fill("E. Novak")
    page.keyboard.press("Enter")
    expect(page.locator("form").get_by_text("Set by E. Novak")).to_be_visible()
    theirs = [*CODES, {"code": "dent", "title": "Dent", "key": "e"}]
    plan = {"audit_share": 0.04, "defect_codes": theirs, "by": "P. Chen"}
    httpx.put(url, json=plan).raise_for_status()
    rename("Long scratch")
    note = page.get_by_role("alert")
    expect(note).to_contain_text("P. Chen changed this plan while you edited it")
    expect(note).to_contain_text("Random check 4%, second opinion 0%, kinds of defects: Scratch (S)")
    first = page.get_by_role("group", name="Kind of defect 1").get_by_label("Name")
    expect(first).to_have_value("Long scratch")
    assert serious_findings(page) == []
    assert httpx.get(url).json()["by"] == "P. Chen"
    note.get_by_role("button", name="Go on from theirs").click()
    expect(first).to_have_value("Scratch")
    expect(note).to_have_count(0)
    rename("Long scratch")
    expect(page.locator("form").get_by_text("Set by E. Novak")).to_be_visible()
    found = httpx.get(url).json()
    assert (found["by"], found["audit_share"]) == ("E. Novak", 0.04)
    assert [one["title"] for one in found["defect_codes"]] == ["Long scratch", "Missing screw", "Dent"]
    set_plan(service)


def test_the_plan_of_another_product_that_comes_late_is_not_shown(open_page: Opener) -> None:
    page = open_page("/line", breakable=True)
    late: list[Any] = []

    def hold_back(route: Any) -> None:
        late.append(route)

    page.route("**/v1/products/slow/review-plan", hold_back)
    page.goto("/review?tab=plan&product=slow")
    expect(page.get_by_role("heading", name="Review plan of slow")).to_be_visible()
    eventually(lambda: page.evaluate("true") and len(late) == 1, every_s=0.1)
    page.get_by_label("Product").select_option("bracket")
    first = page.get_by_role("group", name="Kind of defect 1").get_by_label("Name")
    expect(first).to_have_value("Scratch")
    foreign = [{"code": "foreign", "title": "Foreign", "key": "f"}]
    plan = {"audit_share": 0.5, "double_read_share": 0, "defect_codes": foreign, "revision": 7, "by": "P. Chen"}
    with page.expect_response("**/v1/products/slow/review-plan") as answered:
        late[0].fulfill(json={**plan, "at": "2026-11-30T08:00:00Z", "earlier": []})
    answered.value.finished()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    expect(page.get_by_role("heading", name="Review plan of bracket")).to_be_visible()
    expect(first).to_have_value("Scratch")


def test_the_numbers_say_how_people_and_model_agree(service: EmbeddedService, open_page: Opener, station: str) -> None:
    (inspection_id,) = post(service, station, "SN-1")
    decision = {"decision": "defect", "defect_code": "scratch", "by": "A. Meier"}
    httpx.post(f"{service.url}/v1/inspections/{inspection_id}/review", json=decision).raise_for_status()
    page = open_page("/review?tab=numbers&product=bracket")
    expect(page.get_by_role("heading", name="bracket")).to_be_visible()
    expect(
        page.get_by_text(re.compile(r"Where the model said pass or fail, people agreed in \d+ of \d+"))
    ).to_be_visible()
    expect(page.get_by_text("No image was judged by two people yet.")).to_be_visible()
    assert serious_findings(page) == []
