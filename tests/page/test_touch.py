"""Fingers on the pictures, and what a screen on a wall needs: full screen, and that it stays on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import EmbeddedService, part, pinch, touch
from tests.support.processes import eventually

Opener = Callable[..., Page]
DEFECT = "missing_screw"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def middle_of(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def expect_zoom(page: Page, text: str) -> None:
    """Asked in turns: Playwright's own waits stand still behind a touch of CDP."""
    zoom = page.get_by_role("button", name="Show all of it")
    eventually(lambda: zoom.inner_text() == text)


def to_decide(open_page: Opener, station: str) -> Page:
    """The queue of a station on a phone, once its first picture is there."""
    page = open_page(f"/review?station={station}", **PHONE)
    page.get_by_label("Your name").fill("A. Meier")
    page.keyboard.press("Enter")
    expect(page.locator("img[data-picture]")).to_have_js_property("complete", True)
    return page


@pytest.mark.parametrize("upright", [False, True])
def test_two_fingers_zoom_the_picture_of_the_line_and_not_the_page(
    open_page: Opener, service: EmbeddedService, upright: bool
) -> None:
    service.post(part(303), station="touch-1", serial="T-1")
    page = open_page("/line/touch-1", **PHONE)
    expect(page.get_by_role("img", name="Picture of part T-1")).to_be_visible()
    middle = middle_of(page, ".viewer-stage")
    pinch(page, middle, 20, 60, upright=upright)
    expect_zoom(page, "300%")  # 60 / 20
    pinch(page, middle, 60, 30, upright=upright)
    expect_zoom(page, "150%")
    assert page.evaluate("visualViewport.scale") == 1
    assert page.evaluate("scrollY") == 0


def test_one_finger_moves_a_picture_that_is_zoomed(open_page: Opener, service: EmbeddedService) -> None:
    service.post(part(303), station="touch-2", serial="T-2")
    page = open_page("/line/touch-2", **PHONE)
    expect(page.get_by_role("img", name="Picture of part T-2")).to_be_visible()
    x, y = middle_of(page, ".viewer-stage")
    pinch(page, (x, y), 20, 60)
    expect_zoom(page, "300%")
    place = "document.querySelector('.viewer-plane').getBoundingClientRect().toJSON()"
    before = page.evaluate(place)
    touch(page, [(x, y), (x + 10, y - 10), (x + 30, y - 20)])
    eventually(lambda: page.evaluate(place)["x"] == pytest.approx(before["x"] + 30, abs=1))
    assert page.evaluate(place)["y"] == pytest.approx(before["y"] - 20, abs=1)


def test_the_reconstruction_is_drawn_over_the_picture_by_a_finger(open_page: Opener, service: EmbeddedService) -> None:
    service.post(part(302, DEFECT), station="touch-3", serial="T-3")
    page = open_page("/line/touch-3", **PHONE)
    slider = page.get_by_label("Reconstruction")
    expect(slider).to_be_enabled()
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    touch(page, [(box["x"] + 8, y), (box["x"] + 20, y), (box["x"] + box["width"] / 2, y)])
    eventually(lambda: 40 <= int(slider.input_value()) <= 60)
    eventually(lambda: page.locator("img.viewer-layer[style*='clip-path']").count() == 1)


def test_in_the_review_two_fingers_zoom_and_one_draws_in_pixels_of_the_original(
    open_page: Opener, service: EmbeddedService
) -> None:
    found = service.post(part(302, DEFECT), station="touch-4", serial="T-4")
    page = to_decide(open_page, "touch-4")
    pinch(page, middle_of(page, ".viewer-stage"), 20, 40)
    expect_zoom(page, "200%")
    page.get_by_role("button", name="Mark the defect").tap()
    known = page.locator("g.draw-region").count()
    x, y = middle_of(page, ".viewer-stage")
    pinch(page, (x, y), 20, 60)
    expect_zoom(page, "300%")
    assert page.locator("g.draw-region").count() == known  # two fingers draw nothing
    touch(page, [(x - 20, y - 30), (x, y), (x + 40, y + 30)])
    eventually(lambda: page.locator("g.draw-region").count() == known + 1)
    box = page.locator(".viewer-plane").bounding_box()
    assert box is not None
    per_pixel = box["width"] / found["width"]
    rectangle = page.locator("g.draw-region .draw-region-line").last
    drawn = [float(rectangle.get_attribute(name) or "nan") for name in ("width", "height")]
    assert drawn == pytest.approx([60 / per_pixel, 60 / per_pixel], abs=1)


def test_the_key_f_shows_the_line_on_the_full_screen_and_back(open_page: Opener) -> None:
    page = open_page("/line/touch-5")
    expect(page.get_by_role("button", name="Full screen F", exact=True)).to_be_visible()
    page.keyboard.press("f")
    eventually(lambda: page.evaluate("document.fullscreenElement === document.documentElement"))
    expect(page.get_by_role("button", name="Leave full screen")).to_be_visible()
    page.keyboard.press("f")
    eventually(lambda: page.evaluate("document.fullscreenElement === null"))
    expect(page.get_by_role("button", name="Full screen F", exact=True)).to_be_visible()


LOCKS = """
window.asked = 0;
window.held = new Set();
navigator.wakeLock.request = async () => {
  window.asked += 1;
  if (window.isRefused) throw new DOMException("low battery", "NotAllowedError");
  const lock = new EventTarget();
  lock.released = false;
  lock.release = async () => { lock.released = true; window.held.delete(lock); };
  window.held.add(lock);
  return lock;
};
"""
SHOW = """(state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_the_screen_is_kept_on_at_the_line_alone_and_a_refusal_is_silent(open_page: Opener) -> None:
    page = open_page("/sign-in")
    page.context.add_init_script(LOCKS)  # a headless browser has no screen to keep on
    page.goto("/line/touch-6")
    eventually(lambda: page.evaluate("window.held.size === 1"))
    page.evaluate(SHOW, "hidden")
    page.evaluate("for (const lock of window.held) lock.release()")  # as the browser does when the page is hidden
    page.evaluate("window.isRefused = true")
    page.evaluate(SHOW, "visible")
    eventually(lambda: page.evaluate("window.asked === 2"))
    page.evaluate(SHOW, "hidden")
    page.evaluate("window.isRefused = false")
    page.evaluate(SHOW, "visible")
    eventually(lambda: page.evaluate("window.held.size === 1"))
    page.evaluate(SHOW, "visible")
    page.get_by_role("link", name="Products", exact=True).click()
    eventually(lambda: page.evaluate("window.held.size === 0"))
    assert page.evaluate("window.asked") == 3  # who has the lock does not ask for another
