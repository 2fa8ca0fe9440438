"""How soon the page at a line shows something: its first paint, and each verdict after its event.

Measured in the browser itself. A script that runs before those of the page notes when an event is handed to it, and
when the frame that shows the event's verdict has been drawn.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STATION = "bench"
WAIT_S = 60.0
POLL_S = 0.05
PAUSE_S = 0.2
"""Between two images, so that each has the page to itself."""
LOOK = {"width": 1920, "height": 1080}
PROBE = """
(() => {
  const seen = (window.gladSeen = { events: {}, shown: {}, pictures: {} });
  const drawn = (then) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = then;
    channel.port2.postMessage(null);
  });
  window.EventSource = class extends EventSource {
    addEventListener(name, listener, ...rest) {
      super.addEventListener(name, (message) => {
        if (name === "inspection.done") seen.events[JSON.parse(message.data).inspection_id] ??= performance.now();
        listener(message);
      }, ...rest);
    }
  };
  new MutationObserver(() => {
    const id = document.querySelector("[data-inspection]")?.dataset.inspection;
    if (!id || !(id in seen.events) || id in seen.shown) return;
    seen.shown[id] = null;
    drawn(() => { seen.shown[id] = performance.now(); });
  }).observe(document, { subtree: true, childList: true, attributeFilter: ["data-inspection"] });
  document.addEventListener("load", (event) => {
    const id = event.target.dataset?.picture;
    if (id) drawn(() => { seen.pictures[id] ??= performance.now(); });
  }, true);
})();
"""


class NotMeasured(Exception):
    """There is no browser to measure with, or the page shows no verdict; the message says what to do."""


@dataclass(frozen=True)
class ShownVerdict:
    """The milliseconds of one image's way to the screen."""

    after_event_ms: float
    """From the event in the browser until its verdict was drawn."""
    after_end_ms: float
    """From the end of the inspection, by Redis's clock on this machine, until its verdict was drawn."""
    picture_ms: float
    """From the event until the picture was drawn, which the service makes for the first one who asks."""


@dataclass(frozen=True)
class PageTimes:
    """What was measured of the page."""

    browser: str
    first_paint_ms: tuple[float, ...]
    """First contentful paint of a browser that has nothing of the page yet, each time anew."""
    again_ms: tuple[float, ...]
    """The same where the browser has its files, and asks whether they have changed."""
    verdicts: tuple[ShownVerdict, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON, with medians and the worst."""
        shown = {name: [getattr(one, name) for one in self.verdicts] for name in ShownVerdict.__dataclass_fields__}
        paints = {"first_paint_ms": list(self.first_paint_ms), "again_ms": list(self.again_ms)}
        summary = {name: {"median": median(of), "worst": max(of)} for name, of in (paints | shown).items()}
        return {"summary": summary, **asdict(self)}


def measure_page(
    url: str, product: str, images: Sequence[bytes], openings: int, progress: Callable[[int, int], None]
) -> PageTimes:
    """Open the page of a running service, and post images one after the other.

    Args:
        url: of the service.
        product: that the images are of.
        images: files, posted in turn.
        openings: how often the page is opened anew for its first paint.
        progress: is told each image.

    Raises:
        NotMeasured: without Playwright or a Chromium, or if a verdict does not appear.
    """
    with _chromium() as browser:
        paints = [_first_paints(browser, url) for _ in range(openings)]
        page = browser.new_page(viewport=LOOK)  # type: ignore[arg-type]
        page.add_init_script(PROBE)
        page.goto(f"{url}/line/{STATION}")
        _until(lambda: page.locator("main[data-live=true]").count() == 1, "the page does not follow the events")
        verdicts = []
        for number, image in enumerate(images, start=1):
            verdicts.append(_shown_verdict(page, url, product, image))
            progress(number, len(images))
            time.sleep(PAUSE_S)
        return PageTimes(
            browser=f"Chromium {browser.version}",
            first_paint_ms=tuple(first for first, _ in paints),
            again_ms=tuple(again for _, again in paints),
            verdicts=tuple(verdicts),
        )


@contextmanager
def _chromium() -> Iterator[Browser]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise NotMeasured(
            "the page is measured in a real browser, by Playwright, which is not installed: pip install playwright"
        ) from error
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        except Error as error:
            raise NotMeasured(
                "no Chromium starts: install one (apt-get install chromium, or playwright install chromium)"
            ) from error
        try:
            yield browser
        finally:
            browser.close()


def _first_paints(browser: Browser, url: str) -> tuple[float, float]:
    """Return the first contentful paint of a new browser, and of the same one again, in ms since the navigation."""
    context = browser.new_context(viewport=LOOK)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{url}/line/{STATION}")
    first = _paint(page)
    page.reload()
    again = _paint(page)
    context.close()
    return first, again


def _paint(page: Page) -> float:
    found: list[float] = []

    def is_painted() -> bool:
        found[:] = page.evaluate("performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)")
        return bool(found)

    _until(is_painted, "the page paints nothing")
    return found[0]


def _shown_verdict(page: Page, url: str, product: str, image: bytes) -> ShownVerdict:
    answer = httpx.post(
        f"{url}/v1/products/{product}/inspections",
        params={"station": STATION},
        content=image,
        headers={"Prefer": "wait=30"},
        timeout=WAIT_S,
    )
    answer.raise_for_status()
    inspection = answer.json()
    seen: dict[str, float | None] = {}

    def is_shown() -> bool:
        seen.update(
            page.evaluate(
                "(id) => ({event: gladSeen.events[id], shown: gladSeen.shown[id], picture: gladSeen.pictures[id],"
                " origin: performance.timeOrigin})",
                inspection["id"],
            )
        )
        return None not in (seen.get("shown"), seen.get("picture"))

    _until(is_shown, f"the verdict of inspection {inspection['id']} does not appear")
    event, shown, picture, origin = (float(seen[name] or 0) for name in ("event", "shown", "picture", "origin"))
    ended_ms = datetime.fromisoformat(inspection["finished_at"]).timestamp() * 1000
    return ShownVerdict(shown - event, origin + shown - ended_ms, picture - event)


def _until(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise NotMeasured(
                f"{failure}, after {WAIT_S:.0f} s: open the page in a browser, and look at the service's log"
            )
        time.sleep(POLL_S)
