"""The door, `glad inspect` and the service give one image one result; and the lines in README are true."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import glad_inspect as glad
from bench.support.servers import served
from glad.image_codec import decode_image, to_png

pytestmark = pytest.mark.timeout(400)  # a whole service

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = max((ROOT / "model_store" / "bundles" / "bracket").glob("[0-9]*"), key=lambda folder: int(folder.name))
EXAMPLE = ROOT / "model_store" / "bundles" / "bracket-example.jpg"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The example, which has a defect; a part of it that shows next to nothing; and one that is much too dark."""
    folder, part = tmp_path_factory.mktemp("images"), decode_image(EXAMPLE.read_bytes()).pixels
    marked = part.copy()
    marked[40:70, 60:200] = 20
    paths = []
    for number, pixels in enumerate((part, np.ascontiguousarray(part[::-1]), marked, part // 12)):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(to_png(pixels))
    return paths


@pytest.fixture(scope="module")
def by_rest(images: list[Path]) -> list[dict[str, Any]]:
    with served(BUNDLE, "torch", {"GLAD_TORCH_THREADS": "1"}) as service, httpx.Client(timeout=60) as client:
        url = f"{service.url}/v1/products/{service.product}/inspections"
        return [
            client.post(url, content=path.read_bytes(), headers={"Prefer": "wait=30"}).raise_for_status().json()
            for path in images
        ]


def test_the_door_and_the_service_judge_alike(images: list[Path], by_rest: list[dict[str, Any]]) -> None:
    inspector = glad.load(BUNDLE, device="cpu", engine="torch")
    verdicts = set()
    for path, expected in zip(images, by_rest, strict=True):
        told = inspector(path).to_dict()
        assert told["score"] == (None if expected["score"] is None else pytest.approx(expected["score"], abs=1e-5))
        assert told["verdict"] == expected["verdict"]
        assert told["quality"]["passed"] == expected["quality"]["passed"]
        assert [one["box"] for one in told["regions"]] == [one["box"] for one in expected["regions"]]
        for name in ("thresholds", "denoising_step", "unet_evaluations", "near_tie", "width", "height"):
            if expected["score"] is not None:
                assert told[name] == expected[name], name
        verdicts.add((told["verdict"], told["quality"]["passed"]))
    assert ("review", False) in verdicts  # one is unfit
    assert len(verdicts) >= 2


def test_the_command_and_the_service_judge_alike(
    images: list[Path], by_rest: list[dict[str, Any]], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "glad", "inspect", str(BUNDLE), str(images[0].parent), "--json", "-"]
    done = subprocess.run([*command, "--no-pictures"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["file"] for one in told] == [str(path) for path in images]
    assert [one["verdict"] for one in told] == [one["verdict"] for one in by_rest]
    scores = [one["score"] for one in by_rest]
    assert [one["score"] for one in told] == [None if one is None else pytest.approx(one, abs=1e-5) for one in scores]
    assert not (tmp_path / "inspected").exists()


def test_the_lines_in_readme_work(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    script = block.replace('"overlay.png"', repr(str(tmp_path / "overlay.png")))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in {"pass", "review", "fail"}
    assert (tmp_path / "overlay.png").is_file()
