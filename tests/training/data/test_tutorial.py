"""The script of docs/tutorial.md brings a public data set into a layout that training takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.dataset import open_dataset

ROOT = Path(__file__).parents[3]


def test_the_tutorials_script_keeps_the_photographs_of_a_tile_together(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    # Tile 1 has the numbers 1000 to 1040, tile 2 from 2000 on, and so on; the defect is a photograph of tile 3.
    for kind, numbers in {"Free": [1000, 1040, 2000, 3000, 4000, 5000], "Crack": [3020]}.items():
        folder = tmp_path / "public" / f"MT_{kind}" / "Imgs"
        folder.mkdir(parents=True)
        for number in numbers:
            Image.fromarray(np.full((20, 30), number % 256, np.uint8)).save(folder / f"exp1_num_{number}.jpg")
            Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).save(folder / f"exp1_num_{number}.png")
    (tmp_path / "sort_tiles.py").write_text(script)
    subprocess.run([sys.executable, "sort_tiles.py", "public", "tiles"], cwd=tmp_path, check=True, timeout=60)

    dataset = open_dataset(tmp_path / "tiles")

    # Each fourth tile is for the test: of five tiles the fourth.
    assert [path.name for path in dataset.train] == [f"exp1_num_{n}.jpg" for n in (1000, 1040, 2000, 3000, 5000)]
    assert [(sample.path.name, sample.mask is not None) for sample in dataset.test] == [
        ("exp1_num_3020.jpg", True),
        ("exp1_num_4000.jpg", False),
    ]
    groups = [dataset.groups[f"train/good/{path.name}"] for path in dataset.train]
    assert groups == ["tile-1", "tile-1", "tile-2", "tile-3", "tile-5"]
