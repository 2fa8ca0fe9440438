"""A person without a mouse: Tab to a control, keys on it; and where the focus goes on a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

MOST_WALKS = 10
MOST_KEYS = 300
"""Longer is no way: the control is not reached."""


@dataclass(frozen=True)
class Keyboard:
    """Does on a page what its keys do, and nothing else."""

    page: Page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, control: Locator) -> None:
        """Tab, or Shift and Tab, until the control has the focus."""
        expect(control).to_be_visible()
        expect(control).to_be_enabled()
        for _ in range(MOST_KEYS):
            way = control.evaluate(WAY)
            if way == "here":
                return
            self.press(way)
        raise AssertionError(f"Tab does not reach {control}")

    def use(self, control: Locator, key: str = "Enter") -> None:
        """Goes to a button or a link and presses it."""
        self.go_to(control)
        self.press(key)

    def write(self, field: Locator, text: str) -> None:
        """Replaces what stands in a field."""
        self.go_to(field)
        self.press("ControlOrMeta+a", "Delete")
        self.page.keyboard.type(text)

    def choose(self, choice: Locator, option: str) -> None:
        """By the arrows, one option after the other; the last one is not above the first."""
        self.go_to(choice)
        self.press("Home")
        for _ in range(MOST_KEYS):
            chosen = choice.locator("option:checked")
            if chosen.inner_text() == option:
                return
            place = chosen.evaluate("one => one.index")
            self.press("ArrowDown")
            expect(choice).to_have_js_property("selectedIndex", place + 1)
        raise AssertionError(f"there is no option {option}")

    def answer(self, action: str, person: str | None = None) -> None:
        """Agrees to the question that is open, and says who decides if the page does not know it yet."""
        dialog = self.page.get_by_role("dialog")
        self.use(dialog.get_by_role("button", name=action, exact=True))
        if person is not None:
            expect(self.page.get_by_label("Your name or badge number")).to_be_focused()
            self.page.keyboard.type(person)
            self.press("Enter")
        expect(dialog).to_have_count(0)


def button(place: Page | Locator, name: str) -> Locator:
    """The button of just this name."""
    return place.get_by_role("button", name=name, exact=True)


WAY = """(one) => {
  const here = document.activeElement;
  if (here === one) return "here";
  return here.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_PRECEDING ? "Shift+Tab" : "Tab";
}"""


@dataclass(frozen=True)
class Walk:
    """What Tab reached on a page."""

    reached: list[str]
    """The controls in the order in which they had the focus."""
    expected: list[str]
    """All that are seen, in the order of the document."""
    nameless: list[str]
    unmarked: list[str]
    """Those that look the same with the focus as without."""
    came_round: bool
    is_back: bool


def walk(page: Page, *, is_back: bool = False) -> Walk:
    """Presses Tab, or back with Shift, until it comes round. Fields of a time take several.

    A page may still get controls meanwhile, as the line does once its picture is there: then it begins anew.
    """
    key = "Shift+Tab" if is_back else "Tab"
    for _ in range(MOST_WALKS):
        count = page.evaluate(START)
        for _ in range(count):
            page.keyboard.press(key)
        for _ in range(MOST_KEYS):
            if page.evaluate("walk.isRound()"):
                break
            page.keyboard.press(key)
        if page.evaluate("walk.isOfAllControls()"):
            break
    found: Mapping[str, Any] = page.evaluate("walk.found()")
    return Walk(**found, is_back=is_back)


def flaws(way: Walk) -> list[str]:
    """What is wrong with a way of Tab over a page."""
    expected = way.expected[::-1] if way.is_back else way.expected
    begin = expected.index(way.reached[0])
    wrong = [f"without a name: {one}" for one in way.nameless]
    if not way.is_back:  # backwards the button inside of a field of a time has the focus first, with a mark of its own
        wrong += [f"the focus is not seen: {one}" for one in way.unmarked]
    if not way.came_round:
        wrong.append(f"a trap: {way.reached[-1]}")
    if way.reached != expected[begin:] + expected[:begin]:
        wrong.append(f"order: {way.reached}, not {expected}")
    return wrong


START = """() => {
  const controls = "a[href], button, input, select, textarea, summary, [tabindex]";
  const isSeen = (one) => one.checkVisibility({ visibilityProperty: true });
  const all = () => [...document.querySelectorAll(controls)].filter(
    (one) => one.tabIndex >= 0 && !one.disabled && isSeen(one));
  const expected = all();
  const styles = (one) => [one, ...(one instanceof SVGElement ? one.querySelectorAll("*") : [])].map((part) => {
    const { outlineStyle, outlineWidth, outlineColor, boxShadow, stroke, strokeWidth } = getComputedStyle(part);
    return [outlineStyle, outlineStyle === "none" || [outlineWidth, outlineColor], boxShadow, stroke, strokeWidth];
  });
  const look = (one) => JSON.stringify(styles(one));
  const nameOf = (one) => (one.ariaLabel || [...(one.labels ?? [])].map((label) => label.innerText).join()
    || one.textContent || one.querySelector("img")?.alt || "").trim().replace(/\\s+/g, " ");
  const say = (one) => `${one.tagName.toLowerCase()} ${nameOf(one)}`;
  document.activeElement.blur();
  const plain = new Map(expected.map((one) => [one, look(one)]));
  const reached = [], unmarked = [];
  document.addEventListener("focusin", ({ target }) => {
    reached.push(target);
    if (plain.has(target) && look(target) === plain.get(target)) unmarked.push(say(target));
  });
  window.walk = {
    isRound: () => reached.length > 1 && reached.at(-1) === reached[0],
    isOfAllControls: () => {
      const now = all();
      return now.length === expected.length && now.every((one, place) => one === expected[place]);
    },
    found: () => ({
      reached: [...new Set(reached)].map(say),
      expected: expected.map(say),
      nameless: expected.filter((one) => !nameOf(one)).map(say),
      unmarked,
      came_round: window.walk.isRound(),
    }),
  };
  return expected.length;
}"""
