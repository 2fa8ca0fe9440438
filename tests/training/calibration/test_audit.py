"""Thresholds from people's reviews: only the blind random audit moves them, each answer by its probability."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from glad.__main__ import as_app
from model_store.bundle import Bundle, open_bundle
from model_store.manifest import Verdict
from model_store.store import SHIPPED_BUNDLES
from training.calibration.audit import (
    AuditedImage,
    audited_images,
    effect_of,
    propose_thresholds,
    read_reviewed,
    weighted_quantile,
)
from training.calibration.thresholds import conformal_quantile
from training.cli.train import calibrate


def image(score: float, number: int, *, p: float = 0.02, good: bool = True, part: str | None = None) -> AuditedImage:
    """An answer to the audit."""
    return AuditedImage(f"id-{number}", part or f"part-{number}", score, Verdict.PASS, good, p)


def images(scores: Sequence[float], **fields: Any) -> list[AuditedImage]:
    """Good parts with these scores."""
    return [image(score, number, **fields) for number, score in enumerate(scores)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped one."""
    [folder] = SHIPPED_BUNDLES.glob("bracket/[0-9]*")
    return open_bundle(folder)


def line(of: Bundle, number: int, score: float, **fields: Any) -> dict[str, Any]:
    """A line as `glad reviews export` writes it, with more than is read."""
    given: dict[str, Any] = {
        "file": f"test/good/{number}.png",
        "inspection_id": f"id-{number}",
        "product": "bracket",
        "decision": "ok",
        "audit": {"decision": "ok", "audit": 0.02, "blind": True, "by": "ann"},
        "verdict": "pass",
        "score": score,
        "bundle": {"version": "7", "hash": of.hash},
        "serial": f"SN-{number}",
    }
    return given | fields


def write(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    """An exported folder, as far as it is read."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.98])
def test_equal_probabilities_give_the_usual_quantile(quantile: float) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    scores = rng.lognormal(size=120).tolist()
    parts = [f"part-{number // 2}" for number in range(120)]
    drawn = [image(score, number, part=part) for number, (score, part) in enumerate(zip(scores, parts, strict=True))]
    assert weighted_quantile(drawn, quantile) == conformal_quantile(scores, quantile, parts)


def test_an_image_that_was_drawn_rarely_stands_for_more() -> None:
    # Scores 1 … 10 stand for 10 each, 11 … 20 for 1 each, the fresh part for 10: half of 100 + 10 + 10 is 60, and the
    # sixth score reaches it. Without weights it would be the eleventh.
    drawn = images([float(n) for n in range(1, 11)], p=0.1)
    drawn += [image(float(n), n, p=1.0) for n in range(11, 21)]
    assert weighted_quantile(drawn, 0.5) == 6.0


def test_the_promise_holds_where_the_share_was_changed_and_breaks_without_weights() -> None:
    # Half of the parts came while p was 0.05 and score higher; the other half while p was 0.5. 100 lines, 2 % promised.
    rng = np.random.Generator(np.random.Philox(0))
    rates: dict[str, list[float]] = {"weighted": [], "not weighted": []}
    for _ in range(100):
        high, low = rng.lognormal(0.5, size=3000), rng.lognormal(0.0, size=3000)
        drawn = images(high[:1500][rng.random(1500) < 0.05].tolist(), p=0.05)
        drawn += [image(score, 9000 + n, p=0.5) for n, score in enumerate(low[:1500][rng.random(1500) < 0.5].tolist())]
        fresh = np.concatenate([high[1500:], low[1500:]])
        rates["weighted"].append(float(np.mean(fresh > weighted_quantile(drawn, 0.98))))
        rates["not weighted"].append(float(np.mean(fresh > conformal_quantile([one.score for one in drawn], 0.98))))
    error = np.std(rates["weighted"]) / np.sqrt(100)
    assert np.mean(rates["weighted"]) <= 0.02 + 2 * error
    assert np.mean(rates["not weighted"]) > 0.03


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_the_promise_holds_for_parts_of_four_views_too_where_the_share_was_changed(confidence: float | None) -> None:
    # Half of the parts came while every image was drawn, and score higher; the other half while p was 0.1. Of a part of
    # the first half all four images are there, of one of the second mostly one: the two are the same share of the line.
    rng = np.random.Generator(np.random.Philox(0))
    rates = []
    for _ in range(60):
        of_part = rng.lognormal(np.repeat([0.5, 0.0], 1200))
        scores = of_part[:, None] * rng.uniform(0.9, 1.0, size=(2400, 4))
        drawn = []
        for half, p in ((range(600), 1.0), (range(1200, 1800), 0.1)):
            for number in half:
                of_line = [view for view in range(4) if rng.random() < p]
                drawn += [
                    image(float(scores[number, view]), 4 * number + view, p=p, part=f"part-{number}")
                    for view in of_line
                ]
        fail = propose_thresholds(drawn, 0.98, 0.9, confidence).fail
        fresh = np.concatenate([scores[600:1200], scores[1800:]])
        rates.append(np.mean(fresh > fail))
    if confidence is None:
        assert np.mean(rates) <= 0.02 + 2 * np.std(rates) / np.sqrt(60)
    else:  # 95 % of the lines keep it; of 60, 57 expected, with a standard deviation of sqrt(60 · 0.95 · 0.05) = 1.7
        assert np.sum(np.array(rates) <= 0.02) >= 57 - 2 * 1.7


def test_with_a_confidence_the_likelier_parts_are_thinned_until_all_were_equally_likely() -> None:
    rare, often = images([float(n) for n in range(200)], p=0.1), []
    often = [image(float(n), 1000 + n, p=1.0) for n in range(2000)]
    found = propose_thresholds([*rare, *often], 0.98, 0.9, 0.95)
    assert found.thinned
    # All 200 rare ones and a tenth of 2000: 200 expected, with a standard deviation of sqrt(2000 · 0.1 · 0.9) = 13
    assert 200 + 120 < found.promised.groups < 200 + 280
    assert not propose_thresholds(rare, 0.98, 0.9, 0.95).thinned


@pytest.mark.parametrize(
    ("count", "confidence", "more"),
    [(48, None, 1), (0, None, 49), (120, 0.95, 29)],  # 49 on average, 149 with 95 %
)
def test_too_few_answers_are_refused_with_how_many_it_takes(count: int, confidence: float | None, more: int) -> None:
    with pytest.raises(ValueError, match=rf"^{count} good parts answer the audit .*: {more} more"):
        propose_thresholds(images([float(n) for n in range(count)]), 0.98, 0.9, confidence)
    enough = images([float(n) for n in range(count + more)])
    assert propose_thresholds(enough, 0.98, 0.9, confidence).promised.kept


def test_images_of_one_part_are_one_witness() -> None:
    same = [image(float(n), n, part=f"part-{n // 3}") for n in range(90)]
    with pytest.raises(ValueError, match=r"^30 good parts answer"):
        propose_thresholds(same, 0.98, 0.9, None)


def test_labels_that_are_not_of_the_blind_audit_of_this_version_move_nothing(tmp_path: Path, bundle: Bundle) -> None:
    audited = [line(bundle, n, 0.01 * n) for n in range(60)]
    others = [
        line(bundle, 100, 9.0, audit=None),
        line(bundle, 101, 9.0, audit={"decision": "ok", "audit": 0.02, "blind": False}),
        line(bundle, 102, 9.0, bundle={"version": "6", "hash": "ab" * 32}),
        line(bundle, 103, 0.0) | {"score": None, "verdict": "review"},  # unfit: no threshold concerns it
    ]
    found = []
    for lines in (audited, [*audited, *others]):
        read = read_reviewed(write(tmp_path / "labels", lines))
        found.append(propose_thresholds(audited_images(read, bundle), 0.98, 0.9, None))
    assert found[0] == found[1]
    # 61 · 0.98 = 59.78: the 60th of 60 scores, 0.59; just above it
    assert found[0].fail == np.nextafter(np.float32(0.59), np.float32(np.inf))
    # 61 · 0.9 = 54.9: the 55th, 0.54
    assert found[0].review == np.nextafter(np.float32(0.54), np.float32(np.inf))


def test_the_effect_on_defects_and_good_parts_at_large_is_weighted(tmp_path: Path, bundle: Bundle) -> None:
    lines = [line(bundle, n, 0.01 * n) for n in range(60)]
    answer = {"decision": "defect", "blind": True}
    lines += [
        line(bundle, 100, 2.0, decision="defect", verdict="fail", audit=answer | {"audit": 0.5}),  # stands for 2
        line(bundle, 101, 0.3, decision="defect", audit=answer | {"audit": 0.125}),  # for 8
        line(bundle, 102, 1.0, decision="defect", audit=None),
    ]
    read = read_reviewed(write(tmp_path / "labels", lines))
    audited = audited_images(read, bundle)
    effect = effect_of(propose_thresholds(audited, 0.98, 0.9, None), read, audited)
    assert (effect.defects, effect.compared) == (2, 63)
    assert effect.audit_before["defect_fail"] == effect.audit_after["defect_fail"] == 2 / 10
    # Of the 60 good ones all passed; from 0.54 on, which are 0.55 … 0.59, five are for review now, and none fails.
    assert effect.audit_before["good_review"] == 0
    assert effect.audit_after["good_review"] == pytest.approx(5 / 60)
    # And the one that was no audit, with 1.0, fails now.
    assert effect.changes == {(Verdict.PASS, Verdict.REVIEW): 5, (Verdict.PASS, Verdict.FAIL): 1}


def test_the_command_proposes_prints_how_to_apply_it_and_changes_nothing(tmp_path: Path, bundle: Bundle) -> None:
    labels = write(tmp_path / "labels", [line(bundle, n, 0.01 * n) for n in range(160)])
    report = tmp_path / "proposal.json"
    before = sorted((path, path.stat().st_mtime_ns) for path in bundle.path.rglob("*"))
    words = ["bracket", "--from-reviews", str(labels), "--json", str(report)]
    done = CliRunner().invoke(as_app(calibrate), words)
    assert done.exit_code == 0, done.output
    proposal = json.loads(report.read_text())
    assert f"proposal {proposal['proposal']}: " in done.output
    assert (
        "160 good parts of the audit: at most 2 % of good parts that come as these did fail, with 95 %" in done.output
    )
    command = done.output.splitlines()[-1].strip()
    assert command.startswith(f"glad thresholds set bracket/7 --review {proposal['review']} --fail {proposal['fail']} ")
    assert command.endswith(f" --note 'proposal {proposal['proposal']} from 160 good parts of the audit'")
    assert sorted((path, path.stat().st_mtime_ns) for path in bundle.path.rglob("*")) == before


def test_a_folder_without_labels_another_product_or_a_call_without_any_is_refused(
    tmp_path: Path, bundle: Bundle
) -> None:
    def refused(*words: str) -> str:
        done = CliRunner().invoke(as_app(calibrate), ["bracket", *words])
        assert done.exit_code == 1
        return done.output

    assert "glad reviews export" in refused("--from-reviews", str(tmp_path))
    other = write(tmp_path / "labels", [line(bundle, 1, 0.1, product="screw")])
    assert "the labels are of screw, the bundle of bracket" in refused("--from-reviews", str(other))
    (other / "labels.jsonl").write_text("{}\n")
    assert "line 1 is no label" in refused("--from-reviews", str(other))
    assert "give --data" in refused()


def test_a_serial_with_a_line_separator_is_one_line(bundle: Bundle, tmp_path: Path) -> None:
    # The export writes JSON with letters as they are; U+2028 is one of them, and ends no line there.
    written = json.dumps(line(bundle, 1, 0.5, serial="SN\u20281"), ensure_ascii=False)
    (tmp_path / "labels.jsonl").write_text(f"{written}\n", encoding="utf-8")
    assert [one.serial for one in read_reviewed(tmp_path)] == ["SN\u20281"]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_found_in_its_line(bundle: Bundle, tmp_path: Path, score: float) -> None:
    labels = write(tmp_path / "labels", [line(bundle, 1, 0.5), line(bundle, 2, score)])
    with pytest.raises(ValueError, match=r"line 2 is no label .*finite number"):
        read_reviewed(labels)
