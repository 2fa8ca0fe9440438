"""The demo, end to end, on a tiny random bundle; and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from demo.inspected import DemoVerdict, InspectedSample, SampleImage, as_table, confusion
from demo.page import CameraLatency, card, in_reading_order, large, latency, mean_steps, write_page
from demo.processes import DemoError
from demo.run import MARK, DemoPlan, DemoProgress, claim, show
from demo.yardstick import RECORD, RECORDED_IMAGES, Yardstick, recorded_yardstick
from tests.support.tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).resolve().parent.parent
COUNT = 40  # 22 good parts and 6 kinds of defect in 3 severities
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


def inspected(
    name: str,
    verdict: DemoVerdict = DemoVerdict.PASS,
    *,
    score: float = 0.1,
    step: int | None = 351,
    root: Path = Path(),
) -> InspectedSample:
    """A result as if it came from the service, with the fail threshold at 1."""
    return InspectedSample(
        SampleImage(root, name), "id", verdict, score, score / (score + 1), 0.5, 1.0, step, 1234.0, {}
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose product `bracket` is a tiny random model that fails about half of what it sees."""
    folder = tmp_path_factory.mktemp("store")
    make_tiny_bundle(folder, product="bracket")
    return folder


def demo_command(output: Path, *options: str) -> list[str]:
    """The demo as `make demo` calls it."""
    return [sys.executable, "-m", "demo", "--output", str(output), *options]


def environment(store: Path) -> dict[str, str]:
    """This environment, with a store, and with settings of a real service that the demo must not use."""
    foreign = {"GLAD_REDIS_URL": "redis://127.0.0.1:1/0", "GLAD_DATA_DIR": "/nonexistent", "GLAD_PORT": "1"}
    return os.environ | foreign | {"GLAD_STORE": str(store)}


def processes_of(output: Path) -> list[str]:
    """The command lines of running processes that were given this output's data folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            texts = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if str(output).encode() in texts and int(entry.name) != os.getpid():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


class Page(HTMLParser):
    """What the tests look at: the cards and every local link."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.files: list[str] = []
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "article":
            self.files.append(values["data-file"] or "")
        self.links += [values[name] or "" for name in ("src", "href") if name in values]


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that ran to its end: its output folder and what it printed."""
    output = tmp_path_factory.mktemp("demo") / "out"
    command = demo_command(output, "--rate", "50")
    done = subprocess.run(command, cwd=ROOT, env=environment(store), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (output / "service.log").read_text()
    return output, done.stdout


@pytest.fixture
def rendered(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """An output folder whose images were rendered by an earlier run."""
    output = tmp_path / "out"
    output.mkdir()
    (output / MARK).touch()
    (output / "images").symlink_to(finished[0] / "images")
    return output


@pytest.mark.timeout(400)
def test_the_demo_inspects_every_image_and_writes_the_page(finished: tuple[Path, str]) -> None:
    output, printed = finished
    page = Page(output / "index.html")
    assert len(set(page.files)) == COUNT
    assert [name for name in page.links if not (output / name).is_file()] == []
    shots = json.loads((output / "results.json").read_text())["shots"]
    assert sorted(f"test/{shot['file']}" for shot in shots) == sorted(page.files)
    rows = re.findall(r"^test/\S+\.png .* (?:pass|review|fail)\b.* s$", printed, re.MULTILINE)
    assert len(rows) == COUNT
    assert f"{COUNT} of {COUNT} results" in printed


def test_the_demo_ends_by_saying_what_to_try(finished: tuple[Path, str]) -> None:
    output, printed = finished
    end = printed[printed.rindex("results\n") :]
    assert all(
        words in end for words in (str(output / "index.html"), "make serve", "curl --data-binary @", "glad inspect")
    )


@needs_proc
def test_the_demo_stops_its_service(finished: tuple[Path, str]) -> None:
    assert processes_of(finished[0]) == []


@needs_proc
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("number", "stage"), [(signal.SIGINT, "a camera posts"), (signal.SIGTERM, "starting the service")]
)
def test_a_stopped_demo_leaves_nothing_running(rendered: Path, store: Path, number: signal.Signals, stage: str) -> None:
    with subprocess.Popen(
        demo_command(rendered, "--rate", "0.5"),
        cwd=ROOT,
        env=environment(store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        assert any(stage in line for line in demo.stdout), demo.stderr and demo.stderr.read()
        while not any("redis-server" in line for line in processes_of(rendered)):
            assert demo.poll() is None
            time.sleep(0.05)
        os.killpg(demo.pid, number)  # as a terminal does
        _, errors = demo.communicate()
    assert demo.returncode == 128 + number
    assert "nothing is left running" in errors
    assert processes_of(rendered) == []


@pytest.mark.timeout(400)
def test_a_product_without_a_bundle_is_named(rendered: Path, store: Path) -> None:
    command = demo_command(rendered, "--product", "unheard-of")
    done = subprocess.run(command, cwd=ROOT, env=environment(store), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no bundle for product 'unheard-of'" in done.stderr


def test_a_folder_with_other_content_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = subprocess.run(demo_command(tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds other things" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_second_demo_leaves_a_running_ones_folder_alone(tmp_path: Path) -> None:
    with claim(tmp_path):
        (tmp_path / "data").mkdir()
        with pytest.raises(DemoError, match="another demo is running"), claim(tmp_path):
            pass
        assert (tmp_path / "data").is_dir()
    with claim(tmp_path):
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("there", [0, 1])
def test_a_missing_result_is_an_error_and_what_is_there_is_shown(there: int, tmp_path: Path) -> None:
    results = [inspected("test/good/0000.png")] * there
    with pytest.raises(DemoError, match=f"{2 - there} of 2 results are missing"):
        show(DemoPlan(tmp_path), results, 2, "1")
    assert (tmp_path / "index.html").exists() is bool(there)


RECORDED = {
    "at": "2026-11-29T15:00:00+00:00",
    "command": "glad bench yardstick",
    "figures": {
        "methods": [
            {"name": "Gaussian per place", "thresholds": {"review": 1, "fail": 2}, "scores": {}},
            {
                "name": "patch memory",
                "thresholds": {"review": 3.0, "fail": 4.0},
                "scores": {"test/good/0000.png": 2.9, "test/dent/s1_0000.png": 3.0, "test/dent/s2_0000.png": 4.0},
            },
        ]
    },
}


@pytest.mark.parametrize(
    ("seed", "names", "known"),
    [
        (2024, ["test/good/0000.png", "test/dent/s1_0000.png", "test/dent/s2_0000.png"], True),
        (2025, ["test/good/0000.png"], False),
        (2024, ["test/good/0001.png"], False),
    ],
)
def test_the_yardsticks_verdicts_are_those_recorded_of_the_very_images(
    tmp_path: Path, seed: int, names: list[str], known: bool
) -> None:
    (tmp_path / "sample.json").write_text(json.dumps({"seed": seed, "renderer_version": 1}))
    record = tmp_path / "record.json"
    record.write_text(json.dumps(RECORDED))
    shown = [SampleImage(tmp_path, name) for name in names]
    found = recorded_yardstick(tmp_path, shown, record)
    assert (found is not None) is known
    if found is not None:
        assert list(found.verdicts.values()) == list(DemoVerdict)
        assert found.confusion(shown)["defect"] == {DemoVerdict.PASS: 0, DemoVerdict.REVIEW: 1, DemoVerdict.FAIL: 1}
    assert recorded_yardstick(tmp_path, shown, tmp_path / "none.json") is None


def test_the_record_has_the_demos_own_images() -> None:
    """Every image of `make demo`, by name; the renderer is frozen, so that equal seeds give equal images."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["figures"]["methods"]
    (memory,) = (method for method in recorded if method["name"] == "patch memory")
    assert DemoPlan(Path()).seed == RECORDED_IMAGES["seed"]
    assert len(memory["scores"]) == DemoPlan(Path()).good + 18 * DemoPlan(Path()).defects
    assert {"test/good/0021.png", "test/dent/s3_0000.png"} <= set(memory["scores"])


def test_the_page_shows_the_yardsticks_verdict_beside_ours(tmp_path: Path) -> None:
    names = ["test/good/0000.png", "test/dent/s1_0000.png"]
    yardstick = Yardstick(dict(zip(names, (DemoVerdict.PASS, DemoVerdict.REVIEW), strict=True)), "", "2026-11-29")
    results = [inspected(names[0]), inspected(names[1], DemoVerdict.FAIL)]
    named: Any = {"title": "T", "product": "bracket", "bundle": "7"}
    page = write_page(tmp_path, results, yardstick=yardstick, **named).read_text()
    assert "The yardstick's, on the same images" in page
    assert page.count("yardstick: <b>review</b>") == 1
    assert "yardstick" not in write_page(tmp_path, results, **named).read_text().lower()


def test_a_sample_knows_its_truth_from_its_place(tmp_path: Path) -> None:
    mask = tmp_path / "ground_truth" / "bent_pin" / "s2_0000_mask.png"
    mask.parent.mkdir(parents=True)
    mask.touch()
    bent, good = SampleImage(tmp_path, "test/bent_pin/s2_0000.png"), SampleImage(tmp_path, "test/good/0000.png")
    assert (bent.truth, bent.severity, bent.is_good, bent.mask) == ("bent pin 2", 2, False, mask)
    assert (good.truth, good.severity, good.is_good, good.mask) == ("good", None, True, None)


def test_only_a_passed_defect_and_a_failed_good_part_are_wrong() -> None:
    good, bad = "test/good/0000.png", "test/dent/s1_0000.png"
    wrong = [(name, verdict) for name in (good, bad) for verdict in DemoVerdict if inspected(name, verdict).is_wrong]
    assert wrong == [(good, DemoVerdict.FAIL), (bad, DemoVerdict.PASS)]


def test_the_confusion_table_counts_each_image_once() -> None:
    results = [inspected("test/good/0000.png", DemoVerdict.REVIEW), inspected("test/good/0001.png")]
    results += [inspected("test/dent/s1_0000.png", DemoVerdict.FAIL)] * 2
    assert confusion(results) == {
        "good": {DemoVerdict.PASS: 1, DemoVerdict.REVIEW: 1, DemoVerdict.FAIL: 0},
        "defect": {DemoVerdict.PASS: 0, DemoVerdict.REVIEW: 0, DemoVerdict.FAIL: 2},
    }


def test_the_page_shows_defects_first_and_then_the_good_parts_by_falling_score() -> None:
    names = [("test/good/0000.png", 0.1), ("test/dent/s2_0000.png", 0.2), ("test/good/0001.png", 0.3)]
    names += [("test/dent/s1_0000.png", 0.1)]
    ordered = in_reading_order(inspected(name, score=score) for name, score in names)
    assert [result.sample.name[5:-4] for result in ordered] == [
        "dent/s1_0000",
        "dent/s2_0000",
        "good/0001",
        "good/0000",
    ]


def test_images_that_never_triggered_take_no_part_in_the_mean_step() -> None:
    results = [inspected("test/dent/s1_0000.png", step=step) for step in (400, 600, None)]
    assert mean_steps(results) == [("dent", 500, 2)]


def test_the_latency_is_the_cameras(tmp_path: Path) -> None:
    answer = {
        "id": "i",
        "verdict": "pass",
        "score": 0.1,
        "calibrated_score": 0.1,
        "thresholds": {"review": 0.5, "fail": 1.0},
        "denoising_step": 0,
        "timings_ms": {"total": 80.0},
        "artifacts": {},
    }
    sample = SampleImage(tmp_path, "test/good/0000.png")
    found = InspectedSample.from_shot(sample, {"inspection": answer, "accept_ms": 20.0})
    assert found is not None
    assert found.latency_ms == 100.0
    assert InspectedSample.from_shot(sample, {}) is None
    assert InspectedSample.from_shot(sample, {"inspection": answer | {"verdict": None}, "accept_ms": 20.0}) is None
    results = [replace(found, latency_ms=ms) for ms in range(1000, 21_000, 1000)]
    assert latency(results) == CameraLatency(median=10.5, p95=19.0, longest=20.0)


def test_a_defect_of_each_kind_is_shown_large_the_highest_score_first(tmp_path: Path) -> None:
    scores = {"test/dent/s1_0000.png": 2.0, "test/dent/s2_0000.png": 5.0, "test/stain/s1_0000.png": 3.0}
    results = [inspected("test/good/0000.png", score=9.0)]
    results += [inspected(name, DemoVerdict.FAIL, score=score) for name, score in scores.items()]
    shown = large([card(tmp_path, result) for result in results])
    assert [one.result.sample.name for one in shown] == ["test/dent/s2_0000.png", "test/stain/s1_0000.png"]


def test_the_table_aligns_its_columns() -> None:
    lines = as_table(
        [inspected("test/good/0000.png"), inspected("test/dent/s1_0000.png", DemoVerdict.FAIL)]
    ).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_the_progress_estimates_from_what_is_done() -> None:
    progress = DemoProgress(40, started=time.monotonic())
    assert progress.text(10, 20.0).strip() == "10 of 40 results, about 60 s left"  # 30 more at 2 s each
    assert progress.text(0, 3.0).strip() == "0 of 40 results"
    assert progress.text(40, 80.0).strip() == "40 of 40 results"
