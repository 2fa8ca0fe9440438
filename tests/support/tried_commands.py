"""A call of every command, on tiny data, and how they are all called in another environment.

calls = every_call(make_inputs(tmp_path))
outcomes = try_commands(environment, calls, tmp_path / "work", {"GLAD_DATA_DIR": ...})
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_store.bundle_signer import make_key
from tests.support.environments import Environment
from tests.support.feature_bundle import train_tiny_feature_bundle
from tests.support.tiny_base import write_base, write_dino
from tests.support.tiny_bundle import TINY_SETTINGS, make_tiny_bundle
from tests.support.tiny_recipe import TINY_FEATURE_TOML, TINY_PRETRAINED_TOML, TUNING_TABLES, draw_parts
from training.export.make import BundleExportPlan, make_export
from training.progress import silent

NEEDS = re.compile(r"pip install 'glad-inspect\[([\w,]+)\]'")
RUNNER = """
import contextlib, io, json, sys, traceback
from glad.__main__ import main

if __name__ == "__main__":  # processes of a pool read this file as well
    outcomes = []
    for words in json.load(sys.stdin):
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            try:
                status = main(words)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
                status = None
        outcomes.append([status, told.getvalue()])
    with open(sys.argv[1], "w") as file:
        json.dump(outcomes, file)
"""
"""One process for all commands: torch takes seconds to import, and is not to be imported sixty times."""


@dataclass(frozen=True)
class Call:
    """A command with arguments."""

    words: tuple[str, ...]
    status: int = 0
    told: str = ""
    """What it prints, where it is to end with another status than 0."""

    @property
    def command(self) -> str:
        """The command's own words, without arguments."""
        return " ".join(self.words[: 2 if self.words[0] in GROUPS else 1])


@dataclass(frozen=True)
class Outcome:
    """What came of a call."""

    call: Call
    status: int | None
    """None: it ended with a traceback."""
    output: str

    @property
    def needs(self) -> str | None:
        """The extras that it names, with the command that installs them; they are separated by commas."""
        found = NEEDS.search(self.output)
        return found[1] if found and self.status == 1 else None

    @property
    def worked(self) -> bool:
        """It did what it is for."""
        return self.status == self.call.status and self.call.told in self.output


GROUPS = {"bench", "bundle", "data", "key", "outbox", "queue", "reviews", "station", "thresholds"}
"""Commands that have commands of their own."""
SERVERS = {"serve", "worker"}
"""Commands that go on until they are stopped: tried by tests of their own."""


@dataclass(frozen=True)
class CommandInputs:
    """Files to call commands with; nothing writes into them."""

    parts: Path
    """Labelled images."""
    image: Path
    """One of them."""
    recipe: Path
    pixel: Path
    """A tiny bundle of the pixel form ..."""
    features: Path
    """... and of the feature form, with an export for ONNX Runtime."""
    base: Path
    dino: Path
    settings: Path
    coco: Path
    """Annotations of the defective images."""
    key: Path
    """A secret key."""
    steps: Path
    """Step times, as `glad bench steps` writes them."""
    published: Path
    """A recipe of published models, in the folders `base` and `dino` where it is used."""


def make_inputs(folder: Path, steps: Path) -> CommandInputs:
    """Makes them in a new folder."""
    parts = draw_parts(folder / "parts")
    recipe, settings, coco = folder / "tiny.toml", folder / "settings.json", folder / "coco.json"
    recipe.write_text(TINY_FEATURE_TOML)
    tuning = folder / "published.toml"
    tuning.write_text(TINY_PRETRAINED_TOML + TUNING_TABLES)
    settings.write_text(json.dumps({**TINY_SETTINGS, "resolution": 64}))
    image = {"id": 1, "file_name": "000.png", "width": 32, "height": 24}
    outline = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[8, 6, 20, 6, 20, 14, 8, 14]]}
    category = {"id": 1, "name": "hole"}
    coco.write_text(json.dumps({"images": [image], "annotations": [outline], "categories": [category]}))
    features = train_tiny_feature_bundle(folder / "features", parts).path
    plan, report = BundleExportPlan(("float32",), images=2), folder / "report"
    make_export(features, parts, report, plan, command="glad export", progress=silent, say=lambda _: None)
    pixel = make_tiny_bundle(folder / "pixel", resolution=32, steps=2, t_min=100, trigger={"delta": 0.05})
    base, dino = write_base(folder / "base"), write_dino(folder / "dino")
    key = folder / "line.key"
    make_key(key, "")
    shown = sorted((parts / "test" / "good").glob("*.png"))[0]
    return CommandInputs(parts, shown, recipe, pixel, features, base, dino, settings, coco, key, steps, tuning)


def every_call(given: CommandInputs) -> tuple[Call, ...]:
    """A call of every command but those that serve, in an order in which they can follow one another."""
    data = ("--data", given.parts)
    store = ("bundle", "publish", given.pixel, "--activate")
    nobody = ("--url", "http://127.0.0.1:9")  # no service answers there
    bench = ("--device", "cpu", "--rounds", "1")
    published = ("--base", given.base, "--dino", given.dino, "--licence", "Apache-2.0")
    unknown = "01a21d87-a12c-7d53-9e2f-7d5409852d32"
    return (
        _call("inspect", given.pixel, given.image),
        _call("bundle", "list"),
        _call(*store),
        _call("bundle", "show", "toy"),
        _call("bundle", "evaluations", "bracket"),
        _call("bundle", "schema"),
        _call("bundle", "verify", given.pixel),
        _call("bundle", "activate", "bracket", "7"),
        _call("bundle", "rollback", "toy", status=1, told="no version was active before"),
        _call("bundle", "gate", "bracket", "off"),
        _call("bundle", "pictures", "bracket", "on-demand"),
        _call("bundle", "remove", "toy", status=1, told="Add --yes"),
        _call("bundle", "key", "secret.key", "--no-password"),
        _call("bundle", "sign", "SIGNED", "--key", given.key),
        _call("bundle", "import", *published, "--product", "x", "--settings", given.settings),
        _call("key", "create", "line-3", "--scope", "read"),
        _call("key", "list"),
        _call("key", "revoke", "line-3"),
        _call("queue", "dead"),
        _call("queue", "replay", unknown, status=1, told=unknown),
        _call("queue", "discard", unknown, status=1, told=unknown),
        _call("outbox", "sinks"),
        _call("outbox", "forget", "mqtt", status=1, told="mqtt"),
        _call("outbox", "dead"),
        _call("outbox", "replay", "--all"),
        _call("outbox", "discard", "0-1", status=1, told="0-1"),
        _call("camera", given.parts / "test", "--product", "toy", *nobody, status=1, told=":9"),
        _call("reviews", "export", "labelled", *nobody, status=1, told=":9"),
        _call("reviews", "summary", *nobody, status=1, told=":9"),
        _call("station", "list", *nobody, status=1, told=":9"),
        _call("station", "show", "line-3", *nobody, status=1, told=":9"),
        _call("station", "set", "line-3", "--product", "toy", "--yes", *nobody, status=1, told=":9"),
        _call("station", "hold", "line-3", "--reason", "blurred", *nobody, status=1, told=":9"),
        _call("station", "release", "line-3", "--yes", *nobody, status=1, told=":9"),
        _call("station", "takt", "line-3", "--ms", "800", "--yes", *nobody, status=1, told=":9"),
        _call("station", "limit-samples", "show", "line-3", *nobody, status=1, told=":9"),
        _call("station", "limit-samples", "set", "line-3", "--bad", "B-1", "--yes", *nobody, status=1, told=":9"),
        _call("station", "limit-samples", "check", "line-3", *nobody, status=1, told=":9"),
        _call("station", "limit-samples", "cancel", "line-3", *nobody, status=1, told=":9"),
        _call("station", "remove", "line-3", "--yes", *nobody, status=1, told=":9"),
        _call("reviews", "export", "LABELLED", *nobody, status=1, told=":9"),
        _call("reviews", "summary", *nobody, status=1, told=":9"),
        _call("thresholds", "show", "toy", *nobody, status=1, told=":9"),
        _call("thresholds", "set", "toy", "--fail", "2", "--yes", *nobody, status=1, told=":9"),
        _call("thresholds", "reset", "toy", "--yes", *nobody, status=1, told=":9"),
        _call("thresholds", "gate", "toy", "--darkest", "60", "--yes", *nobody, status=1, told=":9"),
        _call("thresholds", "changes", "toy", *nobody, status=1, told=":9"),
        _call("backup", "backups"),
        _call("restore", "backups/none", "--data-dir", "restored", status=2, told="backups/none"),
        _call("sample", "drawn", "--good", "1"),
        _call("data", "import", "coco", given.coco, "--images", given.parts / "test" / "hole", "--out", "imported"),
        _call("data", "groups", given.parts),
        _call("train", given.recipe, *data, "--dry-run"),
        _call("preview", given.recipe, *data, "--columns", "1"),
        _call("train", given.recipe, *data, "--version", "1"),
        _call("finetune", "vae", given.published, *data, "--set", f"base={given.base}", "--set", f"dino={given.dino}",
              "--out", "tuned"),
        _call("finetune", "decoder", given.recipe, *data, "--out", "pictures", told="next: glad train"),
        _call("report", given.features),
        _call("calibrate", given.features, *data, "--keep-settings", "--version", "2"),
        _call("calibrate", given.features, "--from-reviews", given.parts, status=1, told="glad reviews export"),
        _call("gate", given.features, *data, "--version", "3"),
        _call("evaluate", "bundles/part/2", *data, "--record"),
        _call("sensitivity", given.features, *data, "--per-cell", "1", "--kinds", "spot"),
        _call("ablate", given.pixel, *data, "--no-plain"),
        _call("export", "bundles/part/2", "--to", "onnx", *data, "--images", "2"),
        _call("reproduce", "mvtec-ad", *data, *published, "--classes", "tile", status=1, told="tile is missing"),
        _call("bench", "engines", given.features, *data, "--images", "1", *bench),
        _call("bench", "serving", given.features, *data, "--images", "1", "--engines", "torch"),
        _call("bench", "export", "--precision", "int8", status=1, told="choose of float32, float16"),
        _call("bench", "stages", given.pixel, *data, "--images", "1", *bench, "--plot", "stages.png"),
        _call("bench", "speed", *data, "--bundle", given.features, "--plot", "speed.png"),
        _call("bench", "arrivals", given.pixel, *data, "--loads", "0.3", "--lanes", "1", "--seconds", "1"),
        _call("bench", "batching", given.pixel, *data, "--device", "cpu", "--images", "1", "--arrivals", "2",
              "--lanes", "1", "--loads", "0.5", "--engine", "torch", "--plot", "batching.png"),
        _call("bench", "products", given.features, *data, "--counts", "1", "--images", "1", "--device", "cpu"),
        _call("bench", "steps", given.pixel, *data, "--lanes", "1", *bench),
        _call("bench", "queue", given.steps, "--cameras", "5", "--workers", "2", "--seconds", "20", "--warm-up", "0",
              "--runs", "1", "--picture", "queue.png"),
        _call("bench", "fullsize", "--narrow", "--side", "64", "--batch", "1", *bench),
        _call("bench", "pairs", given.recipe, *data, "--images", "1", "--count", "1", "--steps", "1"),
        _call("bench", "finetune", "--narrow", "--parts", "lora", "--side", "64"),
        _call("bench", "startup", "--rounds", "1"),
        _call("bench", "page", given.features, *data, "--images", "1", "--openings", "1", status=1,
              told="pip install playwright"),
    )  # fmt: skip


def listed_commands(environment: Environment, folder: Path) -> list[str]:
    """What `glad --help` lists, and in place of a group of commands what the group's help lists."""
    found: list[str] = []
    for name in re.findall(r"^  ([a-z]+)  +\w", environment.glad("--help", cwd=folder).stdout, re.MULTILINE):
        _, _, below = environment.glad(name, "--help", cwd=folder).stdout.partition(" Commands ")
        found += [f"{name} {word}" for word in re.findall(r"^│ ([a-z]+)  +\w", below, re.MULTILINE)] or [name]
    return found


def _call(*words: str | Path, status: int = 0, told: str = "") -> Call:
    return Call(tuple(map(str, words)), status, told)


def try_commands(
    environment: Environment, calls: Sequence[Call], folder: Path, variables: Mapping[str, str]
) -> list[Outcome]:
    """Makes all calls, one after the other, in one process of the environment, in this folder."""
    script, outcomes = folder / "try_commands.py", folder / "outcomes.json"
    script.write_text(RUNNER)
    done = subprocess.run(
        [environment.python, script, outcomes],
        input=json.dumps([call.words for call in calls]),
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        env=environment.variables(**variables),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(outcomes.read_text())
    return [Outcome(call, status, output) for call, (status, output) in zip(calls, found, strict=True)]
