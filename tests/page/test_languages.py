"""In German and Chinese: what the service says in English is said again by the page, from codes and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import EmbeddedService, part

Opener = Callable[..., Page]
GERMAN, CHINESE = "de-DE", "zh-CN"
DEFECT = "missing_screw"


def test_a_station_held_by_a_limit_sample_says_why_in_german(open_page: Opener, service: EmbeddedService) -> None:
    station = f"{service.url}/v1/stations/lang-1"
    httpx.put(station, json={"product": "bracket"}).raise_for_status()
    samples = [{"serial": "LS-1", "expected": "good"}]
    httpx.put(f"{station}/limit-samples", json={"samples": samples}).raise_for_status()
    httpx.post(f"{station}/limit-samples/check").raise_for_status()
    page = open_page("/line/lang-1", locale=GERMAN)
    expect(page.locator("main.line[data-live=true]")).to_be_visible()
    service.post(part(302, DEFECT), station="lang-1", serial="LS-1")
    why = "das bekannt gute Grenzmuster LS-1 war AUSSCHUSS"
    expect(page.locator(".hold-held")).to_contain_text(why)
    service.post(part(303), station="lang-1", serial="PART-1")
    expect(page.locator(".line-facts")).to_contain_text(f"Die Station ist gesperrt: {why}")
    page.goto("/review?station=lang-1")
    page.get_by_label("Ihr Name").fill("A. Meier")
    page.keyboard.press("Enter")
    expect(page.locator(".review-model")).to_contain_text(why)


@pytest.mark.parametrize(
    ("locale", "promise"),
    [
        ("en-GB", "1,000 good images, each counted as a part: at most 2% false rejects are promised, with 95%"),
        (GERMAN, "1.000 gute Bilder, jedes als ein Teil gezählt: Höchstens 2 % falscher Ausschuss ist versprochen"),
        (CHINESE, "1,000张良品图像，每张计为一个零件：保证误判不合格不超过 2%，置信度 95%。"),
    ],
)
def test_what_a_version_promises_is_said_in_the_pages_language(open_page: Opener, locale: str, promise: str) -> None:
    page = open_page("/products/bracket", locale=locale)
    expect(page.locator(".versions .quality").first).to_contain_text(promise)


TOLD = """async ([promise, sensitivity]) => {
  const { promiseText, sensitivitySentences } = await import("/page/app/parts/product_promise.js");
  return [promiseText(promise), ...sensitivitySentences(sensitivity)];
}"""


def test_promises_and_artificial_defects_are_told_from_their_numbers(open_page: Opener) -> None:
    promise: dict[str, Any] = {"parts": 20, "images": 60, "kind": "leave_group_out", "proven": False, "kept": False}
    promise |= {"false_rejects": 0.02, "confidence": 0.95, "least": 0.139, "needed": 149, "least_for_one_draw": None}
    line = {"trained_on": True, "contrast": "medium", "beyond": {"anomalies": 9, "found": 9, "at_least": 0.717}}
    sizes = {"size_is": "side of a square of the same area", "all": {"anomalies": 20, "found": 15}}
    lines: list[dict[str, Any]] = [
        line | sizes | {"kind": "of-tomorrow", "from_px": None},
        line | sizes | {"kind": "spot", "from_px": 12.4},
        line | sizes | {"kind": "crack", "from_px": 8.6, "size_is": "length", "trained_on": False},
        line | sizes | {"kind": "spot", "from_px": 5.0, "contrast": "strong"},
        line | sizes | {"kind": "chip", "from_px": None, "all": {"anomalies": 3, "found": 3}},
    ]
    page = open_page("/sign-in", locale=GERMAN)
    expect(page.get_by_role("heading", name="Anmelden")).to_be_visible()
    sensitivity = {"share": 0.9, "confidence": 0.95, "sentences": ["in English"], "lines": lines}
    assert page.evaluate(TOLD, [promise, sensitivity]) == [
        "20 Teile (gute Bilder: 60): 2\xa0% falscher Ausschuss lässt sich nicht versprechen; erwarten Sie bis zu "
        "13,9\xa0%, mit 95\xa0% Sicherheit. 149 Teile wären nötig. Bis dahin beginnt AUSSCHUSS beim größten Messwert "
        "eines guten Teils. Das ist eine Schätzung, weil die Werte auf demselben Gedächtnis beruhen.",
        "Riss (nicht trainiert): 90\xa0% gefunden ab etwa 8,6 px Länge Ihrer Originalbilder (9 von 9 dieser Größe; "
        "mit 95\xa0% Sicherheit mindestens 71,7\xa0%).",
        "Fleck: 90\xa0% gefunden ab etwa 12 × 12 px Ihrer Originalbilder (9 von 9 dieser Größe; mit 95\xa0% Sicherheit "
        "mindestens 71,7\xa0%).",
        "Abplatzer: 3 von 3 gefunden; das sind zu wenige, um zu sagen, ab welcher Größe es 90\xa0% sind.",
        "of-tomorrow: In keiner Größe werden 90\xa0% gefunden; von den größten 9 von 9.",
    ]
    older = {"sentences": ["of an older version, in English"]}
    assert page.evaluate(TOLD, [promise, older])[1:] == older["sentences"]


def test_a_refusal_is_said_in_chinese_with_the_services_own_words_below(open_page: Opener) -> None:
    page = open_page("/inspections/00000000-0000-7000-8000-000000000000", locale=CHINESE, allow_errors=True)
    expect(page.get_by_role("alert")).to_contain_text("没有该检测记录")
    expect(page.locator(".note-problem [lang=en]")).to_be_visible()
