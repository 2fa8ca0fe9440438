"""Products on the page: versions, thresholds on the histogram of scores, the gate, changes and their way back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from glad.quality_gate.limits import GateMeasures, QualityGate, check_limits
from model_store.bundle import open_bundle, write_bundle
from model_store.store import SHIPPED_BUNDLES, BundleRef, Store
from service.contract import PinnedThresholds, Result, Timings, done_result, quality_from_reasons, unfit_result
from service.queue.claims import ClaimedJob
from service.queue.connection import connect, connect_async
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from service.storage.artifacts import ArtifactStore
from tests.support.browser import EmbeddedService, serious_findings
from tests.support.bundles import new_version, parts_of
from tests.support.evaluations import measured_quality
from tests.support.line import findings, make_job, picture
from tests.support.processes import eventually

Opener = Callable[..., Page]
PRODUCT, POOL = "tuned", "tuned"
URL = f"/v1/products/{PRODUCT}"
# The shipped bundle's thresholds are 1.637 and 1.794. The last one is a long tail.
SCORES = (*(1.40 + 0.005 * number for number in range(30)), 1.70, 1.75, 1.85, 1.88, 2.4, 9.0)
FIT = GateMeasures(brightness=118, black_share=0.002, white_share=0.004, sharpness=0.135, likeness=0.95)
DARK = GateMeasures(brightness=70, black_share=0.01, white_share=0.0, sharpness=0.135, likeness=0.95)
FIGURES = {
    "image": {"auroc": {"value": 0.97, "low": 0.95, "high": 0.985}},
    "found_at_its_threshold": {
        "found": {"value": 0.81, "low": 0.7, "high": 0.9},
        "false_rejects": {"value": 0.012, "low": 0.004, "high": 0.03},
    },
}
ALIKE: dict[str, Any] = {
    "figures": {
        "image_auroc": {"value": 0.95, "low": 0.9, "high": 0.98},
        "found": {"value": 0.5, "low": 0.4, "high": 0.6},
    },
    "yardstick": {
        "image_auroc": {"value": 0.93, "low": 0.88, "high": 0.97},
        "found": {"value": 0.45, "low": 0.35, "high": 0.55},
    },
}
QUALITY = {**FIGURES, "yardstick": {"image": {"auroc": {"value": 0.9, "low": 0.85, "high": 0.94}}}}


@pytest.fixture(scope="session")
def tuned(service: EmbeddedService, tmp_path_factory: pytest.TempPathFactory) -> BundleRef:
    """A product of two versions, the first of which has inspected parts; people have looked at what did not pass."""
    folder, store = tmp_path_factory.mktemp("made"), Store(service.data / "store")
    shipped = next(SHIPPED_BUNDLES.glob("bracket/[0-9]*"))
    store.publish(new_version(shipped, folder / PRODUCT / "1").path)
    report = folder / "report.html"
    report.write_text("<!doctype html><title>Training</title><h1>Report</h1>", encoding="utf-8")
    source = open_bundle(folder / PRODUCT / "1")
    parts = parts_of(source.manifest, version="2", quality=QUALITY)
    store.publish(write_bundle(folder / PRODUCT / "2", parts, source.sources(), [report]).path)
    active = store.resolve(PRODUCT)
    # The browser's event loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        ids = thread.submit(end_inspections, service, active).result()
    for inspection, score in zip(ids, SCORES, strict=False):
        if score > 1.6:
            decision = "ok" if score < 1.86 else "defect"
            body = {"decision": decision, "by": "A. Meier"}
            httpx.post(f"{service.url}/v1/inspections/{inspection}/review", json=body).raise_for_status()
    return active


def end_inspections(service: EmbeddedService, ref: BundleRef) -> list[str]:
    """Inspections with `SCORES`, and two that the gate stopped, in a pool that the service's worker does not serve."""
    assert ref.manifest.gate is not None
    limits, artifacts = (
        PinnedThresholds.from_limits(ref.manifest.thresholds),
        ArtifactStore(str(service.data / "artifacts")),
    )
    jobs = [
        make_job(product=PRODUCT, bundle_version=ref.version, bundle_hash=ref.hash, thresholds=limits, pool=POOL)
        for _ in range(len(SCORES) + 2)
    ]
    jobs = [job.model_copy(update={"image_ref": artifacts.put(job.id, "image", picture())}) for job in jobs]

    async def submit() -> None:
        async with connect_async(service.redis_url) as client:
            submitter = JobSubmitter(client)
            for job in jobs:
                await submitter.submit(job)

    asyncio.run(submit())
    with connect(service.redis_url) as client:
        queue = JobQueue(client, POOL, lease_ms=60_000)
        for number in range(len(jobs)):
            [claimed] = queue.claim(1)
            assert queue.complete(claimed, result(claimed, number, ref.manifest.gate))
    return [job.id for job in jobs]


def result(claimed: ClaimedJob, number: int, gate: QualityGate) -> Result:
    if number < len(SCORES):
        quality = quality_from_reasons((), FIT)
        made = findings(SCORES[number], quality=quality)
        return done_result(claimed.job, made, started_at=claimed.started_at, attempts=1)
    quality = quality_from_reasons(check_limits(gate, DARK), DARK)
    spent = Timings(queue=1, decode=2, encode=0, denoise=0, score=0, total=3)
    return unfit_result(claimed.job, quality, spent, started_at=claimed.started_at, attempts=1)


@pytest.fixture(autouse=True)
def as_it_was(service: EmbeddedService, tuned: BundleRef) -> Iterator[None]:
    """Each test begins with the calibrated thresholds of version 1."""
    yield
    httpx.put(f"{service.url}{URL}/active", json={"version": "1"}).raise_for_status()
    httpx.put(f"{service.url}{URL}/gate", json={"on": True}).raise_for_status()
    thresholds, limits = dict.fromkeys(("review", "fail", "pixel")), dict.fromkeys(("darkest", "likeness"))
    for call, body in (("thresholds", thresholds), ("gate", {"limits": limits})):
        httpx.patch(f"{service.url}{URL}/{call}?last=0", json=body).raise_for_status()


def shown(service: EmbeddedService) -> dict[str, Any]:
    return dict(httpx.get(f"{service.url}{URL}").json())


def open_product(open_page: Opener, query: str = "", **options: Any) -> Page:
    page = open_page(f"/products/{PRODUCT}{query}", **options)
    expect(page.get_by_role("slider", name="FAIL from")).to_be_visible()
    expect(page.get_by_role("slider", name="Least brightness")).to_be_visible()
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)  # what comes later would move what is dragged
    return page


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def agree(page: Page, action: str, person: str | None = "A. Meier") -> None:
    """Answers the question, and says who decides where the page asks for it."""
    page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()
    if person is not None:
        page.get_by_role("dialog", name="Who decides?").get_by_label("Your name").fill(person)
        page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_every_product_is_listed_with_what_inspects_and_how_to_teach_another(open_page: Opener) -> None:
    page = open_page("/products")
    card = page.get_by_role("listitem").filter(has=page.get_by_role("link", name=PRODUCT, exact=True))
    expect(card).to_contain_text("1 (2 versions in all)")
    expect(card).to_contain_text("REVIEW from 1.637, FAIL from 1.794")
    expect(card).to_contain_text(re.compile("Quality gate\\s*on"))
    expect(page.get_by_role("main")).to_contain_text("glad train light --data DIR")
    assert serious_findings(page) == []
    page.get_by_role("link", name=PRODUCT, exact=True).click()
    expect(page).to_have_url(re.compile(f"/products/{PRODUCT}$"))


def test_versions_show_what_was_measured_of_them_and_are_activated_and_rolled_back(
    open_page: Opener, service: EmbeddedService
) -> None:
    page = open_product(open_page)
    second = page.locator(".versions > li").filter(has=page.get_by_role("heading", name="Version 2", exact=True))
    ranking = second.get_by_role("row").filter(has_text="image AUROC")
    expect(ranking.get_by_role("cell")).to_have_text(["97% (95% to 98.5%)better", "90% (85% to 94%)"])
    expect(second.get_by_role("row").filter(has_text="false rejects")).to_contain_text("1.2% (0.4% to 3%)")
    report = second.get_by_role("link", name="Report of the training").get_attribute("href")
    assert report is not None
    assert "Report" in httpx.get(f"{service.url}{report}").text
    second.get_by_role("button", name="Use version 2").click()
    agree(page, "Use version 2")
    expect(second).to_contain_text("inspects now")
    expect(section(page, "Changes").get_by_role("listitem").first).to_contain_text("Version 2 in use")
    expect(section(page, "Changes").get_by_role("listitem").first).to_contain_text("A. Meier")
    # It has inspected nothing: its calibration is shown.
    expect(section(page, "Thresholds")).to_contain_text("1,000 good images of its calibration")
    second.get_by_role("button", name="Go back to the version before").click()
    agree(page, "Go back to the version before", person=None)
    expect(page.locator(".versions > li[data-active=true]")).to_contain_text("Version 1")
    assert shown(service)["active"]["version"] == "1"


def test_evaluations_stand_beside_the_yardstick_in_honest_words_and_are_removed_and_put_back(
    open_page: Opener, service: EmbeddedService
) -> None:
    url = f"{service.url}{URL}/versions/1/evaluations"
    hash_ = shown(service)["active"]["hash"]
    for measured, note in (
        (measured_quality(hash_, data="plant <b>set</b>"), "new lamp"),
        (measured_quality(hash_, data="no better", minus_yardstick=None, **ALIKE), None),
    ):
        record = measured.model_dump(mode="json", exclude_none=True)
        httpx.post(url, json={**record, "by": "ann", "note": note}).raise_for_status()
    page = open_product(open_page)
    first = page.locator(".versions > li").filter(has=page.get_by_role("heading", name="Version 1", exact=True))
    plant, alike = (
        first.locator(".evaluation").filter(has=page.get_by_role("heading", name=name, exact=True))
        for name in ("plant <b>set</b>", "no better")
    )
    expect(plant).to_contain_text("40 good and 20 defective images, measured on 1 May 2026")
    expect(plant).to_contain_text("new lamp")
    # By the paired differences: 0.03 to 0.1; -0.02 to 0.14; -0.03 to -0.004, where less is better; -0.05 to -0.01.
    compared = {
        "image AUROC": "better",
        "Bad parts": "not shown to be better",
        "false rejects": "better",
        "PRO": "worse",
    }
    for row, words in compared.items():
        expect(plant.get_by_role("row").filter(has_text=row).locator(".figure-comparison")).to_have_text(words)
    expect(plant).not_to_contain_text("On these images this version is not shown to be better")
    # Without them by intervals that overlap.
    expect(alike.locator(".figure-comparison")).to_have_text(["not shown to be better"] * 2)
    expect(alike).to_contain_text("On these images this version is not shown to be better than the simple method.")
    assert serious_findings(page) == []
    plant.get_by_text("How it was measured").click()
    expect(plant).to_contain_text("glad evaluate toy --data plant")
    plant.get_by_role("button", name="Remove these figures").click()
    agree(page, "Remove these figures")
    expect(plant).to_have_count(0)
    assert [one["data"]["name"] for one in httpx.get(url).json()["evaluations"]] == ["no better"]
    first.get_by_role("status").get_by_role("button", name="Undo").click()
    expect(plant).to_contain_text("97% (95% to 98.5%)")
    [back] = [one for one in httpx.get(url).json()["evaluations"] if one["data"]["name"] != "no better"]
    assert (back["by"], back["note"]) == ("A. Meier", "new lamp")


def test_recorded_figures_stand_in_the_changes_and_undo_takes_them_away_and_back(
    open_page: Opener, service: EmbeddedService
) -> None:
    url = f"{service.url}{URL}/versions/1/evaluations"

    def recorded() -> list[dict[str, Any]]:
        return [one for one in httpx.get(url).json()["evaluations"] if one["data"]["name"] == "line 4"]

    record = measured_quality(shown(service)["active"]["hash"], data="line 4").model_dump(
        mode="json", exclude_none=True
    )
    httpx.post(url, json={**record, "by": "ann", "note": "new lamp"}).raise_for_status()
    page = open_product(open_page)
    latest = section(page, "Changes").get_by_role("listitem").first
    expect(latest).to_contain_text("Version 1, figures on “line 4” recorded: ")
    expect(latest).to_contain_text("(image AUROC) 97%, Bad parts that FAIL 81%, ")
    expect(latest).to_contain_text(re.compile("ann, .* · new lamp"))
    latest.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("dialog")).to_contain_text("No verdict changes:Version 1, figures on “line 4” removed")
    agree(page, "Undo")
    expect(latest).to_contain_text("Version 1, figures on “line 4” removed: ")
    assert recorded() == []
    latest.get_by_role("button", name="Undo").click()
    agree(page, "Undo", person=None)
    expect(page.locator(".evaluation").filter(has_text="line 4")).to_contain_text("97% (95% to 98.5%)")
    [back] = recorded()
    assert (back["by"], back["note"]) == ("A. Meier", "new lamp")
    changes = section(page, "Changes").get_by_role("listitem").filter(has_text="line 4")
    expect(changes).to_have_count(3)
    expect(changes.get_by_role("button", name="Undo")).to_have_count(1)  # of what was done last


def test_the_sample_product_states_its_own_figures_on_a_fresh_installation(open_page: Opener) -> None:
    shipped = open_page("/products/bracket").locator(".evaluation").filter(has_text="rendered brackets")
    expect(shipped).to_contain_text("100 good and 180 defective images")
    found = shipped.get_by_role("row").filter(has_text="Bad parts")
    expect(found.get_by_role("cell")).to_have_text(["98.3% (96.2% to 100%)better", "93.9% (90.5% to 97%)"])


def test_evaluations_fit_on_a_phone(open_page: Opener, service: EmbeddedService) -> None:
    measured = measured_quality(shown(service)["active"]["hash"], data="a" * 128)
    record = measured.model_dump(mode="json", exclude_none=True)
    httpx.post(f"{service.url}{URL}/versions/1/evaluations", json=record).raise_for_status()
    page = open_product(open_page, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    expect(page.locator(".evaluation").filter(has_text="a" * 128)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_line_is_dragged_its_effect_is_shown_and_only_then_applied_and_undone(
    open_page: Opener, service: EmbeddedService
) -> None:
    page = open_product(open_page)
    thresholds = section(page, "Thresholds")
    # Two of those that people found good lie above 1.637 and below FAIL, one above; both marks are drawn.
    expect(thresholds).to_contain_text(
        "People looked at 6 of these parts. Defective, but below REVIEW: 0. Good, but above FAIL: 1."
    )
    line = page.get_by_role("slider", name="FAIL from")
    line.scroll_into_view_if_needed()
    box = line.locator("line").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.up()
    value = float(line.get_attribute("aria-valuenow") or 0)
    assert 1.85 < value < 2.3
    expect(thresholds.locator(".effect-text")).to_contain_text("Of the last 36 parts,")
    expect(thresholds.locator(".effect-text")).to_contain_text("FAIL → REVIEW")
    expect(thresholds.get_by_role("link", name="Example 1")).to_have_attribute("href", re.compile("/inspections/"))
    assert shown(service)["active"]["thresholds"] == shown(service)["active"]["calibrated"]  # nothing has changed yet
    thresholds.get_by_label("Why").fill("too <b>strict</b>")
    thresholds.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("FAIL → REVIEW")
    agree(page, "Apply")
    first = section(page, "Changes").get_by_role("listitem").first
    expect(first).to_contain_text(re.compile(r"Version 1: FAIL from calibrated → 1\.[89]|2\."))
    expect(first).to_contain_text("too <b>strict</b>")  # text, never markup
    assert shown(service)["active"]["thresholds"]["fail"] == pytest.approx(value, abs=1e-6)
    assert httpx.get(f"{service.url}{URL}/changes").json()["changes"][0]["by"] == "A. Meier"
    first.get_by_role("button", name="Undo").click()
    agree(page, "Undo", person=None)
    expect(thresholds.get_by_label("FAIL from").last).to_have_value("1.7942")
    assert shown(service)["active"]["thresholds"] == shown(service)["active"]["calibrated"]


def test_keys_move_a_line_and_the_number_beside_it_says_it_exactly(open_page: Opener, service: EmbeddedService) -> None:
    page = open_product(open_page)
    thresholds = section(page, "Thresholds")
    line, field = (
        page.get_by_role("slider", name="REVIEW from"),
        thresholds.get_by_role("spinbutton", name="REVIEW from"),
    )
    line.focus()
    before = float(line.get_attribute("aria-valuenow") or 0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    eventually(lambda: before < float(line.get_attribute("aria-valuenow") or 0))
    eventually(lambda: field.input_value() == f"{float(line.get_attribute('aria-valuenow') or 0):.5g}")
    page.keyboard.press("End")  # no key of a limit
    for _ in range(40):
        page.keyboard.press("PageUp")
    assert float(line.get_attribute("aria-valuenow") or 0) <= float(
        page.get_by_role("slider", name="FAIL from").get_attribute("aria-valuenow") or 0
    )
    field.fill("1.5")
    expect(line).to_have_attribute("aria-valuenow", "1.500000")
    # 1.505 … 1.545 and 1.5: ten of the good ones would be for review.
    expect(thresholds.locator(".effect-text")).to_contain_text("10 would get another verdict: 10 PASS → REVIEW")
    field.fill("3")
    expect(thresholds.get_by_role("alert")).to_contain_text("REVIEW must not begin above FAIL")
    expect(thresholds.get_by_role("button", name="Apply", exact=True)).to_be_disabled()
    thresholds.get_by_role("button", name="Discard").click()
    expect(field).to_have_value("1.6366")
    assert shown(service)["active"]["thresholds"] == shown(service)["active"]["calibrated"]


AT_ONCE = """
const fields = { "REVIEW from": "1.5", "Least brightness": "60" };
new MutationObserver(() => {
  for (const field of document.querySelectorAll("input[type=number]")) {
    const title = (field.ariaLabel ?? field.closest("label").textContent).trim();
    const name = Object.keys(fields).find((one) => title.startsWith(one));
    if (!name) continue;
    field.value = fields[name];
    delete fields[name];
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }
}).observe(document, { childList: true, subtree: true });
"""
"""A person who changes a field at the moment in which it is in the document, before it is painted."""


def test_a_limit_that_is_changed_at_once_stays_changed(open_page: Opener) -> None:
    page = open_page("/products")
    page.add_init_script(AT_ONCE)
    page.goto(f"/products/{PRODUCT}")
    thresholds, gate = section(page, "Thresholds"), section(page, "Quality gate")
    expect(thresholds.locator(".effect-text")).to_contain_text("10 would get another verdict: 10 PASS → REVIEW")
    expect(gate.locator(".effect-text")).to_contain_text("0 more would be stopped and 2 more would be inspected")
    expect(thresholds.get_by_role("spinbutton", name="REVIEW from")).to_have_value("1.5")
    expect(gate.get_by_role("spinbutton", name="Least brightness")).to_have_value("60")


def test_a_finger_moves_a_line_on_a_phone(open_page: Opener) -> None:
    page = open_product(open_page, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    line = page.get_by_role("slider", name="FAIL from")
    line.scroll_into_view_if_needed()
    box = line.locator("line").bounding_box()
    assert box is not None
    before = float(line.get_attribute("aria-valuenow") or 0)
    touch = page.context.new_cdp_session(page)
    x, y = box["x"] + 12, box["y"] + 60  # beside the line: the grip is wider
    for kind, at in (("touchStart", x), ("touchMove", x + 20), ("touchMove", x + 60)):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(section(page, "Thresholds").locator(".effect-text")).to_contain_text("FAIL → REVIEW")
    assert float(line.get_attribute("aria-valuenow") or 0) > before
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_a_change_by_somebody_else_is_never_written_over(open_page: Opener, service: EmbeddedService) -> None:
    page = open_product(open_page, allow_errors=True)  # the browser itself logs an answer of 412
    thresholds = section(page, "Thresholds")
    thresholds.get_by_role("spinbutton", name="FAIL from").fill("2.2")
    expect(thresholds.locator(".effect-text")).to_contain_text("FAIL → REVIEW")
    httpx.patch(f"{service.url}{URL}/thresholds", json={"fail": 1.9, "by": "B. Kaya"}).raise_for_status()
    thresholds.get_by_role("button", name="Apply", exact=True).click()
    agree(page, "Apply")
    expect(thresholds.get_by_role("alert")).to_contain_text("Somebody else changed this product meanwhile")
    expect(thresholds.get_by_role("spinbutton", name="FAIL from")).to_have_value("1.9")
    assert shown(service)["active"]["thresholds"]["fail"] == 1.9
    thresholds.get_by_role("button", name="Back to calibrated").click()
    agree(page, "Apply", person=None)
    expect(thresholds.get_by_role("spinbutton", name="FAIL from")).to_have_value("1.7942")


def test_limits_of_the_gate_are_moved_switched_off_one_by_one_and_put_back(
    open_page: Opener, service: EmbeddedService
) -> None:
    page = open_product(open_page)
    gate = section(page, "Quality gate")
    expect(gate).to_contain_text("Measures of the last 38 images")
    gate.get_by_role("spinbutton", name="Least brightness").fill("60")
    effect = gate.locator(".effect-text")
    expect(effect).to_contain_text("0 more would be stopped and 2 more would be inspected; about 2 a day, 0.7 a shift.")
    gate.get_by_role("checkbox", name="Least likeness").uncheck()
    expect(gate.get_by_role("slider", name="Least likeness")).to_have_count(0)
    gate.get_by_role("button", name="Apply limits").click()
    expect(page.get_by_role("dialog")).to_contain_text("Least likeness: 0.8219 → not checked")
    agree(page, "Apply")
    expect(section(page, "Changes").get_by_role("listitem").first).to_contain_text("Least brightness learned → 60")
    limits = shown(service)["gate"]["limits"]
    assert (limits["darkest"], limits["likeness"]) == (60, None)
    gate.get_by_role("button", name="Back to learned").click()
    agree(page, "Apply", person=None)
    expect(gate.get_by_role("spinbutton", name="Least brightness")).to_have_value("86.727")
    gate.get_by_role("button", name="Switch it off").click()
    agree(page, "Switch it off", person=None)
    expect(gate).to_contain_text("Quality gate off")
    assert shown(service)["gate"]["on"] is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_product_is_accessible_with_its_charts(open_page: Opener, scheme: str) -> None:
    page = open_product(open_page, color_scheme=scheme)
    page.get_by_role("slider", name="FAIL from").press("Shift+PageUp")
    expect(section(page, "Thresholds").get_by_role("link", name="Example 1")).to_be_visible()
    assert serious_findings(page) == []


def test_the_limits_of_another_version_are_shown_and_named(open_page: Opener) -> None:
    page = open_product(open_page)
    page.get_by_role("link", name="Show its limits").click()
    expect(page.get_by_text("Below are the limits of version 2. Version 1 inspects now.")).to_be_visible()


def test_an_unknown_product_says_so(open_page: Opener) -> None:
    page = open_page("/products/weld", allow_errors=True)
    expect(page.get_by_role("alert")).to_contain_text("no product 'weld'")


def test_a_refusal_is_told_in_the_readers_language_above_the_services_own_words(open_page: Opener) -> None:
    page = open_page("/products/no-such-product", allow_errors=True, locale="de-DE")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Dieses Produkt gibt es nicht.")
    expect(alert.locator("[lang=en]")).to_contain_text("no product 'no-such-product'")


def test_a_change_that_does_not_arrive_says_why(open_page: Opener) -> None:
    page = open_product(open_page, allow_errors=True, breakable=True)
    page.route("**/gate", lambda route: route.abort() if route.request.method == "PUT" else route.fallback())
    section(page, "Quality gate").get_by_role("button", name="Switch it off").click()
    agree(page, "Switch it off")
    expect(section(page, "Quality gate").get_by_role("alert")).to_contain_text("The service does not answer.")
