"""Photographs of one part are noticed, parts that merely look alike are not, and a proposal is never used unseen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.photographed_parts import photograph_parts
from training.cli.data import app
from training.data.alike_images import find_twins, isolated_groups, pairwise_distances
from training.data.dataset import groups_of, read_groups
from training.data.image_survey import survey_images
from training.data.proposed_groups import GroupFinder, propose_groups, standardised

REAL = os.environ.get("GLAD_TEST_DATA", "")


def _part(path: Path) -> str:
    return path.stem.partition("-")[2]


def test_several_photographs_of_each_part_are_found_with_their_parts(tmp_path: Path) -> None:
    photograph_parts(tmp_path / "train/good", parts=8, times=3)
    found = propose_groups(tmp_path, workers=1)
    assert found.suspicious
    assert {frozenset(map(_part, group)) for group in found.groups} == {frozenset({f"part{n:02}"}) for n in range(8)}
    assert found.grouped == 24


def test_one_photograph_of_each_part_is_no_group(tmp_path: Path) -> None:
    photograph_parts(tmp_path / "train/good", parts=24, times=1)
    found = propose_groups(tmp_path, workers=1)
    assert not found.suspicious
    assert found.grouped <= 2  # two of two dozen may be alike by chance


def test_a_series_in_time_is_no_group_though_each_image_is_like_the_one_before() -> None:
    steps = np.random.Generator(np.random.Philox(1)).normal(0, 1, (60, 40)).astype(np.float32)
    assert isolated_groups(pairwise_distances(np.cumsum(steps, axis=0))) == []


def test_a_lot_of_many_images_is_no_part() -> None:
    draw = np.random.Generator(np.random.Philox(2))
    lots = np.concatenate([draw.normal(0, 1, (30, 50)), draw.normal(4, 1, (90, 50))]).astype(np.float32)
    distances = pairwise_distances(lots)
    assert isolated_groups(distances) == []  # 30 images: more than a part is photographed
    assert isolated_groups(distances, most=40) == [tuple(range(30))]


def test_a_channel_counts_by_its_own_deviation() -> None:
    draw = np.random.Generator(np.random.Philox(4))
    described = draw.normal(0, 1, (50, 2, 2, 2)).astype(np.float16)
    described[:, 1] *= np.float16(100)
    rows = standardised(described).reshape(50, 2, 4)
    assert rows.std(axis=(0, 2)) == pytest.approx([1, 1], abs=1e-3)


def test_the_proposal_is_a_groups_file_with_a_picture_and_is_not_read_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "parts"
    photograph_parts(data / "train/good", parts=6, times=3)
    done = CliRunner().invoke(app, ["groups", "parts", "--out", "look/proposed.csv"])
    assert done.exit_code == 0, done.output
    assert "18 of 18 images stand in 6 groups" in done.output
    assert "look at the picture" in done.output
    with Image.open("look/proposed.png") as sheet:
        assert sheet.width > 500
    assert read_groups(data) == {}  # nothing has changed for a training
    (data / "groups.csv").write_bytes(Path("look/proposed.csv").read_bytes())
    assert len(set(read_groups(data).values())) == 6
    again = CliRunner().invoke(app, ["groups", "parts"])
    assert again.exit_code == 1
    assert "has a groups file" in again.output
    (data / "groups.csv").unlink()
    again = CliRunner().invoke(app, ["groups", "parts", "--out", "look/proposed.csv"])
    assert again.exit_code == 1  # a file that people may have mended is never overwritten
    assert "look/proposed.csv" in again.output
    assert Path("look/proposed.csv").read_bytes().startswith(b"file,proposed_group\r\n")


def test_a_copy_is_a_twin_and_a_second_photograph_is_none() -> None:
    draw = np.random.Generator(np.random.Philox(6))
    parts = draw.normal(0, 1, (20, 64)).astype(np.float32)
    second = parts[0] + draw.normal(0, 0.5, 64).astype(np.float32)
    copy = parts[1] + draw.normal(0, 0.02, 64).astype(np.float32)
    # Others lie about sqrt(2 * 64) = 11 away; the copy 0.02 * 8 = 0.16, the second photograph 0.5 * 8 = 4.
    assert find_twins(np.stack([*parts, second, copy])) == [(1, 21)]


@pytest.mark.skipif(not REAL, reason="GLAD_TEST_DATA names no folder of real images")
def test_six_exposures_of_each_magnetic_tile_are_noticed_without_their_groups_file() -> None:
    root = Path(REAL) / "magnetic_tile" / "tile"
    groups = read_groups(root)
    tiles = sorted(set(groups.values()))[20:60]
    shown = [name for name, tile in groups.items() if tile in tiles and name.startswith("train/good")][:90]
    finder = GroupFinder()
    for image in survey_images([root / name for name in shown], squares=256, workers=1):
        finder.add(image)
    found = finder.find()
    assert found.suspicious
    mixed = [group for group in found.groups if len(set(groups_of(root, group, groups))) > 1]
    assert len(mixed) <= len(found.groups) // 5
