"""Without a mouse: versions, limits and stations are changed by keys, and put back."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from model_store.store import SHIPPED_BUNDLES, Store
from tests.support.browser import EmbeddedService
from tests.support.bundles import new_version
from tests.support.evaluations import measured_quality
from tests.support.keyboard import Keyboard, button
from tests.support.processes import eventually

Opener = Callable[..., Page]
PRODUCT, STATION = "by-keys", "0-unknown"
"""Of this file; the station is one that nobody has set up."""


@pytest.fixture(scope="module")
def product(service: EmbeddedService, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two versions of the shipped product under another name, the first of which has figures of its own."""
    folder, store = tmp_path_factory.mktemp("bundles"), Store(service.data / "store")
    for version in ("1", "2"):
        store.publish(
            new_version(next(SHIPPED_BUNDLES.glob("bracket/[0-9]*")), folder / PRODUCT / version, quality={}).path
        )
    url = f"{service.url}/v1/products/{PRODUCT}"
    hash_ = httpx.get(url).json()["active"]["hash"]
    record = measured_quality(hash_).model_dump(mode="json", exclude_none=True) | {"by": "test"}
    httpx.post(f"{url}/versions/1/evaluations", json=record).raise_for_status()
    return PRODUCT


def test_versions_are_changed_and_limits_moved_typed_applied_and_undone(
    service: EmbeddedService, open_page: Opener, product: str
) -> None:
    page = open_page("/products")
    keyboard = Keyboard(page)
    keyboard.use(page.get_by_role("link", name=product, exact=True))
    keyboard.use(page.get_by_role("link", name="Show its limits"))
    expect(page.get_by_text("Below are the limits of version 2.")).to_be_visible()
    keyboard.use(page.get_by_role("button", name="Use version 2"))
    keyboard.answer("Use version 2", "Q. Engineer")
    expect(page.get_by_role("button", name="Use version 1")).to_be_visible()
    keyboard.use(page.get_by_role("button", name="Go back to the version before"))
    keyboard.answer("Go back to the version before")
    expect(page.get_by_role("button", name="Use version 2")).to_be_visible()
    assert service.get(f"/v1/products/{product}")["active"]["version"] == "1"

    keyboard.use(page.get_by_text("How it was measured"))
    keyboard.use(button(page, "Remove these figures"))
    keyboard.answer("Remove these figures")
    put_back = page.get_by_role("status").get_by_role("button", name="Undo")
    keyboard.use(put_back)
    expect(put_back).to_have_count(0)
    expect(page.get_by_text("How it was measured")).to_be_visible()

    page.goto(f"/products/{product}")
    thresholds, line = page.get_by_role("region", name="Thresholds"), page.get_by_role("slider", name="FAIL from")
    fail = thresholds.get_by_role("spinbutton", name="FAIL from")
    keyboard.go_to(line)
    calibrated = float(fail.input_value())
    keyboard.press("Shift+ArrowRight", "PageUp")
    expect(fail).not_to_have_value(str(calibrated))
    keyboard.use(button(thresholds, "Discard"))
    expect(fail).to_have_value(str(calibrated))
    keyboard.write(fail, "2.0505")
    expect(fail).to_have_value("2.0505")
    keyboard.write(thresholds.get_by_label("Why"), "new lamp")
    keyboard.use(button(thresholds, "Apply"))
    keyboard.answer("Apply")
    changes = page.get_by_role("region", name="Changes")
    expect(changes.get_by_text("2.05").first).to_be_visible()
    assert service.get(f"/v1/products/{product}")["active"]["thresholds"]["fail"] == 2.0505
    keyboard.use(button(thresholds, "Back to calibrated"))
    keyboard.answer("Apply")
    expect(fail).to_have_value(str(calibrated))
    keyboard.use(changes.get_by_role("button", name="Undo").first)
    keyboard.answer("Undo")
    expect(fail).to_have_value("2.0505")


def test_limits_of_the_gate_are_switched_typed_and_put_back(
    service: EmbeddedService, open_page: Opener, product: str
) -> None:
    page = open_page(f"/products/{product}")
    keyboard, gate = Keyboard(page), page.get_by_role("region", name="Quality gate")
    keyboard.use(button(gate, "Switch it off"))
    keyboard.answer("Switch it off", "Q. Engineer")
    keyboard.use(button(gate, "Switch it on"))
    keyboard.answer("Switch it on")
    expect(button(gate, "Switch it off")).to_be_visible()
    keyboard.write(gate.get_by_role("spinbutton", name="Least brightness"), "60.05")
    keyboard.use(gate.get_by_role("checkbox", name="Least likeness"), "Space")
    keyboard.use(button(gate, "Apply limits"))
    keyboard.answer("Apply")
    expect(button(gate, "Back to learned")).to_be_enabled()
    limits = service.get(f"/v1/products/{product}/gate")["limits"]
    assert (limits["darkest"], limits["likeness"]) == (60.05, None)
    keyboard.use(button(gate, "Back to learned"))
    keyboard.answer("Apply")
    expect(button(gate, "Back to learned")).to_be_disabled()


def test_a_station_is_set_up_checked_by_limit_samples_changed_and_removed(
    service: EmbeddedService, open_page: Opener
) -> None:
    page = open_page(f"/line/{STATION}", allow_errors=True)  # what is read of a station that is removed
    keyboard = Keyboard(page)
    keyboard.use(button(page, "Set up the station"))
    keyboard.choose(page.get_by_role("dialog").get_by_label("Product that it inspects"), "bracket")
    keyboard.answer("Set up the station", "A. Meier")
    expect(button(page, "Hold the station")).to_be_visible()
    keyboard.use(page.get_by_role("link", name="Limit samples"))

    keyboard.use(button(page, "Change the samples"))
    serials = page.get_by_role("textbox", name="Serial")
    expect(serials.first).to_be_focused()
    page.keyboard.type("known-bad")
    keyboard.use(button(page, "Add a sample"))
    expect(serials.last).to_be_focused()
    page.keyboard.type("known-good")
    keyboard.choose(page.get_by_label("Known to be").last, "good: must PASS")
    keyboard.use(button(page, "Add a sample"))
    page.keyboard.type("a mistake")
    keyboard.use(button(page, "Remove a mistake"))
    keyboard.write(page.get_by_role("textbox", name="Note").last, "from the shelf")
    keyboard.press("Enter")
    keyboard.answer("Save the samples")
    edit = button(page, "Change the samples")
    expect(edit).to_be_visible()
    samples = service.get(f"/v1/stations/{STATION}/limit-samples")["samples"]
    assert [(one["serial"], one["expected"], one["note"]) for one in samples] == [
        ("known-bad", "bad", None),
        ("known-good", "good", "from the shelf"),
    ]
    keyboard.use(button(page, "Start a check"))
    keyboard.answer("Start a check")
    keyboard.use(button(page, "Cancel the check"))
    keyboard.answer("Cancel the check")
    expect(page.get_by_text("It was cancelled by A. Meier.")).to_be_visible()
    keyboard.use(edit)
    keyboard.use(button(page, "Remove known-bad"))
    keyboard.use(button(page, "Save the samples"))
    keyboard.answer("Save the samples")
    keyboard.use(button(page, "Restore").first)
    keyboard.answer("Save the samples")
    eventually(lambda: service.get(f"/v1/stations/{STATION}/limit-samples")["samples"] == samples)

    settings = page.get_by_role("region", name="Station")
    keyboard.use(button(settings, "Change product and takt"))
    keyboard.write(page.get_by_label("Takt in milliseconds"), "800")
    keyboard.press("Enter")
    expect(settings).to_contain_text("takt 800 ms")
    keyboard.use(button(settings, "Restore").last)
    keyboard.answer("Restore")
    expect(settings.get_by_role("paragraph").first).to_contain_text("no takt")
    keyboard.use(button(settings, "Remove the station"))
    keyboard.answer("Remove the station")
    expect(page.get_by_text(f"Station {STATION} is not set up yet.")).to_be_visible()
    keyboard.use(page.get_by_role("link", name="To the line"))
    expect(page).to_have_url(re.compile(f"/line/{STATION}$"))
