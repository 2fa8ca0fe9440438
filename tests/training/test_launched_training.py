"""A training under `accelerate launch`: one batch for two processes, one set of files, one word for each thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_store.bundle import open_bundle
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE, draw_parts
from training.finetune.curves import read_curve
from training.package import Naming
from training.pipeline import train

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE
from training.package import Naming
from training.pipeline import train

train(
    TINY_FEATURE_RECIPE, Path("parts"), Path("run"), Path("bundle"), Naming("part", "1"),
    command="", say=print, workers=1,
)
"""
"""What `glad train` does, in one process of each rank: its own starts others for the calibration."""


def test_two_launched_processes_make_the_bundle_that_one_makes(tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "parts")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    run = tmp_path / "run"
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    made = subprocess.run(
        [sys.executable, *launch, *plain, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    lines = made.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("stage ")] == [
        f"stage {n} of 8" for n in range(1, 9)
    ]
    assert sum(line.startswith("unet: 4/4") for line in lines) == 1
    records = json.loads((run / "stages.json").read_text())
    assert [record["name"] for record in records] == [
        "pairs", "latents", "unet", "decoder", "evidence", "delta", "thresholds", "quality gate",
    ]  # fmt: skip
    alone = train(
        TINY_FEATURE_RECIPE, data, tmp_path / "alone", tmp_path / "bundle-alone", Naming("part", "1"),
        command="", say=lambda _: None, workers=1,
    )  # fmt: skip
    for stage in ("unet", "decoder"):
        two, one = ([row[1] for row in read_curve(at / f"curves/{stage}.csv")] for at in (run, tmp_path / "alone"))
        assert two == pytest.approx(one, rel=1e-5)
    launched = open_bundle(tmp_path / "bundle").manifest
    assert launched.thresholds.fail == pytest.approx(alone.manifest.thresholds.fail, rel=1e-3)
