"""The page at a line: live, legible, honest about what it does not know, and the same after a week."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from PIL import Image
from playwright.sync_api import CDPSession, Locator, Page, expect

from service.contract import Event, Thresholds, Verdict, new_inspection_id, now, rfc3339
from service.queue import keys
from service.queue.connection import connect
from tests.support.browser import EmbeddedService, part, serious_findings
from tests.support.processes import eventually

Opener = Callable[..., Page]
DEFECT = "missing_screw"
HOSTILE = """<img src=x onerror="alert(1)"><script>alert(2)</script>"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.fixture
def events(service: EmbeddedService) -> Iterator[redis.Redis]:
    """The stream of the service, for events that a test writes itself."""
    with connect(service.redis_url) as client:
        yield client


def write_event(client: redis.Redis, station: str, inspection_id: str | None = None, **fields: Any) -> str:
    """Writes an event as a worker does; the inspection need not exist."""
    given: dict[str, Any] = {
        "type": "inspection.done",
        "inspection_id": inspection_id or new_inspection_id(),
        "product": "bracket",
        "station": station,
        "verdict": Verdict.PASS,
        "score": 1.0,
        "calibrated_score": 1.0 / 3.0,
        "thresholds": Thresholds(review=1.5, fail=2.0, pixel=2.0),
        "accepted_at": now(),
        "at": now(),
    }
    event = Event.model_validate(given | fields)
    text = event.model_dump_json(exclude_none=True)
    client.xadd(keys.EVENTS, {"id": str(event.inspection_id), "event": text})
    return str(event.inspection_id)


def live(open_page: Opener, station: str, **options: Any) -> Page:
    """A station's page that follows the events."""
    page = open_page(f"/line/{station}", **options)
    expect(page.locator("main.line[data-live=true]")).to_be_visible()
    return page


def shown(page: Page, inspection_id: str) -> None:
    expect(page.locator(f".line-verdict[data-inspection='{inspection_id}']")).to_be_visible()


def dark(image: bytes) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(image)))
    target = io.BytesIO()
    Image.fromarray((pixels * 0.1).astype(np.uint8)).save(target, "PNG")
    return target.getvalue()


def test_a_verdict_comes_by_itself_with_its_reason_score_and_part(open_page: Opener, service: EmbeddedService) -> None:
    page = live(open_page, "live-1")
    expect(page.get_by_text("Waiting for parts")).to_be_visible()
    found = service.post(part(301, DEFECT), station="live-1", serial="SN-301", lot="L-7")
    shown(page, found["id"])
    expect(page.locator(".big-word")).to_have_text("FAIL")
    facts = page.locator(".line-facts")
    expect(facts).to_contain_text(f"The score {found['score']:.3f} is above the fail limit")
    for text in ("SN-301", "live-1", "L-7", "bracket", str(found["denoising_step"])):
        expect(facts).to_contain_text(text)
    expect(page.get_by_role("img", name="Score")).to_be_visible()
    expect(page.locator(".strip button")).to_have_count(1)


def test_a_fail_shows_heat_regions_and_the_hottest_place_and_a_pass_nothing(
    open_page: Opener, service: EmbeddedService
) -> None:
    failed = service.post(part(302, DEFECT), station="live-2", serial="A")
    page = live(open_page, "live-2")
    shown(page, failed["id"])
    expect(page.locator(".outline-region")).to_have_count(len(failed["regions"]))
    expect(page.get_by_role("img", name="Hottest place")).to_be_visible()
    expect(page.locator(".viewer-heat")).to_be_visible()
    passed = service.post(part(303), station="live-2", serial="B")
    shown(page, passed["id"])
    expect(page.locator(".big-word")).to_have_text("PASS")
    expect(page.locator(".viewer-heat")).to_be_visible()  # of a good part it is clear, at the fixed scale
    expect(page.locator(".viewer-outline, .viewer-hottest")).to_have_count(0)


def test_a_part_on_review_has_its_hottest_place_marked_also_where_no_region_is(
    open_page: Opener, service: EmbeddedService
) -> None:
    settings = {"product": "bracket", "hold": "lens is dirty"}
    httpx.put(f"{service.url}/v1/stations/live-3", json=settings).raise_for_status()
    found = service.post(part(304), station="live-3", serial="C")
    assert (found["verdict"], found["regions"]) == ("review", [])
    page = live(open_page, "live-3")
    expect(page.get_by_role("img", name="Hottest place")).to_be_visible()


def test_a_station_that_is_held_says_so_at_once_until_it_is_released(
    open_page: Opener, service: EmbeddedService
) -> None:
    station = f"{service.url}/v1/stations/live-4"
    httpx.put(station, json={"product": "bracket"}).raise_for_status()
    page = live(open_page, "live-4")
    expect(page.get_by_role("button", name="Hold the station")).to_be_visible()
    httpx.put(f"{station}/hold", json={"reason": "lens is dirty"}).raise_for_status()
    expect(page.locator("main.is-held")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="On hold")).to_contain_text("lens is dirty")
    shown(page, service.post(part(304), station="live-4", serial="D")["id"])
    expect(page.locator(".big-word")).to_have_text("REVIEW")
    expect(page.locator(".line-facts")).to_contain_text("The station is on hold: lens is dirty")
    assert serious_findings(page) == []
    httpx.delete(f"{station}/hold").raise_for_status()
    expect(page.locator("main.is-held")).to_have_count(0)
    shown(page, service.post(part(304), station="live-4", serial="E")["id"])
    expect(page.locator(".big-word")).to_have_text("PASS")


def test_the_line_says_what_the_last_check_by_limit_samples_said(open_page: Opener, service: EmbeddedService) -> None:
    station = f"{service.url}/v1/stations/live-22"
    httpx.put(station, json={"product": "bracket"}).raise_for_status()
    samples = {"samples": [{"serial": "LIVE-GOOD", "expected": "good"}]}
    httpx.put(f"{station}/limit-samples", json=samples).raise_for_status()
    page = live(open_page, "live-22")
    link = page.get_by_role("link", name="Limit samples")
    expect(link).to_have_text("Limit samples: no check yet")
    httpx.post(f"{station}/limit-samples/check").raise_for_status()
    service.post(part(302, DEFECT), station="live-22", serial="LIVE-GOOD")
    expect(link).to_contain_text("Limit samples: Not passed")
    expect(page.get_by_role("status").filter(has_text="On hold")).to_be_visible()
    assert serious_findings(page) == []
    httpx.post(f"{station}/limit-samples/check").raise_for_status()
    service.post(part(303), station="live-22", serial="LIVE-GOOD")
    expect(link).to_contain_text("Limit samples: Passed")


def test_an_unfit_image_says_what_is_wrong_with_it(open_page: Opener, service: EmbeddedService) -> None:
    page = live(open_page, "live-5")
    shown(page, service.post(dark(part(303)), station="live-5", serial="E")["id"])
    expect(page.locator(".line-facts")).to_contain_text("Not inspected, the image is too dark")


def test_no_result_is_never_shown_as_pass(open_page: Opener, events: redis.Redis) -> None:
    page = live(open_page, "live-6", allow_errors=True)  # such an inspection is not there
    failed = {"type": "inspection.failed", "verdict": None, "score": None, "calibrated_score": None, "thresholds": None}
    error = {"code": "model_error", "detail": "the model gave up"}
    shown(page, write_event(events, "live-6", error=error, **failed))
    expect(page.locator(".big-word")).to_have_text("NO VERDICT")
    expect(page.locator(".line-facts")).to_contain_text("There is no result: A fault in the model")


def test_a_decision_that_is_withdrawn_goes_from_the_line_as_it_came(
    open_page: Opener, service: EmbeddedService
) -> None:
    found = service.post(part(302, DEFECT), station="live-23", serial="W")
    review = f"{service.url}/v1/inspections/{found['id']}/review"
    page = live(open_page, "live-23")
    facts = page.locator(".line-facts")
    for by, decision in (("A. Meier", "ok"), ("B. Wolf", "defect")):
        httpx.post(review, json={"decision": decision, "by": by}).raise_for_status()
        expect(facts).to_contain_text(by)
    httpx.delete(review, params={"by": "B. Wolf"}).raise_for_status()
    expect(facts).to_contain_text("A. Meier")  # whose decision counts again
    expect(facts).not_to_contain_text("B. Wolf")
    httpx.delete(review, params={"by": "A. Meier"}).raise_for_status()
    expect(facts).not_to_contain_text("A. Meier")


def test_a_hostile_serial_is_text(open_page: Opener, service: EmbeddedService) -> None:
    page = live(open_page, "live-7")
    shown(page, service.post(part(303), station="live-7", serial=HOSTILE, lot=HOSTILE)["id"])
    expect(page.get_by_text(HOSTILE)).to_have_count(2)
    expect(page.locator("img[src='x']")).to_have_count(0)


def test_an_earlier_part_is_pinned_by_keys_and_given_up_by_escape(open_page: Opener, service: EmbeddedService) -> None:
    first = service.post(part(303), station="live-8", serial="FIRST")
    second = service.post(part(304), station="live-8", serial="SECOND")
    page = live(open_page, "live-8")
    shown(page, second["id"])
    page.keyboard.press("ArrowRight")
    shown(page, first["id"])
    expect(page.get_by_text("You look at an earlier part.")).to_be_visible()
    third = service.post(part(305), station="live-8", serial="THIRD")
    expect(page.locator(".strip button")).to_have_count(3)
    shown(page, first["id"])
    page.keyboard.press("Escape")
    shown(page, third["id"])


def test_the_picture_is_zoomed_by_keyboard_and_wheel_and_moved(open_page: Opener, service: EmbeddedService) -> None:
    service.post(part(303), station="live-9", serial="Z")
    page = live(open_page, "live-9")
    whole = page.get_by_role("button", name="Show all of it")
    expect(whole).to_have_text("100%")
    page.get_by_role("group", name="Picture").focus()
    page.keyboard.press("+")
    expect(whole).to_have_text("125%")
    before = page.locator(".viewer-plane").evaluate("one => one.style.transform")
    page.keyboard.press("ArrowRight")
    eventually(lambda: page.locator(".viewer-plane").evaluate("one => one.style.transform") != before)
    page.keyboard.press("0")
    expect(whole).to_have_text("100%")
    page.locator(".viewer-stage").hover()
    page.mouse.wheel(0, -100)
    expect(whole).to_have_text("125%")


def test_the_reconstruction_is_asked_for_until_it_is_drawn(open_page: Opener, service: EmbeddedService) -> None:
    service.post(part(306), station="live-10", serial="R")
    page = live(open_page, "live-10")
    expect(page.get_by_label("Reconstruction")).to_be_enabled()
    with page.expect_response(lambda one: one.url.endswith("reconstruction.png") and one.status == 202):
        page.get_by_label("Reconstruction").fill("50")
    expect(page.locator("img.viewer-layer[style*='clip-path']")).to_be_visible()
    expect(page.locator(".viewer-status")).to_be_hidden()


def test_a_tiff_of_16_bits_is_shown(open_page: Opener, service: EmbeddedService) -> None:
    grey = np.asarray(Image.open(io.BytesIO(part(303))).convert("L")).astype(np.uint16) * 257
    target = io.BytesIO()
    Image.fromarray(grey).save(target, "TIFF")
    page = live(open_page, "live-11")
    shown(page, service.post(target.getvalue(), station="live-11", serial="T")["id"])
    picture = page.get_by_role("img", name="Picture of part T")
    assert picture.evaluate("async (one) => { await one.decode(); return one.naturalWidth; }") == grey.shape[1]


COUNTED = """
window.tones = 0;
const Real = OscillatorNode;
window.OscillatorNode = class extends Real { constructor(...given) { super(...given); window.tones += 1; } };
"""


def test_a_fail_sounds_only_where_somebody_turned_the_sound_on(open_page: Opener, events: redis.Redis) -> None:
    page = live(open_page, "live-12", allow_errors=True)
    page.context.add_init_script(COUNTED)
    page.reload()
    expect(page.locator("main.line[data-live=true]")).to_be_visible()
    fail: dict[str, Any] = {"verdict": Verdict.FAIL, "score": 3.0, "calibrated_score": 0.6}
    shown(page, write_event(events, "live-12", **fail))
    assert page.evaluate("window.tones") == 0
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Sound on")).to_be_visible()
    eventually(lambda: page.evaluate("window.tones") > 0)  # it is heard once, so that one knows how loud it is
    before = page.evaluate("window.tones")
    shown(page, write_event(events, "live-12"))
    assert page.evaluate("window.tones") == before
    shown(page, write_event(events, "live-12", **fail))
    eventually(lambda: page.evaluate("window.tones") > before)
    page.reload()
    expect(page.get_by_role("button", name="Sound on")).to_be_visible()
    expect(page.locator("main.line[data-live=true]")).to_be_visible()
    shown(page, write_event(events, "live-12", **fail))


def test_a_fail_that_comes_after_the_takt_sounds_too(open_page: Opener, events: redis.Redis) -> None:
    page = live(open_page, "live-21", allow_errors=True)
    page.context.add_init_script(COUNTED)
    page.reload()
    expect(page.locator("main.line[data-live=true]")).to_be_visible()
    page.keyboard.press("s")
    eventually(lambda: page.evaluate("window.tones") > 0)
    before = page.evaluate("window.tones")
    event: dict[str, Any] = {"type": "inspection.overtime", "inspection_id": new_inspection_id(), "product": "bracket"}
    event |= {"station": "live-21", "verdict": "review", "overtime": True, "at": rfc3339(now())}
    events.xadd(keys.EVENTS, {"id": event["inspection_id"], "event": json.dumps(event)})
    expect(page.locator(".line-facts")).to_contain_text("there is no verdict yet")
    assert page.evaluate("window.tones") == before
    write_event(events, "live-21", inspection_id=event["inspection_id"], verdict=Verdict.FAIL, score=3.0)
    expect(page.locator(".big-word")).to_have_text("FAIL")
    eventually(lambda: page.evaluate("window.tones") > before)


def test_a_part_over_its_takt_is_on_review_until_its_verdict_comes_and_after(
    open_page: Opener, events: redis.Redis
) -> None:
    page = live(open_page, "live-13", allow_errors=True)
    event: dict[str, Any] = {"type": "inspection.overtime", "inspection_id": new_inspection_id(), "product": "bracket"}
    event |= {"station": "live-13", "verdict": "review", "overtime": True, "at": rfc3339(now())}
    events.xadd(keys.EVENTS, {"id": event["inspection_id"], "event": json.dumps(event)})
    shown(page, event["inspection_id"])
    expect(page.locator(".big-word")).to_have_text("REVIEW")
    expect(page.locator(".line-facts")).to_contain_text("there is no verdict yet")
    write_event(events, "live-13", inspection_id=event["inspection_id"], verdict=Verdict.REVIEW)
    expect(page.locator(".line-facts")).to_contain_text("after the takt was over")
    expect(page.locator(".strip button")).to_have_count(1)


def test_without_the_service_it_says_since_when_and_catches_up_by_itself(
    open_page: Opener, service: EmbeddedService
) -> None:
    before = service.post(part(303), station="live-14", serial="BEFORE")
    page = live(open_page, "live-14", allow_errors=True, breakable=True)
    shown(page, before["id"])
    page.route("**/v1/events?**", lambda route: route.abort())  # it stays away for as long as one looks
    service.kill_api()
    expect(page.get_by_role("alert").filter(has_text="Not live since")).to_be_visible()
    expect(page.locator(".big-word")).to_have_count(0)
    expect(page.locator(".line-facts")).to_contain_text("Last verdict: PASS")
    page.unroute("**/v1/events?**")
    service.wait_until_ready()
    missed = service.post(part(304), station="live-14", serial="MISSED")
    shown(page, missed["id"])
    expect(page.locator(".strip button")).to_have_count(2)


FROM_THE_BEGINNING = """
window.EventSource = class extends EventSource {
  constructor(url) { super(url.replace("/v1/events?", "/v1/events?after=1-0&")); }
};
"""
"""A page that was cut off so long ago that the events since are not kept: the service answers with `reset`."""


HISTORIES_READ = """
performance.getEntriesByType("resource").filter((one) => one.name.includes("/v1/inspections?")).length
"""


def test_events_that_are_no_longer_kept_come_from_the_history(
    open_page: Opener, service: EmbeddedService, events: redis.Redis
) -> None:
    found = service.post(part(303), station="live-15", serial="OLD")
    events.xtrim(keys.EVENTS, maxlen=0, approximate=False)
    page = open_page("/sign-in")
    page.context.add_init_script(FROM_THE_BEGINNING)
    page.goto("/line/live-15")
    shown(page, found["id"])
    expect(page.locator("main.line[data-live=true]")).to_be_visible()
    # At the start, once it is live, and at the reset; once more if it was cut off meanwhile.
    eventually(lambda: page.evaluate(HISTORIES_READ) >= 3)
    expect(page.locator(".strip button")).to_have_count(1)


MERGED = """
async () => {
  const { withEvent, withHistory } = await import("/page/app/lib/line_log.js");
  const part = { product: "bracket", verdict: "fail", at: "2026-11-30T08:00:00.000Z" };
  const review = { decision: "ok", by: "A. Meier", at: "2026-11-30T08:01:00.000Z" };
  const withdrawn = { ...review, withdrawn_at: "2026-11-30T08:02:00.000Z" };
  const ended = withEvent([], "inspection.done", { ...part, inspection_id: "a" });
  const after = (entries, type, review) => withEvent(entries, type, { inspection_id: "a", review });
  const history = (...reviews) => [{ ...part, id: "a", finished_at: part.at, reviews }];
  const reviewed = after(ended, "inspection.reviewed", review);
  const open = after(reviewed, "inspection.review_withdrawn", withdrawn);
  const late = withEvent([], "inspection.overtime", { ...part, verdict: "review", inspection_id: "a" });
  const shown = [
    withHistory(ended, history(review)), withHistory(reviewed, history(withdrawn)), withHistory(open, history(review)),
    after(open, "inspection.reviewed", review), withHistory(reviewed, history()),
  ].map(([one]) => one.review?.by ?? null);
  return [shown, withHistory(late, history())[0].verdict];
}
"""


def test_the_history_makes_up_for_events_that_were_missed_and_undoes_none(open_page: Opener) -> None:
    """What the line knows by events, and a history that is newer or older: the later news of both counts."""
    shown, verdict = open_page("/sign-in").evaluate(MERGED)
    assert shown == ["A. Meier", None, None, None, "A. Meier"]
    assert verdict == "fail"  # what was said while it was late is replaced


def garbage_collected(session: CDPSession) -> dict[str, float]:
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return {one["name"]: one["value"] for one in metrics}


def test_a_thousand_parts_leave_no_more_behind_than_two_hundred(open_page: Opener, events: redis.Redis) -> None:
    page = live(open_page, "live-16", allow_errors=True)  # pictures of such parts are not there
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def run(count: int) -> dict[str, float]:
        for number in range(count):
            last = write_event(events, "live-16", serial=f"S-{number:05d}", at=now())
            if number % 100 == 99:
                shown(page, last)
        expect(page.locator(".strip button")).to_have_count(50)
        expect(page.locator(".thumb img")).to_have_count(50, timeout=60_000)
        return garbage_collected(session)

    first, then = run(200), run(1000)
    assert then["Nodes"] <= first["Nodes"] + 50
    assert then["JSEventListeners"] <= first["JSEventListeners"] + 5
    assert then["JSHeapUsedSize"] <= first["JSHeapUsedSize"] * 1.1 + 200_000


def test_specks_that_lie_together_are_one_mark_and_others_stay_apart(open_page: Opener) -> None:
    page = open_page("/line/live-17")
    specks = [{"box": [x, 10, 3, 3], "area_px": 9, "peak": 2.0 + x / 1000} for x in (10, 20, 30, 400)]
    large = {"box": [200, 200, 40, 40], "area_px": 1600, "peak": 2.5}
    given = {"width": 512, "height": 512, "verdict": "fail", "regions": [*specks, large], "hottest": None}
    marks = """async (given) => {
      const { regionMarks, hottestPlace } = await import("/page/app/lib/marks.js");
      return [regionMarks(given), hottestPlace(given), hottestPlace({ ...given, verdict: "pass" })];
    }"""
    found, hottest, of_a_pass = page.evaluate(marks, given)
    assert [(one["box"], one["specks"]) for one in found] == [
        ([200, 200, 40, 40], 0),
        ([400, 10, 3, 3], 1),
        ([10, 10, 23, 3], 3),
    ]
    assert (hottest, of_a_pass) == ({"x": 220, "y": 220}, None)  # the middle of the region with the highest peak


@pytest.mark.parametrize("look", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_the_page_is_accessible_and_fits_the_screen(
    open_page: Opener, service: EmbeddedService, look: dict[str, Any]
) -> None:
    found = service.post(part(302, DEFECT), station="live-18", serial="A")
    page = live(open_page, "live-18", **look)
    shown(page, found["id"])
    expect(page.locator(".viewer-heat")).to_be_visible()
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_under_forced_colours_what_is_chosen_differs_also_while_it_has_the_focus(
    open_page: Opener, service: EmbeddedService
) -> None:
    for seed in (306, 307, 308):
        newest = service.post(part(seed), station="live-20")
    page = live(open_page, "live-20", forced_colors="active")
    shown(page, newest["id"])
    thumbs, sound = page.locator(".strip button"), page.get_by_role("button", name="Sound")
    expect(thumbs).to_have_count(3)
    plain = look_of(thumbs.nth(2))
    assert look_of(thumbs.nth(0)) != plain  # the one that is shown
    for button in (thumbs.nth(1), sound):
        button.focus()
        before = look_of(button)
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "true")
        chosen = look_of(button)
        assert chosen != before
        assert (chosen["outlineStyle"], chosen["outlineWidth"]) == ("solid", "3px")  # the mark of the focus
    assert look_of(thumbs.nth(1)) != plain


def look_of(button: Locator) -> dict[str, str]:
    """What forced colours leave of its looks: they take shadows away."""
    return dict(button.evaluate(LOOK))


LOOK = """(one) => {
  const style = getComputedStyle(one);
  const names = ["backgroundColor", "color", "borderTop", "outlineStyle", "outlineWidth"];
  return Object.fromEntries(names.map((name) => [name, style[name]]));
}"""


def test_all_stations_are_on_one_page_and_one_is_chosen(open_page: Opener, service: EmbeddedService) -> None:
    name = "live/19"
    found = service.post(part(303), station=name, serial="CHOSEN")
    page = open_page("/")
    shown(page, found["id"])
    page.get_by_role("combobox", name="Station").select_option(name)
    expect(page).to_have_url(f"{service.url}/line/live%2F19")
    shown(page, found["id"])
    expect(page.locator(".strip button")).to_have_count(1)


def test_a_thumb_is_pinned_by_touch(open_page: Opener, service: EmbeddedService) -> None:
    first = service.post(part(303), station="live-20", serial="FIRST")
    service.post(part(304), station="live-20", serial="SECOND")
    page = live(open_page, "live-20", **PHONE)
    page.get_by_role("button", name="FIRST").tap()
    shown(page, first["id"])
    page.get_by_role("button", name="Back to live").tap()
    expect(page.get_by_text("You look at an earlier part.")).to_have_count(0)
