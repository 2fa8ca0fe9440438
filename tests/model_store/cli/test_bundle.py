"""`glad bundle`, as an operator uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model_store.cli.bundle import app
from model_store.store import Store
from tests.support.bundles import new_version
from tests.support.gates import a_gate
from tests.support.tiny_bundle import make_tiny_bundle

Glad = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store"


@pytest.fixture
def glad(root: Path, monkeypatch: pytest.MonkeyPatch) -> Glad:
    monkeypatch.delenv("GLAD_STORE", raising=False)
    monkeypatch.setenv("GLAD_DATA_DIR", str(root.parent))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_publish_activate_and_roll_back(glad: Glad, root: Path, sound_bundle: Path, tmp_path: Path) -> None:
    newer = new_version(sound_bundle, tmp_path / "toy" / "2", created_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert "active: 1" in glad("publish", sound_bundle).output
    assert glad("activate", "toy", "1", "--by", "ann").exit_code == 0
    assert "glad bundle activate toy 2" in glad("publish", newer.path).output
    assert glad("activate", "toy", "2", "--by", "ann", "--note", "better").exit_code == 0
    assert "better" in glad("show", "toy").output
    assert "active version is 1" in glad("rollback", "toy", "--by", "bob").output
    assert Store(root).resolve("toy").version == "1"


def test_a_second_version_is_not_active_when_it_is_published(glad: Glad, sound_bundle: Path, tmp_path: Path) -> None:
    newer = new_version(sound_bundle, tmp_path / "toy" / "2", created_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert "active: 1" in glad("publish", sound_bundle).output
    published = glad("publish", newer.path).output
    assert "active: 1" in published
    assert "to use it: glad bundle activate toy 2" in published
    rows = json.loads(glad("list", "--json").stdout)["bundles"]
    assert [row["version"] for row in rows if row["product"] == "toy" and row["active"]] == ["1"]


def test_list_as_json_names_versions_and_problems(glad: Glad, root: Path, sound_bundle: Path) -> None:
    glad("publish", sound_bundle)
    (root / "broken" / "1").mkdir(parents=True)
    result = glad("list", "--json")
    listed = json.loads(result.stdout)
    assert [(row["product"], row["active"]) for row in listed["bundles"] if row["product"] == "toy"] == [("toy", True)]
    assert [problem["path"] for problem in listed["problems"]] == [str(root / "broken" / "1")]


def test_show_as_json_has_the_thresholds_in_force(glad: Glad, sound_bundle: Path) -> None:
    glad("publish", sound_bundle)
    shown = json.loads(glad("show", "toy", "--json").stdout)
    assert shown["thresholds"] == {"review": 0.5, "fail": 1.0, "pixel": 1.0}


def test_verify_takes_a_folder_or_a_product(glad: Glad, bundle_folder: Path) -> None:
    glad("publish", bundle_folder)
    assert "all as published" in glad("verify", bundle_folder).output
    assert "all as published" in glad("verify", "toy").output
    (bundle_folder / "unet/config.json").write_text("{}")
    refused = glad("verify", bundle_folder)
    assert refused.exit_code == 1
    assert "unet/config.json" in refused.output


@pytest.mark.parametrize(
    "arguments", [("show", "nope"), ("activate", "nope", "1"), ("rollback", "nope"), ("verify", "nope")]
)
def test_what_is_not_there_is_one_sentence_and_status_1(glad: Glad, arguments: tuple[str, ...]) -> None:
    result = glad(*arguments)
    assert result.exit_code == 1
    assert "no product 'nope'" in result.output or "'nope' is no bundle" in result.output
    assert "Traceback" not in result.output


def test_a_bundle_that_is_not_calibrated_is_published_but_not_activated(
    glad: Glad, root: Path, sound_bundle: Path, tmp_path: Path
) -> None:
    draft = new_version(sound_bundle, tmp_path / "toy" / "draft", calibration=None).path
    refused = glad("publish", draft, "--activate")
    assert refused.exit_code == 1
    assert "glad calibrate" in refused.output
    assert not (root / "toy").exists()

    published = glad("publish", draft)
    assert published.exit_code == 0, published.output
    assert "active: none" in published.output
    assert "no bundles" not in glad("list").output
    assert f"not calibrated: toy draft: glad calibrate {root / 'toy' / 'draft'} --data DIR" in glad("list").output
    assert "none: not calibrated" in glad("show", "toy", "draft").output
    assert json.loads(glad("show", "toy", "draft", "--json").stdout)["thresholds"] is None
    assert glad("activate", "toy", "draft").exit_code == 1
    assert glad("show", "toy").exit_code == 1


def test_the_gate_is_switched_for_the_product_and_shown(glad: Glad, root: Path) -> None:
    make_tiny_bundle(root, product="gated", gate=a_gate())
    make_tiny_bundle(root, product="plain")
    assert "on  (from 100 good images)" in glad("show", "gated").output
    off = glad("gate", "gated", "off", "--by", "ann", "--note", "new lamp")
    assert off.exit_code == 0, off.output
    store = Store(root)
    assert store.gate(store.resolve("gated")) is None
    shown = glad("show", "gated").output
    assert "off since" in shown
    assert "by ann new lamp" in shown
    assert json.loads(glad("show", "gated", "--json").output)["gate_on"] is False
    assert glad("gate", "gated", "on").exit_code == 0
    assert store.gate(store.resolve("gated")) is not None
    assert "has none yet: glad gate" in glad("gate", "plain", "on").output
    assert store.gate(store.resolve("plain")) is None
    assert glad("gate", "nothing", "off").exit_code == 1


def test_what_was_measured_of_a_bundle_hides_no_switch_and_is_told_in_sentences(glad: Glad, root: Path) -> None:
    calibration = {"promise": "20 parts: a promise.", "most_unusual": [{"image": "good/7.png", "score": 2.25}]}
    quality = {"calibration": calibration, "gate": {"good_images": 20, "good_parts_gated_at_most": 6 / 21}}
    make_tiny_bundle(root, product="measured", gate=a_gate(), quality=quality)
    assert glad("gate", "measured", "off", "--by", "ann").exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in glad("show", "measured").output.splitlines())
    assert lines["gate"].startswith("off since")
    assert lines["gate"].endswith("by ann  (from 100 good images; stops at most 28.6% of the good parts)")
    assert lines["promise"] == "20 parts: a promise."
    assert lines["unusual"] == "good images with the highest scores: good/7.png 2.25"


def test_when_pictures_are_drawn_is_chosen_for_the_product_and_shown(glad: Glad, root: Path) -> None:
    make_tiny_bundle(root, product="toy")
    assert "of parts that pass: when somebody asks for one" in glad("show", "toy").output
    chosen = glad("pictures", "toy", "always", "--by", "ann", "--note", "audit")
    assert (chosen.exit_code, chosen.output) == (0, "toy: pictures of parts that pass are drawn at once\n")
    assert Store(root).state("toy").pictures_when == "always"
    shown = glad("show", "toy").output
    assert "of parts that pass: at once, since" in shown
    assert "by ann audit" in shown
    assert glad("pictures", "toy", "on-demand").exit_code == 0
    assert Store(root).state("toy").pictures_when == "on_demand"
    assert glad("pictures", "nothing", "always").exit_code == 1


def test_a_bundle_is_shown_by_product_by_version_and_by_folder(glad: Glad, sound_bundle: Path) -> None:
    glad("publish", sound_bundle)
    shown = [glad("show", given) for given in ("toy", "toy/1", sound_bundle)]
    assert [one.exit_code for one in shown] == [0, 0, 0], shown[-1].output
    assert shown[0].output == shown[1].output
    assert f"folder       {sound_bundle}" in shown[2].output
    twice = glad("show", "toy/1", "1")
    assert twice.exit_code == 1
    assert "toy/1 names a version already" in twice.output


def test_a_version_is_activated_in_one_word_or_in_two(glad: Glad, sound_bundle: Path) -> None:
    glad("publish", sound_bundle)
    assert "toy: active version is 1" in glad("activate", "toy/1").output
    for words in (("toy",), ("toy/1", "2")):
        refused = glad("activate", *words)
        assert refused.exit_code == 2
        assert "name one version to activate" in refused.output
