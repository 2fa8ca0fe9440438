"""`glad bench hostile`: files that are nearly good, and what they cost a decoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.endurance.hostile_images import FORMAT_NAMES, good_files, hostile_files, measure_hostile_images
from glad.image_codec import decode_image, sniff_format
from service.host.decoder_pool import DecodeLimits


def test_a_seed_makes_the_same_files_of_all_formats_and_another_seed_others() -> None:
    files = dict(hostile_files(60, seed=3))
    assert files == dict(hostile_files(60, seed=3))
    assert set(files.values()).isdisjoint(dict(hostile_files(60, seed=4)).values())
    assert {sniff_format(data) for data in files.values()} == set(FORMAT_NAMES)
    assert all(decode_image(data).pixels.shape == (96, 128, 3) for data in good_files().values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads what Linux counts")
def test_no_file_costs_more_than_the_limits_and_some_of_them_decode() -> None:
    limits = DecodeLimits(seconds=20, memory_bytes=512 << 20)
    report = measure_hostile_images(140, 3, limits, lambda done, total: None)
    assert len(report.costs) == 140
    assert max(cost.seconds for cost in report.costs) < limits.seconds + 0.5
    assert max(cost.memory_bytes for cost in report.costs) < limits.memory_bytes
    outcomes = {cost.outcome for cost in report.costs}
    assert {"decoded", "ImageNotDecodable", "ImageTooLarge"} <= outcomes
    assert "DecoderUnavailable" not in outcomes
    assert sum(int(report.row(kind)[1]) for kind in FORMAT_NAMES) == 140
